"""The client: a pool of connections to one server, safe for use by many threads and across fork."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterable
from os import getpid
from time import monotonic_ns
from types import TracebackType
from typing import Any, NoReturn, Union

from .checkout import Checkout, CheckoutClosed
from .connection import Connection, StaleConnection, first_wait_us
from .errors import (
    DeadlineExceeded,
    Error,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from .forks import tell_after_fork
from .ordered_map import ordered_map
from .protocol import DEFAULT_MAX_FRAME, error_from_map, is_worth_a_retry

StrPath = Union[str, "os.PathLike[str]"]

DEFAULT_TIMEOUT = 30.0
DEFAULT_CONNECT_TIMEOUT = 5.0
DEFAULT_MAX_CONNECTIONS = 64
DEFAULT_CONCURRENCY = 8
DEFAULT_RETRIES = 1
# What says, with `executed` false, that there was no server, no room or no time.
_NO_TRY = (DeadlineExceeded, PermissionDenied, ResourceExhausted, Unavailable)

# The server ends a call by two kill-graces (0.1 s each, by default) and a timer tick after its deadline at
# the latest, and its own answer says more than ours could.
DEFAULT_REPLY_MARGIN = 1.0

LONGEST_SOCKET_PATH = 107
_LONGEST_TIMEOUT = 1e9


class Client:
    """Calls methods of the engine behind one Unix socket.

    Connects at the first call. One client serves all threads of a process, and a forked child can go on
    using the client of its parent: it makes connections of its own. Create one with `cohab.connect`.
    """

    def __init__(
        self,
        path: StrPath | None = None,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        max_frame: int = DEFAULT_MAX_FRAME,
        reply_margin: float = DEFAULT_REPLY_MARGIN,
        retries: int = DEFAULT_RETRIES,
    ) -> None:
        """See `cohab.connect`."""
        self.path = _socket_path(path)
        self._timeout_ns = positive_ns("timeout", timeout)
        self._wait_us = first_wait_us(self._timeout_ns)
        self._connect_timeout_ns = positive_ns("connect_timeout", connect_timeout)
        self._margin_ns = positive_ns("reply_margin", reply_margin)
        self._max_connections = _positive_int("max_connections", max_connections)
        self._max_frame = _positive_int("max_frame", max_frame)
        self._retries = _retries(retries)
        self._closed = False
        self._pid = getpid()
        self._connections = self._new_checkout()
        tell_after_fork(self)

    # ---- calls

    def call(
        self, method: str, /, *params: Any, timeout: float | None = None, retries: int | None = None
    ) -> Any:
        """Call a method of the engine and return its result.

        `timeout`, in seconds, covers waiting for a connection, waiting in the server's queue and running, and
        that again with each retry; None means the client's own. `retries` is how often the request is sent
        again if its worker dies and the server says that this is safe: never unless the engine calls the
        method idempotent, or had not begun with it. None means the client's own.

        Raises a subclass of `cohab.Error`. After a retry that is the second try's, with the first as its
        `__cause__`; but the first if there was no second try in the end, for lack of time or of a server.
        """
        retries_left = self._retries if retries is None else _retries(retries)
        timeout_ns = self._timeout_ns if timeout is None else _call_timeout_ns(method, timeout)
        wait_us = self._wait_us if timeout is None else first_wait_us(timeout_ns)
        deadline_ns = monotonic_ns() + timeout_ns
        if getpid() != self._pid:
            self.after_fork_in_child()
        connections = self._connections
        before: Error | None = None
        try:
            while True:
                connection = connections.take_idle()
                if connection is None:
                    connection = self._obtain(connections, deadline_ns)
                    wait_us = first_wait_us(deadline_ns - monotonic_ns())
                try:
                    error, result = connection.request(method, params, deadline_ns, wait_us)
                except StaleConnection:
                    # The server was restarted, so the other idle connections lead nowhere as well.
                    connections.drop_idle()
                    continue
                finally:
                    if connection.usable:
                        connections.put(connection)
                    else:
                        connections.discard(connection)
                if error is None:
                    return result
                if not retries_left or not is_worth_a_retry(error) or monotonic_ns() >= deadline_ns:
                    raise error_from_map(error, method)
                before = _add(before, error_from_map(error, method))
                retries_left -= 1
                wait_us = first_wait_us(deadline_ns - monotonic_ns())
        except Error as exc:
            exc.method = method
            if before is None:
                raise
            try:
                raise _add(before, exc)
            finally:
                before = None  # it may refer to this frame by now

    def map(
        self,
        method: str,
        iterable: Iterable[Any],
        /,
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        timeout: float | None = None,
        retries: int | None = None,
    ) -> Generator[Any, None, None]:
        """Call `method(item)` for each item, several at once, and yield the results in order.

        Lazy: at most twice `concurrency` items are taken from `iterable` ahead of the results, in the thread
        that consumes them. `timeout` and `retries` are those of each single call. The first call that fails
        raises its error here and ends the iteration; if `iterable` fails, the results of what it has given
        come first; leaving the iteration early cancels what has not begun.
        """
        threads = min(_positive_int("concurrency", concurrency), self._max_connections)

        def call_one(item: Any) -> Any:
            return self.call(method, item, timeout=timeout, retries=retries)

        return ordered_map(call_one, iterable, threads)

    def ping(self, *params: Any, timeout: float | None = None) -> Any:
        """Let a worker of the server echo the parameters; returns them as a list."""
        return self.call("cohab.ping", *params, timeout=timeout)

    def methods(self, *, timeout: float | None = None) -> Any:
        """Return the engine's methods: for each its name, signature, doc and flags."""
        return self.call("cohab.methods", timeout=timeout)

    # ---- life

    def close(self) -> None:
        """Close all connections; one that is in use is closed when its call has ended. Can be repeated."""
        self._closed = True
        self._connections.close()

    def __enter__(self) -> Client:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a client is a set of connections and cannot be pickled: pass its path, and connect anew"
        )

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<cohab.{type(self).__name__} {self.path}: {self._state()}>"

    def _state(self) -> str:
        if self._closed:
            return "closed"
        idle, busy = self._connections.counts()
        return f"connections: {busy} in use, {idle} idle, at most {self._max_connections}"

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone and begin anew. Called by the machinery, not by users."""
        inherited = self._connections
        self._connections = self._new_checkout()
        self._pid = getpid()
        inherited.abandon()

    # ---- connections

    def _new_checkout(self) -> Checkout[Connection]:
        path, max_frame, margin_ns = self.path, self._max_frame, self._margin_ns

        def make() -> Connection:
            return Connection(path, max_frame=max_frame, margin_ns=margin_ns)

        checkout = Checkout(make, self._max_connections)
        if self._closed:
            checkout.close()
        return checkout

    def _obtain(self, connections: Checkout[Connection], deadline_ns: int) -> Connection:
        """Return a connection that is connected, waiting for one if the limit is reached."""
        try:
            connection = connections.take(deadline_ns)
        except CheckoutClosed:
            raise Unavailable(f"this client of {self.path} is closed", reason="CLIENT_CLOSED") from None
        if connection is None:
            raise DeadlineExceeded(
                f"no connection became free before the deadline: all {self._max_connections} are in use "
                "(max_connections)",
                reason="QUEUE_TIMEOUT",
                retry=True,
            )
        if connection.usable:
            return connection
        try:
            connection.connect(deadline_ns, self._connect_timeout_ns)
        except BaseException:
            connections.discard(connection)
            raise
        return connection


def connect(
    path: StrPath | None = None,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    connect_timeout: float = DEFAULT_CONNECT_TIMEOUT,
    max_connections: int = DEFAULT_MAX_CONNECTIONS,
    max_frame: int = DEFAULT_MAX_FRAME,
    reply_margin: float = DEFAULT_REPLY_MARGIN,
    retries: int = DEFAULT_RETRIES,
) -> Client:
    """Return a client of the server that listens on `path`; None means $COHAB_SOCKET.

    Nothing is connected before the first call. All times are in seconds:

    - `timeout`: default time-out of a call, from waiting for a connection to the last byte of the reply.
    - `connect_timeout`: how long a call may wait for room in the server's backlog.
    - `max_connections`: limit for this client in this process; further calls wait their turn.
    - `max_frame`: longest request and reply in bytes; make it the server's own `--max-frame`. A reply of
      less than 64 KiB is taken in any case.
    - `reply_margin`: how much longer than its time-out a call waits for the server to say so itself.
    - `retries`: how often a call is sent again, within its time-out, after its worker died and where the
      server says that this is safe; 0: never.

    Raises InvalidArgument if there is no path or an option makes no sense.
    """
    return Client(
        path,
        timeout=timeout,
        connect_timeout=connect_timeout,
        max_connections=max_connections,
        max_frame=max_frame,
        reply_margin=reply_margin,
        retries=retries,
    )


def _socket_path(path: StrPath | None) -> str:
    if path is None:
        path = os.environ.get("COHAB_SOCKET") or None
    if path is None:
        raise InvalidArgument(
            "no socket path: give one to cohab.connect() or set COHAB_SOCKET", reason="BAD_ARGUMENT"
        )
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InvalidArgument(f"the socket path must be a str, not {text!r}", reason="BAD_ARGUMENT")
    size = len(os.fsencode(text))
    if not 0 < size <= LONGEST_SOCKET_PATH:
        raise InvalidArgument(
            f"the socket path {text!r} has {size} bytes; a Unix socket's may have 1 to {LONGEST_SOCKET_PATH}",
            reason="BAD_ARGUMENT",
        )
    return text


def positive_ns(name: str, seconds: float) -> int:
    if isinstance(seconds, (int, float)) and math.isfinite(seconds) and 0 < seconds <= _LONGEST_TIMEOUT:
        return max(1, int(seconds * 1e9))
    raise InvalidArgument(
        f"{name} must be a positive number of seconds up to {_LONGEST_TIMEOUT:g}, not {seconds!r}",
        reason="BAD_ARGUMENT",
    )


def _call_timeout_ns(method: str, seconds: float) -> int:
    if (
        isinstance(seconds, (int, float)) and seconds <= 0
    ):  # what is left of a caller's own budget, most likely
        raise DeadlineExceeded(
            f"the time-out of {seconds:g} s was over before the call",
            reason="DEADLINE",
            retry=True,
            method=method,
        )
    return positive_ns("timeout", seconds)


def _positive_int(name: str, value: int) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise InvalidArgument(f"{name} must be a positive integer, not {value!r}", reason="BAD_ARGUMENT")


def _add(before: Error | None, error: Error) -> Error:
    """Return which error of a call tells more: that of an earlier try, or the one after it."""
    if before is None:
        return error
    not_tried = not error.executed and isinstance(error, _NO_TRY)
    lost = error.reason == "CONNECTION_LOST" and before.executed
    if not_tried or lost:
        return before
    error.executed |= before.executed
    error.__cause__ = before
    return error


def _retries(value: int) -> int:
    if isinstance(value, int) and value >= 0:
        return value
    raise InvalidArgument(f"retries must be an integer from 0 on, not {value!r}", reason="BAD_ARGUMENT")
