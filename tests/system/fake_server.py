"""A server that notes what it is sent and answers as a test wants: what no cohabd does, or not reliably."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Callable

import msgpack
from wire import HEADER, frame, pack

# Gets a request's elements and the whole frame; what it returns is sent, None closes the connection.
Answer = Callable[[list[Any], bytes], "bytes | None"]


def reply(request: list[Any], result: Any = None) -> bytes:
    return frame(pack([1, request[1], None, result]))


def say_nil(request: list[Any], _: bytes) -> bytes:
    return reply(request)


class FakeServer:
    """Serves from `with` to its end, each connection in a thread of its own."""

    def __init__(self, directory: Path, answer: Answer = say_nil) -> None:
        self.path = str(directory / "fake")
        self.requests: list[list[Any]] = []
        self.connections = 0
        self._answer = answer
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> FakeServer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for connection in self._open:
            connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for connection in self._open:
            connection.close()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            self._threads.append(threading.Thread(target=self._serve, args=[connection]))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while header := stream.read(HEADER.size):
                body = stream.read(HEADER.unpack(header)[0])
                request: list[Any] = msgpack.unpackb(body)
                with self._lock:
                    self.requests.append(request)
                answer = self._answer(request, header + body)
                if answer is None:
                    connection.shutdown(socket.SHUT_RDWR)
                    return
                try:
                    connection.sendall(answer)
                except OSError:
                    return
