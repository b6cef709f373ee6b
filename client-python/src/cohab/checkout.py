"""Which caller gets which connection: most recently used first, never more than a limit, first come
first served where callers must wait. Knows nothing of sockets.

The way without waiting takes no lock: `append` and `pop` of a deque are atomic. What makes that safe is
an order: a caller that must wait first joins the queue and then looks at the idle ones again, and one that
gives back first appends and then looks at the queue. So one of the two always sees the other.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic_ns
from typing import Callable, Generic, Protocol, TypeVar

# What an exception in a signal handler (Ctrl-C) can keep from a waiter, it finds itself after this time.
LOOK_AGAIN_S = 0.5


class Closeable(Protocol):
    def close(self) -> None: ...


Item = TypeVar("Item", bound=Closeable)


class CheckoutClosed(Exception):
    """Raised by `take` after `close`."""


class Checkout(Generic[Item]):
    """Hands out at most `limit` items that `make` creates. For many threads, and signal handlers too."""

    def __init__(self, make: Callable[[], Item], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._idle: deque[Item] = deque()
        # To each is given an item, or None when there will be none any more.
        self._waiters: deque[SimpleQueue[Item | None]] = deque()
        # Weak, so that an item lost to an exception between two instructions does not count for ever.
        self._items: weakref.WeakSet[Item] = weakref.WeakSet()
        self._lock = threading.RLock()
        self._closed = False

    def take_idle(self) -> Item | None:
        """Return the item that was given back last, or None if `take` must be asked."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def take(self, deadline_ns: int) -> Item | None:
        """Return an idle item or a new one, waiting until `deadline_ns` of the monotonic clock.

        Returns None when the time is over. Raises CheckoutClosed.
        """
        waiter: SimpleQueue[Item | None] = SimpleQueue()
        try:
            with self._lock:
                self._waiters.append(waiter)
            item = self._wait(waiter, deadline_ns)
        finally:
            self._leave(waiter)
        if item is None and self._closed:
            raise CheckoutClosed
        return item

    def _wait(self, waiter: SimpleQueue[Item | None], deadline_ns: int) -> Item | None:
        while True:
            self._serve_waiters()
            left_s = max(0.0, (deadline_ns - monotonic_ns()) / 1e9)
            try:
                return waiter.get(timeout=min(left_s, LOOK_AGAIN_S))
            except Empty:
                if left_s <= LOOK_AGAIN_S:
                    return None

    def _leave(self, waiter: SimpleQueue[Item | None]) -> None:
        """Take the waiter out of the queue and close what it was given too late or twice."""
        with self._lock, suppress(ValueError):
            self._waiters.remove(waiter)
        with suppress(Empty):
            while True:
                item = waiter.get_nowait()
                if item is not None:
                    self.discard(item)

    def put(self, item: Item) -> None:
        """Give back an item that another caller can use."""
        self._idle.append(item)
        if self._waiters:
            self._serve_waiters()
        if self._closed:
            self.drop_idle()

    def discard(self, item: Item) -> None:
        """Close an item that must not be used again; it makes room for a new one."""
        item.close()
        with self._lock:
            self._items.discard(item)
        if self._waiters:
            self._serve_waiters()

    def drop_idle(self) -> None:
        """Close everything that is idle."""
        while True:
            item = self.take_idle()
            if item is None:
                return
            self.discard(item)

    def close(self) -> None:
        """Close what is idle now and the rest as it is given back; callers that wait fail."""
        self._closed = True
        self._serve_waiters()
        self.drop_idle()

    def abandon(self) -> None:
        """Close every item, handed out or not. For a forked child, whose locks nobody may ever release."""
        for item in list(self._items):
            item.close()

    def counts(self) -> tuple[int, int]:
        """Return (idle, in use), for people to look at."""
        idle = len(self._idle)
        return idle, max(0, len(self._items) - idle)

    def _serve_waiters(self) -> None:
        """Hand what can be had to those who have waited longest; once closed, tell all that it is over.

        Between any two instructions a signal handler may do all of this itself, or raise. So a waiter leaves
        the queue only when it has been given something; what it is given twice it gives back.
        """
        with self._lock:
            while (waiter := self._first_waiter()) is not None:
                item = None if self._closed else self._idle_or_new()
                if item is None and not self._closed:
                    return
                waiter.put(item)
                with suppress(ValueError):
                    self._waiters.remove(waiter)

    def _first_waiter(self) -> SimpleQueue[Item | None] | None:
        try:
            return self._waiters[0]
        except IndexError:
            return None

    def _idle_or_new(self) -> Item | None:
        item = self.take_idle()
        if item is None and len(self._items) < self._limit:
            item = self._make()
            self._items.add(item)
        return item
