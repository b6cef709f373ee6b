"""map() over threads that is lazy, bounded and ordered."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Callable, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], iterable: Iterable[Item], threads: int
) -> Iterator[Result]:
    """Yield `function(item)` for each item in order, computed by at most `threads` threads.

    The threads are started at the first `next()` and leave when the generator ends, is closed or is
    collected, each after the call that it is in. `iterable` is read in the consumer's thread.
    """
    # Twice as many: a slow item at the head must not leave the other threads idle.
    window = 2 * threads
    owner = os.getpid()
    pending: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(threads, thread_name_prefix="cohab-map")
    try:
        for item in iterable:
            pending.append(executor.submit(function, item))
            if len(pending) >= window:
                yield _next_result(pending, owner)
        while pending:
            yield _next_result(pending, owner)
    finally:
        if os.getpid() == owner:
            executor.shutdown(wait=False, cancel_futures=True)


def _next_result(pending: deque[Future[Result]], owner: int) -> Result:
    if os.getpid() != owner:
        raise RuntimeError("a map() that was begun before fork() cannot be continued in the child")
    return pending.popleft().result()
