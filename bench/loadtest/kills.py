"""Workers that die by SIGKILL at regular times while the server is under load."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

from .server import RunningServer


class Killer:
    """Kills a random worker every `every` seconds of the measured time; `kills` has the times of the kills.

    A context manager: when it is left no kill is under way any more.
    """

    def __init__(self, server: RunningServer, every: float, *, begin: float, end: float, seed: int) -> None:
        """`begin` and `end` of the measured time are times of time.monotonic()."""
        self.kills: list[float] = []
        self._server = server
        self._every = every
        self._begin = begin
        self._end = end
        self._random = random.Random(seed)
        self._stop_wanted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def _run(self) -> None:
        at = self._begin + self._every
        while at < self._end and not self._stop_wanted.wait(max(0.0, at - time.monotonic())):
            if self._kill_one():
                self.kills.append(round(time.monotonic() - self._begin, 4))
            at += self._every

    def _kill_one(self) -> bool:
        status = self._server.status()
        pids = [worker["pid"] for worker in status["workers"] if worker["pid"]] if status else []
        return bool(pids) and kill_child(self._random.choice(pids), self._server.pid)

    def __enter__(self) -> Killer:
        if self._every:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_wanted.set()
        if self._every:
            self._thread.join()


def kill_child(pid: int, parent: int) -> bool:
    """SIGKILL for that process, if it is still a child of `parent`: its number may be another's by now."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        if int(stat[stat.rfind(")") + 2 :].split()[1]) != parent:
            return False
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    finally:
        os.close(pidfd)
    return True
