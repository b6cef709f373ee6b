"""A service manager for tests: it holds the socket, is notified, and starts a server as systemd does."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

from harness import COHABD, Server, clean_environment, engine_path
from processes import wait_until

# The variables hold the pid of the process that gets the descriptors, which is this very one.
_EXEC = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), WATCHDOG_PID=str(os.getpid()))
given = os.environ.pop("FD")
if given:
    os.dup2(int(given), 3)
    os.set_inheritable(3, True)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Manager:
    def __init__(self, server: Server, *, notify: str = "") -> None:
        self.server = server
        self.heard: list[str] = []
        self.notify_path = notify or str(server.directory / "notify")
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind("\0" + notify[1:] if notify.startswith("@") else self.notify_path)
        self.listener: socket.socket | None = None

    def listen(self, address: str = "") -> socket.socket:
        """Listen on the server's socket, in its place."""
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(address or self.server.socket)
        self.listener.listen(64)
        return self.listener

    def close(self) -> None:
        self._notify.close()
        if self.listener:
            self.listener.close()

    def start(
        self,
        engine: str = "fault",
        *options: str,
        args: tuple[str, ...] = (),
        workers: int = 2,
        hand: socket.socket | None = None,
        **variables: str,
    ) -> Server:
        """Start a server with what it is to inherit; `variables` are environment, over those of a manager."""
        hand = hand or self.listener
        environment = {
            **clean_environment(),
            "STATE_DIRECTORY": str(self.server.crash_directory.parent),
            "NOTIFY_SOCKET": self.notify_path,
            "FD": "",
        }
        if hand:
            environment |= {"LISTEN_FDS": "1", "FD": str(hand.fileno())}
        command = [str(COHABD), "--workers", str(workers), "--quarantine-after", "0", *options]
        command += [engine_path(engine), *(["--", *args] if args else [])]
        with self.server.log_path.open("ab") as log:
            self.server.process = subprocess.Popen(
                [sys.executable, "-ISc", _EXEC, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=[hand.fileno()] if hand else [],
                cwd=self.server.directory,
                env=environment | variables,
            )
        self.server.took_session()
        return self.server

    # ---- what it is told

    def hear(self) -> list[str]:
        """What has come by now; `heard` has all that ever came."""
        fresh: list[str] = []
        while select.select([self._notify], [], [], 0)[0]:
            fresh.append(self._notify.recv(4096).decode())
        self.heard += fresh
        return fresh

    def wait_heard(self, wanted: Callable[[str], bool], what: str, count: int = 1) -> list[str]:
        """Wait until so many messages that come from now on are wanted; all that came meanwhile."""
        came: list[str] = []

        def enough() -> bool:
            came.extend(self.hear())
            return sum(wanted(message) for message in came) >= count

        wait_until(enough, 20, f"{what}, in {came}")
        return came

    def wait_message(self, message: str, count: int = 1) -> list[str]:
        return self.wait_heard(lambda heard: heard == message, message, count)

    def wait_silence(self, message: str, seconds: float) -> None:
        """Wait until this message has not come for that long."""

        def silent() -> bool:
            self.hear()
            time.sleep(seconds)
            return message not in self.hear()

        wait_until(silent, 20, f"no {message}")


def fill(manager: Manager) -> socket.socket:
    """Write to the manager until its socket takes no more; the writer."""
    writer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    writer.setblocking(False)
    try:
        while True:
            writer.sendto(b"X=1", manager.notify_path)
    except BlockingIOError:
        return writer


def variables_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(word).split("=", 1) for word in words if b"=" in word)
