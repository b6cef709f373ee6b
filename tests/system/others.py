"""Innocent callers, on the same workers as those that something happens to."""

from __future__ import annotations

import threading

from harness import Server


class Others:
    """Threads whose calls are not to be ended: they must never see an error."""

    def __init__(self, server: Server, count: int) -> None:
        self.errors: list[BaseException] = []
        self.answered = 0
        self._stop = threading.Event()
        self._client = server.client(max_connections=count)
        self._threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(count)]

    def _run(self, number: int) -> None:
        i = 0
        while not self._stop.is_set():
            i += 1
            try:
                assert self._client.call("echo", [number, i]) == [number, i]
                assert self._client.call("sleep", 0.001) is None
                self.answered += 1
            except BaseException as error:
                self.errors.append(error)
                return

    def __enter__(self) -> Others:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
