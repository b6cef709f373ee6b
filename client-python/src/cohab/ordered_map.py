"""map() over threads that is lazy, bounded and ordered."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()


def ordered_map(
    function: Callable[[Item], Result], iterable: Iterable[Item], threads: int
) -> Generator[Result, None, None]:
    """Yield `function(item)` for each item in order, computed by at most `threads` threads.

    The threads are started at the first `next()` and leave when the generator ends, is closed or is
    collected, each after the call that it is in. `iterable` is read in the consumer's thread; if it raises,
    the results of what it has given come first.
    """
    # Twice as many: a slow item at the head must not leave the other threads idle.
    window = 2 * threads
    owner = os.getpid()
    pending: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="cohab-map")
    try:
        items = iter(iterable)
        while True:
            try:
                item = next(items, _END)
            except Exception:
                yield from _results(pending, owner)
                raise
            if item is _END:
                break
            _refuse_in_child(owner)
            pending.append(executor.submit(function, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        yield from _results(pending, owner)
    finally:
        if os.getpid() == owner:
            executor.shutdown(wait=False, cancel_futures=True)


def _results(pending: deque[Future[Result]], owner: int) -> Generator[Result, None, None]:
    while pending:
        _refuse_in_child(owner)
        yield pending.popleft().result()


def _refuse_in_child(owner: int) -> None:
    # No thread is left to compute what is pending, so waiting for it would never end.
    if os.getpid() != owner:
        raise RuntimeError("a map() that was begun before fork() cannot be continued in the child")
