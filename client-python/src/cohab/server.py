"""A server process of one's own: find the program, start it, wait until it serves, stop it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from .errors import StartError
from .forks import tell_after_fork

logger = logging.getLogger("cohab.server")

PROGRAM = "cohabd"
_LOG_LINE = re.compile(r"\S+ \S+ cohabd\[\d+\] (?P<level>error|warn|info|debug) +(?P<text>.*)", re.DOTALL)
_LEVELS = {
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}
KEPT_LINES = 50
LONGEST_LINE = 8192

# The server ends within its own stop time-out; this much later something is wrong with it.
STOP_MARGIN = 5.0
DEFAULT_STOP_TIMEOUT = 30.0

# "/s" and, beside it, names that the server derives from the socket's, such as "/s.ctl".
_ROOM_FOR_NAMES = len("/cohab-xxxxxxxx/s.ctl.tmp")
_LONGEST_SOCKET_PATH = 107


def find_program(given: str | os.PathLike[str] | None) -> str:
    """Return the path of `cohabd`: as given, from $COHABD, beside this package, or from PATH.

    Raises StartError, which lists where it looked.
    """
    looked: list[str] = []
    for origin, name in (("cohabd=", given), ("$COHABD", os.environ.get("COHABD") or None)):
        if name is not None:
            # Whoever names a program wants this one or an error, not another.
            found = shutil.which(os.path.expanduser(os.fspath(name)))
            if found is None:
                raise StartError(
                    f"{origin}{os.fspath(name)!r} is not a program that can be run",
                    reason="NO_SERVER_PROGRAM",
                )
            return os.path.abspath(found)
    package = Path(__file__).resolve().parent
    for directory in (package / "bin", package.parent / "cohab_server" / "bin"):
        candidate = directory / PROGRAM
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return str(candidate)
        looked.append(str(candidate))
    found = shutil.which(PROGRAM)
    if found is not None:
        return os.path.abspath(found)
    looked.append(f"PATH ({os.environ.get('PATH', '')})")
    raise StartError(
        f"{PROGRAM} was not found; looked at: the keyword cohabd= (not given), $COHABD (not set), "
        f"{', '.join(looked)}. Install the server or name it with cohabd=",
        reason="NO_SERVER_PROGRAM",
    )


def make_private_directory() -> str:
    """Create a directory that only this user can enter, with a name short enough for Unix sockets in it."""
    refused: list[str] = []
    for base in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"):
        if (
            not base
            or not os.path.isabs(base)
            or len(os.fsencode(base)) + _ROOM_FOR_NAMES > _LONGEST_SOCKET_PATH
        ):
            continue
        try:
            return tempfile.mkdtemp(prefix="cohab-", dir=base)
        except OSError as exc:
            refused.append(f"{base}: {exc.strerror}")
    raise StartError(
        f"no directory for the server's socket ({'; '.join(refused)}); set TMPDIR to a short, absolute path "
        "where you may write",
        reason="NO_DIRECTORY",
    )


def _pipe() -> tuple[int, int]:
    """os.pipe(), but never a descriptor that stands for the server's standard input or output."""
    ends = []
    for fd in os.pipe():
        if fd > 2:
            ends.append(fd)
        else:
            ends.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3))
            os.close(fd)
    return ends[0], ends[1]


class Server:
    """One running `cohabd`, its log, and the pipe that tells it whether we still live.

    Owned by the process that created it: in a forked child every method but the attributes does nothing.
    """

    def __init__(self, command: Sequence[str], *, directory: str, stop_timeout: float) -> None:
        """Start `command`, with ``--lifeline-fd FD`` as its first option.

        Once started, `directory` is removed by `stop`. Raises StartError if the program cannot be run.
        """
        self._owner = os.getpid()
        self._directory = directory
        self._stop_timeout = stop_timeout
        self._stopping = False
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        # File objects, because closing one twice closes nobody else's descriptor; unbuffered, because a
        # buffer has a lock, and a fork while the log is read would leave it locked in the child.
        lifeline, write_end = _pipe()
        read_end, log = _pipe()
        self._lifeline = open(write_end, "wb", buffering=0)  # noqa: SIM115 - `stop` closes them
        self._log = open(read_end, "rb", buffering=0)  # noqa: SIM115
        try:
            self._process = subprocess.Popen(
                [*command[:1], "--lifeline-fd", str(lifeline), "--remove-directory", *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,  # what an engine prints belongs to the log, not to our own output
                stderr=log,
                pass_fds=(lifeline,),
                start_new_session=True,  # Ctrl-C in a terminal is for us to handle first
            )
        except BaseException as exc:
            self._lifeline.close()
            self._log.close()
            if isinstance(exc, OSError):
                raise StartError(f"cannot run {command[0]}: {exc.strerror}", reason="START_FAILED") from exc
            raise
        finally:
            os.close(lifeline)
            os.close(log)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read_log, name="cohab-server-log", daemon=True)
        self._reader.start()
        tell_after_fork(self)

    def exit_status(self) -> str | None:
        """Return how the server ended, in words, or None while it runs. A forked child cannot tell."""
        if os.getpid() != self._owner:
            return None
        code = self._process.poll()
        if code is None:
            return None
        if code >= 0:
            return f"exit status {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    def last_words(self) -> str:
        """Return the last lines that the server wrote; after its end all that it wrote."""
        if self._process.poll() is not None:
            self._reader.join(1.0)  # a child that outlives the server may hold the pipe open
        return "\n".join(self._lines)

    def stop(self) -> None:
        """Stop the server, gracefully for as long as its stop time-out allows, and remove its directory.

        Does nothing in any process but the one that started it. Can be repeated.
        """
        if os.getpid() != self._owner or self._stopping:
            return
        self._stopping = True
        try:
            self._process.terminate()
            self._process.wait(self._stop_timeout + STOP_MARGIN)
        except subprocess.TimeoutExpired:
            logger.error("server %d did not stop in time and is killed", self.pid)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            self._lifeline.close()
            if threading.current_thread() is not self._reader:  # which may be the one that collects a pool
                self._reader.join(1.0)
            shutil.rmtree(self._directory, ignore_errors=True)

    def after_fork_in_child(self) -> None:
        """Let go of what is the parent's: the server must notice its death in spite of this child."""
        self._lifeline.close()
        self._log.close()

    def _read_log(self) -> None:
        poller = select.poll()  # under gevent this waits for this greenlet alone, which os.read would not
        poller.register(self._log, select.POLLIN)
        pending = b""
        try:
            while True:
                poller.poll()
                chunk = os.read(self._log.fileno(), 65536)
                *lines, pending = (pending + chunk).split(b"\n")
                if pending and (not chunk or len(pending) > LONGEST_LINE):
                    lines, pending = [*lines, pending], b""
                for line in lines:
                    self._log_line(line)
                if not chunk:
                    break
        finally:
            self._log.close()
        if not self._stopping:
            self._process.wait()
            logger.error("server %d has ended by itself (%s)", self.pid, self.exit_status())

    def _log_line(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        self._lines.append(text)
        match = _LOG_LINE.match(text)
        if match is None:  # an engine's own
            logger.info("%s", text)
        else:
            logger.log(_LEVELS[match["level"]], "%s", match["text"])
