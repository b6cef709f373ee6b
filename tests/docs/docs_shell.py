"""Runs the console blocks of a page: commands, and the output that the page shows."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from docs_blocks import REPOSITORY, Block
from docs_server import BUILD, clean_environment, kill_session, session_members, wait_until

COMMAND_TIMEOUT = 120.0
END_OF_COMMAND = "\x1e"


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(BUILD), str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Of a cohabd built with the sanitizers: an engine's crash is to look as it does without them.
    sanitizer = {"ASAN_OPTIONS": "handle_segv=0:detect_leaks=0"}
    return {**sanitizer, **clean_environment(), "PATH": path, "COHAB": str(REPOSITORY), "LC_ALL": "C.UTF-8"}


class Shell:
    """One bash, which runs the commands of a session one after the other."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "server.log"
        self.process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment(),
            start_new_session=True,
        )

    def run(self, command: str) -> tuple[int, list[str]]:
        """Exit status and the lines of stdout and stderr. A server in the background writes to its log."""
        if command.endswith("&"):
            command = f"{command[:-1]} >>server.log 2>&1 &"
        assert self.process.stdin is not None
        self.process.stdin.write(f"{{ {command}\n}} </dev/null; printf '{END_OF_COMMAND}%d\\n' $?\n".encode())
        self.process.stdin.flush()
        output, status = self._read().split(END_OF_COMMAND)
        return int(status), output.splitlines()

    def _read(self) -> str:
        assert self.process.stdout is not None
        data = b""
        end = time.monotonic() + COMMAND_TIMEOUT
        while not re.search(rf"{END_OF_COMMAND}\d+\n$".encode(), data):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"the command does not end; so far: {data!r}"
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, f"the shell ended: {data!r}"
            data += part
        return data.decode()

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        kill_session(self.process.pid)
        self.process.wait()


def steps_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the output that the page shows."""
    command, shown = "", []
    for line in block.text.splitlines():
        if not line.startswith("$ "):
            assert command, f"line {block.line}: output before the first command"
            shown.append(line)
            continue
        if command:
            yield command, shown
        command, shown = line[2:], []
    yield command, shown


def _as_pattern(shown: list[str]) -> str:
    """A line `...` stands for any lines, `...` within a line for anything in it."""
    pattern = ""
    for line in shown:
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("..."))) + r"\n"
    return pattern


def run_session(shell: Shell, page: str, blocks: Iterable[Block]) -> None:
    """Run the console blocks, and compare what comes out with what the page shows."""
    for block in blocks:
        for command, shown in steps_of(block):
            status, output = shell.run(command)
            place = f"{page}:{block.line}: $ {command}\n" + "\n".join(output)
            assert re.fullmatch(_as_pattern(shown), "".join(f"{line}\n" for line in output)), place
            # A warning comes before a result, details of an error after it.
            errors = [line for line in shown if not line.startswith(("  ", "..."))]
            fails = bool(errors) and errors[-1].startswith(("cohab: ", "cohabd: "))
            assert (status != 0) == fails, f"status {status}: {place}"
    wait_until(lambda: session_members(shell.process.pid) == [shell.process.pid], "all servers have stopped")
