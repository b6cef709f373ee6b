"""One line at the foot of a terminal that tells how far the test is; nothing where there is no terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time

from .units import format_duration

_BAR_WIDTH = 20


class Progress:
    """Steps whose lengths are known about. As a context manager it removes its line at the end."""

    def __init__(self, planned: float) -> None:
        """`planned` is the sum of all steps' seconds."""
        self._live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._planned = planned
        self._done = 0.0
        self._step = 0.0
        self._label = ""
        self._began = self._step_began = time.monotonic()

    def begin(self, label: str, seconds: float) -> None:
        self._label = label
        self._step = seconds
        self._step_began = time.monotonic()
        self.draw()

    def finish(self) -> None:
        self._done += self._step

    def draw(self) -> None:
        if not self._live:
            return
        # What servers need to start and stop shows in the steps that are done.
        slower = max(1.0, (self._step_began - self._began) / self._done) if self._done else 1.0
        done = self._done + min(self._step, (time.monotonic() - self._step_began) / slower)
        left = (self._planned - done) * slower
        bar = ("#" * int(_BAR_WIDTH * done / self._planned)).ljust(_BAR_WIDTH, ".")
        line = f"[{bar}] {done / self._planned:4.0%}, {format_duration(left)} left  {self._label}"
        self._write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        print(text, end="", file=sys.stderr, flush=True)
