"""A server whose behaviour each test writes down: a script per connection, run in a thread."""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
import termios
import threading
import time
from pathlib import Path
from typing import Any, Callable

from msgpack import packb, unpackb

PATIENCE_S = 20.0

BIG = b"x" * (4 * 1024 * 1024)  # more than a socket's buffers hold


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition` holds; fail the test if it never does."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(0.002)


def wait_for(event: threading.Event, what: str) -> None:
    assert event.wait(PATIENCE_S), f"never happened: {what}"


def wait_until_read(sock: socket.socket) -> None:
    """Return when the peer has received all that was sent on this socket."""

    def unread() -> int:
        return int(struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0])

    wait_until(lambda: unread() == 0, "the peer reads")


class Request:
    """One decoded request."""

    def __init__(self, body: bytes) -> None:
        self.kind, self.msgid, self.method, self.params, self.meta = unpackb(body, strict_map_key=False)


class ServerConnection:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number

    def receive_exactly(self, size: int) -> bytes:
        """Return `size` bytes, or less if the client closed."""
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self.sock.recv(size - len(data))
            except ConnectionResetError:
                break
            if not chunk:
                break
            data += chunk
        return bytes(data)

    def request(self) -> Request | None:
        """Return the next request, or None at the end of the connection."""
        header = self.receive_exactly(4)
        if len(header) < 4:
            return None
        return Request(self.receive_exactly(int.from_bytes(header, "big")))

    def expect_request(self) -> Request:
        request = self.request()
        assert request is not None, "the client closed the connection instead of sending a request"
        return request

    def expect_close(self) -> None:
        assert self.receive_exactly(1) == b"", "the client did not close the connection"

    def send_frame(self, value: Any) -> None:
        self.sock.sendall(frame(value))

    def reply(self, request: Request, result: Any) -> None:
        self.send_frame([1, request.msgid, None, result])

    def serve(self) -> None:
        """Echo: the result of every call is the list of its parameters."""
        while True:
            request = self.request()
            if request is None:
                return
            self.reply(request, request.params)


Script = Callable[[ServerConnection], None]


def echo(connection: ServerConnection) -> None:
    connection.serve()


def frame(value: Any) -> bytes:
    body: bytes = packb(value)
    return len(body).to_bytes(4, "big") + body


def error_map(code: str, reason: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "reason": reason, "message": f"{reason} it is", "executed": False, **more}


class FakeServer:
    """Accepts connections and runs the n-th script for the n-th connection, the last one for all others.

    `close` fails the test if a script failed.
    """

    def __init__(self, path: Path, *scripts: Script, backlog: int = 64) -> None:
        self.path = str(path)
        self.scripts = scripts or (echo,)
        self.connections: list[ServerConnection] = []
        self.ended: list[int] = []
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(backlog)
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    @property
    def accepted(self) -> int:
        return len(self.connections)

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            connection = ServerConnection(sock, len(self.connections))
            script = self.scripts[min(connection.number, len(self.scripts) - 1)]
            self.connections.append(connection)
            thread = threading.Thread(target=self._run, args=(script, connection), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _run(self, script: Script, connection: ServerConnection) -> None:
        try:
            script(connection)
        except BaseException as exc:
            self.failures.append(exc)
        finally:
            connection.sock.close()
            self.ended.append(connection.number)

    def disconnect_all(self) -> None:
        """Close every connection from this side and wait until all scripts have ended."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a script never ended"

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake the thread that accepts
        self.listener.close()
        Path(self.path).unlink(missing_ok=True)
        self._acceptor.join(PATIENCE_S)
        self.disconnect_all()
        assert not self.failures, f"a script failed: {self.failures[0]!r}" if self.failures else ""
