"""The work, as Python functions that call bench/work_functions.c."""

from __future__ import annotations

import ctypes
import faulthandler
from collections.abc import Callable
from functools import cache
from typing import Any

from .processes import PROGRAMS

LIBRARY = PROGRAMS / "libwork_functions.so"


@cache
def library() -> ctypes.CDLL:
    """Loaded once in each process. Its functions run without the GIL, as ctypes has it."""
    return declare(ctypes.CDLL(str(LIBRARY)))


def declare(functions: ctypes.CDLL) -> ctypes.CDLL:
    functions.spin.argtypes = functions.sleep_for.argtypes = [ctypes.c_double]
    functions.echo.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p]
    for name in ("spin", "sleep_for", "echo", "crash"):
        getattr(functions, name).restype = None
    return functions


def echo(payload: bytes) -> bytes:
    return payload


def sleep(seconds: float) -> None:
    library().sleep_for(seconds)


def spin(seconds: float) -> None:
    library().spin(seconds)


def crash(number: int) -> None:
    faulthandler.disable()  # loky's workers would write a traceback each time
    library().crash()


FUNCTIONS: dict[str, Callable[[Any], Any]] = {"echo": echo, "sleep": sleep, "spin": spin, "crash": crash}
