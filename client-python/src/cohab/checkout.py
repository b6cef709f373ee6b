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
from time import monotonic_ns
from typing import Callable, Generic, Protocol, TypeVar


class Closeable(Protocol):
    def close(self) -> None: ...


Item = TypeVar("Item", bound=Closeable)


class CheckoutClosed(Exception):
    """Raised by `take` after `close`."""


class _Waiter(Generic[Item]):
    __slots__ = ("item", "ready")

    def __init__(self) -> None:
        self.item: Item | None = None
        self.ready = threading.Event()


class Checkout(Generic[Item]):
    """Hands out at most `limit` items that `make` creates. Safe for use by many threads."""

    def __init__(self, make: Callable[[], Item], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._idle: deque[Item] = deque()
        self._waiters: deque[_Waiter[Item]] = deque()
        # Weak, so that an item lost to an exception between two instructions does not count for ever.
        self._items: weakref.WeakSet[Item] = weakref.WeakSet()
        self._lock = threading.Lock()
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
        waiter: _Waiter[Item] = _Waiter()
        try:
            with self._lock:
                self._waiters.append(waiter)
            self._serve_waiters()
            waiter.ready.wait(max(0.0, (deadline_ns - monotonic_ns()) / 1e9))
        except BaseException:
            item = self._leave(waiter)
            if item is not None:
                self.put(item)
            raise
        item = self._leave(waiter)
        if item is None and self._closed:
            raise CheckoutClosed
        return item

    def _leave(self, waiter: _Waiter[Item]) -> Item | None:
        """Take the waiter out of the queue and return what it was given."""
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            return waiter.item

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
        with self._lock:
            self._closed = True
            waiters = list(self._waiters)
            self._waiters.clear()
        for waiter in waiters:
            waiter.ready.set()
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
        """Hand what can be had to those who have waited longest."""
        with self._lock:
            while self._waiters and not self._closed:
                item = self._idle_or_new()
                if item is None:
                    return
                waiter = self._waiters.popleft()
                waiter.item = item
                waiter.ready.set()
            if self._closed:
                for waiter in self._waiters:
                    waiter.ready.set()

    def _idle_or_new(self) -> Item | None:
        item = self.take_idle()
        if item is None and len(self._items) < self._limit:
            item = self._make()
            self._items.add(item)
        return item
