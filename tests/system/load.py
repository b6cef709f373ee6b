"""Callers that go on calling while a test does something to the server."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any

import cohab


class Load:
    """Threads that call echo() with numbers, each over a connection of its own, and check every answer.

    `with Load(server, 16) as load:` ... then `load.calls` and `load.failures`.
    """

    def __init__(self, server: Any, threads: int, *, method: str = "echo", pause: float = 0.0) -> None:
        self._client = cohab.connect(server.socket, timeout=30.0, max_connections=threads)
        self._method, self._pause = method, pause
        self._stop = threading.Event()
        self._counts = [0] * threads
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    @property
    def calls(self) -> int:
        return sum(self._counts)

    def _run(self, index: int) -> None:
        number = index * 10_000_000
        while not self._stop.is_set():
            number += 1
            try:
                answer = self._client.call(self._method, number)
                if answer != number:
                    self.failures.append(f"{answer!r} for {number}")
            except cohab.Error as error:
                self.failures.append(f"{error.code} {error.reason}: {error}")
            self._counts[index] += 1
            if self._pause:
                time.sleep(self._pause)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._client.close()
