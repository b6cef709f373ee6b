"""A server for one example, and what waiting and cleaning up need."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, TypeVar

from docs_blocks import REPOSITORY

BUILD = Path(os.environ.get("COHAB_BUILD_DIR", REPOSITORY / "build")).resolve()
COHABD = BUILD / "cohabd"
COHAB = BUILD / "cohab"
TIMEOUT = 20.0

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], what: str, timeout: float = TIMEOUT) -> T:
    """Return the first true value of `predicate`."""
    end = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.005)
    return value


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COHAB")}


def session_members(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for name in os.listdir("/proc"):
        try:
            stat = Path(f"/proc/{name}/stat").read_text() if name.isdigit() else ""
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = stat[stat.rfind(")") + 2 :].split()
        if len(fields) > 3 and int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(name))
    return found


def kill_session(session: int) -> None:
    """End every process of a session that a test has started."""
    for pid in session_members(session):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    wait_until(lambda: not session_members(session), f"the end of session {session}")


class Server:
    """A running cohabd."""

    def __init__(self, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.path = path
        self.process = process
        self.log = log

    def connect(self, admin: bool = False) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(TIMEOUT)
        sock.connect(self.path + (".ctl" if admin else ""))
        return sock

    def status(self) -> dict[str, Any]:
        command = [str(COHAB), "--socket", self.path, "status", "--json"]
        output = subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT).stdout
        status: dict[str, Any] = json.loads(output)
        return status

    def wait_running(self, method: str) -> int:
        """Wait until a worker runs the method; its pid."""

        def pid() -> int | None:
            return next((int(w["pid"]) for w in self.status()["workers"] if w["method"] == method), None)

        found = wait_until(pid, f"{method} runs")
        assert found is not None
        return found


@contextmanager
def running_server(
    directory: Path,
    *options: str,
    engine: str | Path = "echo",
    args: Sequence[str] = (),
    workers: int = 1,
) -> Iterator[Server]:
    """A server that serves, in a directory whose name is short."""
    path = str(directory / "s")
    log_path = directory / "log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [str(COHABD), "--socket", path, "--workers", str(workers), *options, str(engine), "--", *args],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=clean_environment(),
        )
    try:
        command = [str(COHAB), "--socket", path, "ping", "--wait", f"{TIMEOUT:g}"]
        ping = subprocess.run(command, capture_output=True, text=True, timeout=2 * TIMEOUT, check=False)
        assert ping.returncode == 0, ping.stderr + log_path.read_text()
        yield Server(path, process, log_path)
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(TIMEOUT)
        finally:
            kill_session(process.pid)
            process.wait()
