"""The wire protocol, by hand: what the tests send is what they say, right or wrong."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from types import TracebackType
from typing import Any, NamedTuple

import msgpack

HEADER = struct.Struct(">I")
_msgids = itertools.count(1)


def pack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return packed


def frame(body: bytes) -> bytes:
    return HEADER.pack(len(body)) + body


def request(method: str, *params: Any, msgid: int = 1, meta: dict[str, Any] | None = None) -> bytes:
    """A request frame; without `meta` it has four elements."""
    parts: list[Any] = [0, msgid, method, list(params)]
    return frame(pack(parts if meta is None else [*parts, meta]))


def deadline_in(seconds: float) -> dict[str, int]:
    """The meta of a request whose deadline is that far away; negative: past."""
    return {"deadline": time.monotonic_ns() + int(seconds * 1e9)}


class Reply(NamedTuple):
    msgid: int | None
    error: dict[str, Any] | None
    result: Any

    @property
    def reason(self) -> str:
        return self.error["reason"] if self.error else ""

    @property
    def ok(self) -> bool:
        return self.error is None


class ConnectionEnded(AssertionError):
    """The end of file where a frame, or the rest of one, should have come."""


class Raw:
    """A connection without a client around it."""

    def __init__(self, path: str, timeout: float = 20.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(path)

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(self, method: str, *params: Any, meta: dict[str, Any] | None = None) -> int:
        """Send a request and return its msgid."""
        msgid = next(_msgids)
        self.send(request(method, *params, msgid=msgid, meta=meta))
        return msgid

    def receive_exactly(self, size: int) -> bytes:
        """Read that many bytes, or as many as come before the end of file."""
        data = bytearray()
        while len(data) < size:
            part = self.sock.recv(min(size - len(data), 1 << 20))
            if not part:
                break
            data += part
        return bytes(data)

    def receive_body(self) -> bytes:
        header = self.receive_exactly(HEADER.size)
        if len(header) != HEADER.size:
            raise ConnectionEnded(f"the connection ended instead of a frame, after {header!r}")
        size = HEADER.unpack(header)[0]
        body = self.receive_exactly(size)
        if len(body) != size:
            raise ConnectionEnded(f"the connection ended after {len(body)} of {size} bytes")
        return body

    def receive(self) -> Reply:
        value = msgpack.unpackb(self.receive_body(), strict_map_key=False)
        assert isinstance(value, list), value
        assert len(value) == 4, value
        assert value[0] == 1, value
        return Reply(*value[1:])

    def call(self, method: str, *params: Any, meta: dict[str, Any] | None = None) -> Reply:
        msgid = self.ask(method, *params, meta=meta)
        reply = self.receive()
        assert reply.msgid == msgid, reply
        return reply

    def at_end(self) -> bool:
        """Wait for the end of file; False if a byte comes instead."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True  # the server closed with bytes of ours unread

    def is_silent(self, seconds: float = 0.0) -> bool:
        """Whether nothing has come by now, neither a byte nor the end."""
        before = self.sock.gettimeout()
        self.sock.settimeout(max(seconds, 1e-6))
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except (TimeoutError, socket.timeout):
            return True
        finally:
            self.sock.settimeout(before)
        return False
