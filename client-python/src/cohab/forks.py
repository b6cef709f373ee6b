"""Tells live objects that they are in a forked child now, where no thread but one is left."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class ForkAware(Protocol):
    def after_fork_in_child(self) -> None: ...


_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()


def tell_after_fork(obj: ForkAware) -> None:
    """Call `obj.after_fork_in_child()` in every child forked from now on, for as long as `obj` lives."""
    _aware.add(obj)


def _tell_all() -> None:
    for obj in list(_aware):
        obj.after_fork_in_child()


os.register_at_fork(after_in_child=_tell_all)
