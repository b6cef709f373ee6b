"""What gunicorn's dirty workers run, and the web application that gunicorn wants to have besides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gunicorn.dirty.app import DirtyApp

from .. import work


class Work(DirtyApp):
    def echo(self, payload: bytes) -> bytes:
        return payload

    def sleep(self, seconds: float) -> None:
        work.sleep(seconds)

    def spin(self, seconds: float) -> None:
        work.spin(seconds)

    def crash(self, number: int) -> None:
        work.crash(number)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("204 No Content", [])
    return []
