"""The server under test: one process tree in a session and a directory of its own, and its log."""

from __future__ import annotations

import atexit
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable

import cohab
from processes import (
    children_of,
    is_alive,
    session_members,
    signal_quietly,
    state_of,
    title_of,
    wait_until,
)
from wire import Raw

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("COHAB_BUILD_DIR", REPOSITORY / "build")).resolve()
COHABD = BUILD / "cohabd"
COHAB = BUILD / "cohab"

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
CLI_TIMEOUT = 60.0

_LOG_LINE = re.compile(r"^\S+ \S+ cohabd\[(?P<pid>\d+)\] (?P<level>\w+) +(?P<text>.*)$")


# Not in the servers' own directories, of which tests say what they may hold.
_STATE = Path(tempfile.mkdtemp(prefix="cohab-state-"))
atexit.register(shutil.rmtree, _STATE, ignore_errors=True)


class ServerEnded(AssertionError):
    """The server ended where it should have served."""


def others_may_reach(path: Path) -> bool:
    """Whether every directory on the way lets other users through."""
    return all(place.stat().st_mode & 0o001 for place in path.resolve().parents)


def engine_path(name: str) -> str:
    return name if "/" in name else str(BUILD / "engine" / f"lib{name}.so")


def run_cohabd(*arguments: str, timeout: float = 30.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run cohabd to its end: for options, --check, and starts that must fail."""
    options.setdefault("env", clean_environment())
    return subprocess.run(
        [str(COHABD), *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


def run_cohab(
    *arguments: str, text: str | None = None, timeout: float = CLI_TIMEOUT, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command line tool; `text` goes to its standard input."""
    options.setdefault("env", clean_environment())
    return subprocess.run(
        [str(COHAB), *arguments],
        capture_output=True,
        text=True,
        input=text or "",
        timeout=timeout,
        check=False,
        **options,
    )


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COHAB")}


class Server:
    """One cohabd. `start` it, use it, `stop` it; `tear_down` leaves nothing behind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = str(directory / "s")
        self.log_path = directory / "log"
        self.crash_directory = _STATE / f"{directory.parent.name}-{directory.name}" / "crash"
        self.process: subprocess.Popen[bytes] | None = None
        self._expected_errors: list[str] = []
        self._raws: list[Raw] = []
        self._clients: list[cohab.Client] = []
        self._sessions: list[int] = []

    # ---- life

    def launch(
        self,
        engine: str = "echo",
        *options: str,
        args: Sequence[str] = (),
        workers: int = 2,
        pass_fds: Sequence[int] = (),
        preexec: Callable[[], object] | None = None,
        environment: dict[str, str] | None = None,
        program: Path = COHABD,
    ) -> Server:
        """Start the process and wait for nothing."""
        command = [str(program), "--socket", self.socket, "--workers", str(workers)]
        command += ["--quarantine-after", "0", *options]  # tests crash alike again and again
        command += [engine_path(engine), *(["--", *args] if args else [])]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=pass_fds,
                preexec_fn=preexec,  # noqa: PLW1509 - it runs one or two system calls
                cwd=self.directory,
                env=clean_environment()
                | {"STATE_DIRECTORY": str(self.crash_directory.parent)}
                | (environment or {}),
            )
        self.took_session()
        return self

    def took_session(self) -> None:
        """`process` is new."""
        assert self.process is not None
        self._sessions.append(self.process.pid)

    def start(self, engine: str = "echo", *options: str, full: bool = True, **how: Any) -> Server:
        """Start and wait until it serves; with `full` until every worker is ready."""
        self.launch(engine, *options, **how)
        self.wait_serving()
        if full:
            self.wait_full_strength()
        return self

    def wait_serving(self, timeout: float = START_TIMEOUT) -> None:
        command = [str(COHAB), "--socket", self.socket, "ping", "--wait", f"{timeout:g}"]
        ping = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            wait_until(
                lambda: ping.poll() is not None or self.exit_code() is not None, timeout + 5, "a first ping"
            )
            if self.exit_code() is not None:
                raise ServerEnded(f"the server ended ({self.exit_code()}):\n{self.log()}")
            assert ping.returncode == 0, f"no answer: {self.log()}"
        finally:
            ping.kill()
            ping.communicate()

    def exit_code(self) -> int | None:
        """As subprocess has it: negative for a signal; None while it runs."""
        assert self.process is not None
        return self.process.poll()

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_end(self, timeout: float = STOP_TIMEOUT) -> int:
        """Wait for the master's end; its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.log()}") from None

    def wait_or_none(self, timeout: float) -> int | None:
        """The master's exit code, or None if it still runs after that long."""
        assert self.process is not None
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, number: int = signal.SIGTERM, timeout: float = STOP_TIMEOUT) -> int:
        """Stop and return the exit code."""
        self.send_signal(number)
        return self.wait_end(timeout)

    # ---- what it says

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_lines(self, level: str = "") -> list[str]:
        """The texts of the log's lines of one level, or of all."""
        matches = (_LOG_LINE.match(line) for line in self.log().splitlines())
        return [m["text"] for m in matches if m and level in ("", m["level"])]

    def wait_log(self, pattern: str, count: int = 1, timeout: float = 10.0) -> None:
        wait_until(
            lambda: len(re.findall(pattern, self.log())) >= count,
            timeout,
            f"{pattern!r} {count} times in the log",
        )

    def expect_error(self, pattern: str) -> None:
        """Lines of level error that match are part of the test."""
        self._expected_errors.append(pattern)

    def unexpected_errors(self) -> list[str]:
        return [
            line
            for line in self.log_lines("error")
            if not any(re.search(pattern, line) for pattern in self._expected_errors)
        ]

    # ---- what it shows

    def cli(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run_cohab("--socket", self.socket, *arguments, **options)

    def status(self) -> dict[str, Any]:
        result = self.cli("status", "--json")
        assert result.returncode == 0, f"status: {result.stderr}\n{self.log()}"
        status: dict[str, Any] = json.loads(result.stdout)
        return status

    def workers(self, state: str = "") -> list[int]:
        """The pids of the workers, or of those in one state."""
        return [w["pid"] for w in self.status()["workers"] if w["pid"] and state in ("", w["state"])]

    def is_full_strength(self) -> bool:
        workers = self.status()["workers"]
        return all(w["pid"] and w["state"] in ("idle", "busy") for w in workers)

    def wait_full_strength(self, timeout: float = 15.0) -> list[int]:
        wait_until(self.is_full_strength, timeout, "every worker ready")
        return self.workers()

    def wait_all_idle(self, timeout: float = 15.0) -> list[int]:
        def all_idle() -> bool:
            return all(w["state"] == "idle" for w in self.status()["workers"])

        wait_until(all_idle, timeout, "every worker idle")
        return self.workers()

    def wait_replaced(self, gone: Sequence[int], timeout: float = 15.0) -> list[int]:
        """Wait until none of these pids is a worker and all places are taken; the pids of now."""

        def replaced() -> bool:
            workers = self.status()["workers"]  # one look: between two a worker may die
            ready = all(w["pid"] and w["state"] in ("idle", "busy") for w in workers)
            return ready and not set(gone) & {w["pid"] for w in workers}

        wait_until(replaced, timeout, f"workers {list(gone)} replaced")
        return self.workers()

    def forkserver(self) -> int:
        """Its pid, once it has one."""

        def find() -> list[int]:
            return self.children_titled("cohab: forkserver")

        return wait_until(find, what="a forkserver")[0]

    def starting_workers(self) -> list[int]:
        """Workers in their start(), while the server serves."""
        return self.workers("starting")

    def children(self) -> list[int]:
        """The forkserver and the workers."""
        return [pid for pid in children_of(self.pid) if not title_of(pid).startswith("cohab: reporter")]

    def children_titled(self, words: str) -> list[int]:
        return [pid for pid in children_of(self.pid) if words in title_of(pid)]

    def tree(self) -> list[int]:
        """Every living process that it has started, and itself."""
        return [pid for session in self._sessions for pid in session_members(session)]

    # ---- talking to it

    def raw(self, timeout: float = 20.0) -> Raw:
        connection = Raw(self.socket, timeout)
        self._raws.append(connection)
        return connection

    def client(self, **options: Any) -> cohab.Client:
        options.setdefault("timeout", 20.0)
        client = cohab.connect(self.socket, **options)
        self._clients.append(client)
        return client

    # ---- the end

    def tear_down(self) -> list[str]:
        """End everything, and say what was not as it should be."""
        for raw in self._raws:
            raw.close()
        for client in self._clients:
            client.close()
        complaints = []
        if self.process is not None and self.exit_code() is None:
            self.send_signal(signal.SIGCONT)
            self.send_signal(signal.SIGQUIT)  # what runs still is of no more interest
            try:
                self.wait_end()
            except AssertionError:
                complaints.append(f"the server did not stop within {STOP_TIMEOUT:g} s")
                self.process.kill()
                self.process.wait()
        complaints += self._kill_leftovers()
        complaints += [f"unexpected in the log: {line}" for line in self.unexpected_errors()]
        complaints += [
            f"sanitizer: {line}" for line in re.findall(r".*(?:Sanitizer|runtime error).*", self.log())
        ]
        return complaints

    def _kill_leftovers(self) -> list[str]:
        try:
            wait_until(lambda: not self.tree(), 5.0)
        except AssertionError:
            left = {pid: f"{title_of(pid)!r} ({state_of(pid)})" for pid in self.tree()}
            for pid in left:
                signal_quietly(pid, signal.SIGKILL)
            wait_until(lambda: not any(is_alive(pid) for pid in left), 5.0)
            return [f"left behind: {left}"]
        return []


class Gate:
    """Holds calls of fault.block and releases them one by one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()

    @property
    def path(self) -> str:
        return str(self.directory)

    def started(self) -> list[tuple[str, int]]:
        """(name, pid of the worker) of all calls that have begun so far, in order."""
        log = self.directory / "started"
        if not log.exists():
            return []
        pairs = (line.split() for line in log.read_text().splitlines())
        return [(name, int(pid)) for name, pid in pairs]

    def names(self) -> list[str]:
        return [name for name, _ in self.started()]

    def wait_started(self, count: int, timeout: float = 15.0) -> list[tuple[str, int]]:
        wait_until(lambda: len(self.started()) >= count, timeout, f"{count} calls begun")
        return self.started()

    def pid_of(self, name: str) -> int:
        wait_until(lambda: name in self.names(), what=f"call {name} begun")
        return dict(self.started())[name]

    def release(self, name: str) -> None:
        fd = os.open(self.directory / name, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, b"!")
        finally:
            os.close(fd)

    def release_all(self) -> None:
        for name in os.listdir(self.directory):
            if name != "started":
                self.release(name)
