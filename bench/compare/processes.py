"""Servers that are measured, each a process of ours in a directory of its own, and bench/ping."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from .figures import Figures

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("COHAB_BUILD_DIR", ROOT / "build"))
PROGRAMS = BUILD / "bench"
COHABD = BUILD / "cohabd"
COHAB = BUILD / "cohab"

START_TIMEOUT = 30.0
STOP_TIMEOUT = 10.0
POLL = 0.005


class Failed(Exception):
    """A peer could not be measured; says why."""


def engine(name: str) -> str:
    return str(BUILD / "engine" / f"lib{name}.so")


def directory(stack: ExitStack) -> Path:
    """A private one, short enough for sockets in it, that goes with the stack."""
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cohab-", dir="/tmp")))


def wait_until(done: Callable[[], bool], what: str, timeout: float = START_TIMEOUT) -> None:
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            raise Failed(f"not within {timeout:g} s: {what}")
        time.sleep(POLL)


class Process:
    """A command in a session of its own; all of it is ended with the stack. Its output goes to a file."""

    def __init__(self, stack: ExitStack, command: Sequence[str | Path], **options: Any) -> None:
        """`options` are Popen's; what is a pipe is `process.stdout` and `process.stderr`."""
        self.log = directory(stack) / "log"
        self._words = [str(word) for word in command]
        with self.log.open("wb") as log:
            streams = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(self._words, start_new_session=True, **{**streams, **options})
        stack.callback(self._end)
        self.pid = self.process.pid

    def check(self) -> None:
        if self.process.poll() is not None:
            text = self.log.read_text(errors="replace").strip().splitlines()
            raise Failed(
                f"{Path(self._words[0]).name} ended: {text[-1] if text else self.process.returncode}"
            )

    def wait_for_socket(self, path: Path) -> None:
        """Until somebody accepts there."""

        def answers() -> bool:
            self.check()
            with socket.socket(socket.AF_UNIX) as probe:
                return probe.connect_ex(str(path)) == 0

        wait_until(answers, f"{self._words[0]} listens on {path}")

    def _end(self) -> None:
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)  # it may be stopped
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # what it has left behind, too
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()


class Lines:
    """What comes through a pipe, line by line, each with the time at which it came."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._lines: list[tuple[float, str]] = []
        self._seen = 0
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:
            with self._news:
                self._lines.append((time.monotonic(), line.decode(errors="replace").rstrip()))
                self._news.notify_all()

    def wait_for(self, pattern: str, timeout: float = START_TIMEOUT) -> float:
        """The time of the next line that matches; lines before it count as seen."""
        end = time.monotonic() + timeout
        with self._news:
            while True:
                for number in range(self._seen, len(self._lines)):
                    if re.search(pattern, self._lines[number][1]):
                        self._seen = number + 1
                        return self._lines[number][0]
                if not self._news.wait(end - time.monotonic()):
                    raise Failed(f"no line like {pattern!r} within {timeout:g} s")


def start_cohabd(
    stack: ExitStack, engine_path: str, workers: int, *options: str, args: Sequence[str] = (), **popen: Any
) -> tuple[Process, Path]:
    """A server with all its workers ready, and its socket."""
    path = directory(stack) / "s"
    command: list[str | Path] = [
        COHABD,
        "--socket",
        path,
        "--workers",
        str(workers),
        "--log-level",
        "warn",
        *options,
        engine_path,
    ]
    server = Process(stack, [*command, *(["--", *args] if args else [])], **popen)
    server.wait_for_socket(path)
    wait_until(
        lambda: all(w["pid"] and w["state"] != "starting" for w in status(path)["workers"]),
        "all workers are ready",
    )
    return server, path


def start_module(stack: ExitStack, name: str, *arguments: str | Path) -> tuple[Process, Path]:
    """A server of compare.servers, which takes its socket as its first argument."""
    path = directory(stack) / "s"
    server = Process(stack, [sys.executable, "-m", f"compare.servers.{name}", path, *arguments])
    return server, path


def status(path: Path) -> dict[str, Any]:
    """What `cohab status --json` says."""
    command: list[str | Path] = [COHAB, "--socket", path, "status", "--json"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=START_TIMEOUT, check=False)
    if result.returncode != 0:
        raise Failed(f"cohab status: {result.stderr.strip()}")
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def ping(path: Path, *options: str, timeout: float = 60.0, schedule: str | None = None) -> dict[str, Any]:
    """What bench/ping measured. Calls that failed are a failure of the measurement."""
    result = subprocess.run(
        [PROGRAMS / "ping", *options, path],
        input=schedule,
        stdin=subprocess.DEVNULL if schedule is None else None,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if result.returncode != 0:
        raise Failed(result.stderr.strip())
    answer: dict[str, Any] = json.loads(result.stdout)
    if answer["errors"]:
        raise Failed(f"{answer['errors']} of {answer['calls']} calls got an error")
    return answer


def ping_figures(answer: dict[str, Any]) -> Figures:
    latency = answer["latency"]
    return {
        "p50": latency["p50"],
        "p99": latency["p99"],
        "max": latency["max"],
        "calls": float(answer["calls"]),
        "rate": answer["calls_per_second"],
    }
