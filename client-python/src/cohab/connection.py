"""One connection: one request at a time on a blocking Unix socket.

A reply that comes soon costs one send(2) and one recv(2), which SO_RCVTIMEO limits to a moment. Whatever
takes longer is waited for with poll(2): after a signal Python repeats that with the time that is left, but a
recv(2) or send(2) with its whole time limit. Only where gevent has replaced the socket class is `settimeout`
used.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import select
import socket
import struct
import sys
import termios
import time
from collections.abc import Sequence
from time import monotonic_ns
from typing import Any, Callable

from .errors import DeadlineExceeded, Error, PermissionDenied, ProtocolError, Unavailable
from .protocol import (
    HEADER_SIZE,
    Buffer,
    Encoder,
    ErrorMap,
    LargeFrame,
    decode_reply,
    error_from_map,
    frame_size,
    server_closes_after,
)

logger = logging.getLogger("cohab")

RECEIVE_SIZE = 64 * 1024
CONNECT_RETRY_S = 0.005

# How long a recv(2) waits before poll(2) does. Only signals that never leave so much time between them could
# make a call last. A shorter limit is not free: a kernel timer that is due soon slows each call by some 5 %.
LONGEST_FIRST_WAIT_US = 100_000

# An application may have set SIGPIPE to its default; a server that went away must not kill it.
_SEND_FLAGS = socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT
_TIMED_OUT = (BlockingIOError, socket.timeout)


class StaleConnection(Exception):
    """An idle connection turned out to be closed before a single byte was sent: take another one."""


class Connection:
    """A connection to `path`. Not for use by two threads at once; `close` alone may be called by any.

    Attributes:
        usable: True while nothing is outstanding and nothing has gone wrong, so that it may be used again.
    """

    __slots__ = (
        "__weakref__",
        "_deadline_ns",
        "_encoder",
        "_frame_sent",
        "_has_served",
        "_margin_ns",
        "_max_frame",
        "_msgid",
        "_patched",
        "_path",
        "_sock",
        "_surplus",
        "_wait_us",
        "usable",
    )

    def __init__(self, path: str, *, max_frame: int, margin_ns: int) -> None:
        """Prepare a connection. `margin_ns`: how much longer than its deadline a call waits for a reply."""
        self.usable = False
        self._path = path
        self._max_frame = max_frame
        self._margin_ns = margin_ns
        self._encoder = Encoder(max_frame)
        self._sock: socket.socket | None = None
        self._patched = False
        self._wait_us = 0
        self._msgid = 0
        self._deadline_ns = 0
        self._frame_sent = False
        self._has_served = False
        self._surplus = False

    def close(self) -> None:
        """Close the descriptor, and no shutdown(2): in a forked child the socket is still the parent's."""
        self.usable = False
        if self._sock is not None:
            self._sock.close()

    # ---- connecting

    def connect(self, deadline_ns: int, connect_timeout_ns: int) -> None:
        """Connect until `deadline_ns` at the latest, and no longer than `connect_timeout_ns`.

        Raises DeadlineExceeded, Unavailable or PermissionDenied; all of them with `executed` false.
        """
        limit_ns = min(deadline_ns, monotonic_ns() + connect_timeout_ns)
        try:
            self._sock = sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._patched = type(sock).__module__ != "socket"
            if type(sock).__module__.startswith("eventlet."):
                raise Error(
                    "cohab does not work under eventlet, whose sockets cannot wait in sendmsg(); "
                    "use gevent or threads",
                    code="FAILED_PRECONDITION",
                    reason="EVENTLET",
                )
            sock.settimeout(None)  # socket.setdefaulttimeout() is for others
            while not self._try_connect(sock, limit_ns):
                if monotonic_ns() < limit_ns:
                    time.sleep(CONNECT_RETRY_S)
                elif limit_ns == deadline_ns:
                    raise DeadlineExceeded(
                        f"no connection to {self._path} before the deadline: its backlog is full",
                        reason="QUEUE_TIMEOUT",
                        retry=True,
                    )
                else:
                    raise Unavailable(
                        f"no connection to {self._path} within {connect_timeout_ns / 1e9:g} s "
                        "(connect_timeout): its backlog is full; is the server stopped or overloaded?",
                        reason="CONNECT_TIMEOUT",
                        retry=True,
                    )
        except OSError as exc:
            if isinstance(exc, Error):
                raise
            raise _connect_error(self._path, exc) from exc
        self.usable = True
        logger.debug("connected to %s", self._path)

    def _try_connect(self, sock: socket.socket, limit_ns: int) -> bool:
        """Try once; False if there was no room in the server's backlog."""
        left_us = max(1, (limit_ns - monotonic_ns()) // 1000)
        if self._patched:
            sock.settimeout(left_us / 1e6)
        else:
            _set_time_limit(sock, socket.SO_SNDTIMEO, left_us)
        try:
            sock.connect(self._path)
            # A signal handler that runs while connect() waits makes Python report a success that is none.
            sock.getpeername()
        except _TIMED_OUT:
            return False
        except OSError as exc:
            if exc.errno == errno.ENOTCONN:
                return False
            raise
        return True

    # ---- one request

    def request(
        self, method: str, params: tuple[Any, ...], deadline_ns: int, wait_us: int
    ) -> tuple[ErrorMap | None, Any]:
        """Send one request and return (error map or None, result) of its response.

        `wait_us` is `first_wait_us` of the time from now to the deadline.
        Whatever is raised, `usable` tells whether the connection can be used again: it can only if nothing
        was sent, or the reply was read.
        """
        self._msgid = msgid = (self._msgid + 1) & 0xFFFFFFFF
        frame = self._encoder.request(msgid, method, params, deadline_ns, monotonic_ns())
        sock = self._sock
        assert sock is not None
        self.usable = self._frame_sent = False
        self._deadline_ns = deadline_ns
        if self._patched:
            self._wait_for(select.POLLOUT)
        elif wait_us != self._wait_us:
            _set_time_limit(sock, socket.SO_RCVTIMEO, wait_us)
            self._wait_us = wait_us

        if isinstance(frame, bytes):
            try:
                sent = sock.send(frame, _SEND_FLAGS)
            except OSError as exc:
                self._send_failed(exc, 0, msgid)
                sent = 0
            if sent != len(frame):
                self._send_rest(sock, [memoryview(frame)[sent:]], sent, msgid)
        else:
            self._send_large(sock, frame, msgid)
        self._frame_sent = True
        if self._patched:
            self._wait_for(select.POLLIN)

        try:
            data = sock.recv(RECEIVE_SIZE)
        except OSError as exc:
            self._receive_failed(exc)
            data = self._receive_some(sock)
        body: Buffer
        if len(data) > HEADER_SIZE and int.from_bytes(data[:HEADER_SIZE], "big") == len(data) - HEADER_SIZE:
            body = data[HEADER_SIZE:]
        else:
            body = self._receive_rest(sock, data)
        reply = decode_reply(body, msgid)
        # What follows the reply can only be the server's good-bye.
        self.usable = not self._surplus and not server_closes_after(reply[0])
        self._has_served = True
        return reply

    # ---- sending what did not go out at once

    def _send_large(self, sock: socket.socket, frame: LargeFrame, msgid: int) -> None:
        try:
            self._send_rest(sock, [memoryview(frame.header), frame.body], 0, msgid)
        finally:
            frame.body.release()

    def _send_rest(self, sock: socket.socket, parts: Sequence[memoryview], sent: int, msgid: int) -> None:
        while parts:
            try:
                count = sock.sendmsg(parts, (), _SEND_FLAGS)
            except OSError as exc:
                self._send_failed(exc, sent, msgid)
                count = 0
            sent += count
            parts = _after(parts, count)
            if parts:
                self._wait_for(select.POLLOUT)

    def _send_failed(self, exc: OSError, sent: int, msgid: int) -> None:
        """Return if there was no room in the socket only; raise what has happened otherwise."""
        if isinstance(exc, _TIMED_OUT):
            return
        if sent == 0 and self._has_served:
            raise StaleConnection from exc
        # The server closes behind a connection error, and its words are still there to be read.
        sock = self._sock
        assert sock is not None
        error, _ = decode_reply(self._receive_rest(sock, b""), msgid)
        if error is None:
            raise ProtocolError("the server replied to half a request", reason="BAD_REPLY", executed=True)
        raise error_from_map(error, None)

    # ---- receiving what did not come at once

    def _receive_rest(self, sock: socket.socket, data: bytes) -> Buffer:
        """Return the body of the reply of which `data` has been received so far."""
        if not data:
            data = self._receive_some(sock)
        while len(data) < HEADER_SIZE:
            data += self._receive_some(sock)
        size = frame_size(data[:HEADER_SIZE], self._max_frame)
        received = len(data) - HEADER_SIZE
        if received >= size:
            self._surplus = received > size
            return memoryview(data)[HEADER_SIZE : HEADER_SIZE + size]
        body = bytearray(size)
        view = memoryview(body)
        view[:received] = data[HEADER_SIZE:]
        while received < size:
            rest = view[received:]
            received += self._until_done(sock.recv_into, rest, len(rest), socket.MSG_WAITALL)
        return body

    def _receive_some(self, sock: socket.socket) -> bytes:
        data: bytes = self._until_done(sock.recv, RECEIVE_SIZE)
        return data

    def _until_done(self, receive: Callable[..., Any], *args: Any) -> Any:
        """Call `receive` until it returns something, the connection ends, or the time is over."""
        while True:
            self._wait_for(select.POLLIN)
            try:
                result = receive(*args)
            except OSError as exc:
                self._receive_failed(exc)
                continue
            if not result:
                raise self._lost("the server closed it")
            return result

    def _receive_failed(self, exc: OSError) -> None:
        if not isinstance(exc, _TIMED_OUT):
            raise self._lost(exc.strerror or str(exc)) from exc

    def _lost(self, how: str) -> Unavailable:
        if self._frame_sent:
            fate = "the request was sent, so it may have been executed"
        else:
            fate = "the request was not sent completely, so it was not executed"
        return Unavailable(
            f"the connection to {self._path} was lost before the reply ({how}); {fate}",
            reason="CONNECTION_LOST",
            executed=self._frame_sent,
            retry=not self._frame_sent,
        )

    # ---- time

    def _wait_for(self, event: int) -> None:
        """Wait until the socket is ready for `event`. Raises DeadlineExceeded.

        Under gevent the next system call on the socket does the waiting; this limits it.
        """
        sock = self._sock
        assert sock is not None
        if self._patched:
            sock.settimeout(self._wait_left_ns() / 1e9)
            return
        poller = select.poll()
        poller.register(sock, event)
        while not poller.poll(self._wait_left_ns() / 1e6):
            pass

    def _wait_left_ns(self) -> int:
        """Return the time until this call looks at the time again, or gives up.

        At the deadline a request that no worker has read is given up at once: the worker that will read it
        sees that its time is over. For the answer to any other the server has the margin.
        Raises DeadlineExceeded if no time is left.
        """
        now_ns = monotonic_ns()
        if now_ns < self._deadline_ns:
            return self._deadline_ns - now_ns
        if not self._frame_sent or self._is_unread():
            raise DeadlineExceeded(
                f"no worker of {self._path} took the request before the deadline; are all busy, or is the "
                "server stopped? `cohab status` tells",
                reason="QUEUE_TIMEOUT",
                retry=True,
            )
        left_ns = self._deadline_ns + self._margin_ns - now_ns
        if left_ns > 0:
            return left_ns
        raise DeadlineExceeded(
            f"no reply from {self._path} by the deadline, nor in the {self._margin_ns / 1e9:g} s after it "
            "in which the server should have said so itself: is it stopped?",
            reason="DEADLINE",
            executed=True,
        )

    def _is_unread(self) -> bool:
        """Whether a part of what was sent still lies in the socket, read by nobody (SIOCOUTQ)."""
        assert self._sock is not None
        try:
            unread = fcntl.ioctl(self._sock.fileno(), termios.TIOCOUTQ, bytes(4))
        except OSError:
            return False
        return int.from_bytes(unread, sys.byteorder) > 0


def first_wait_us(left_ns: int) -> int:
    """Return the limit of the first recv(2) of a call that has `left_ns` to go."""
    return max(1, min(left_ns // 1000, LONGEST_FIRST_WAIT_US))


def _set_time_limit(sock: socket.socket, option: int, limit_us: int) -> None:
    """Set SO_RCVTIMEO or SO_SNDTIMEO; 0 would mean no limit."""
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", *divmod(limit_us, 1_000_000)))


def _after(parts: Sequence[memoryview], count: int) -> list[memoryview]:
    """Return what is left of `parts` when their first `count` bytes are gone."""
    left = []
    for part in parts:
        if count < len(part):
            left.append(part[count:])
        count = max(0, count - len(part))
    return left


def _connect_error(path: str, exc: OSError) -> Error:
    """The error for a connect(2) that failed; says what to do about it."""
    advice = {
        errno.ENOENT: "there is no such socket; is cohabd running, and with this --socket?",
        errno.ENOTDIR: "a part of the path is not a directory",
        errno.ECONNREFUSED: "nobody listens on this socket; is cohabd running?",
        errno.EPROTOTYPE: "this is a socket of another kind, not of a cohab server",
    }
    if exc.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"cannot connect to {path}: permission denied; the server's --socket-mode and the group of the "
            "socket decide who may",
            reason="SOCKET_PERMISSIONS",
        )
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(
            f"cannot connect to {path}: {exc.strerror}; raise the limit (ulimit -n) or close some",
            reason="NO_DESCRIPTOR",
            retry=True,
        )
    why = advice.get(exc.errno or 0) or exc.strerror or str(exc)
    return Unavailable(f"cannot connect to {path}: {why}", reason="NO_SERVER", retry=True)
