"""Processes as /proc shows them, and waiting for what must come true."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Callable, TypeVar

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """Return the first true value of `predicate`; fail when none has come after `timeout` seconds."""
    end = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout:g} s: {what or predicate}; last value {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, or none if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return text[text.rindex(")") + 2 :].split()


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def state_of(pid: int) -> str:
    """R, S, D, T, Z... or the empty string."""
    fields = _stat(pid)
    return fields[0] if fields else ""


def parent_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def group_of(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[2]) if fields else 0


def cpu_ticks(pid: int) -> int:
    """CPU time that the process has used, in ticks of 1/100 s."""
    fields = _stat(pid)
    return int(fields[11]) + int(fields[12])


def is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z", "X")


def children_of(pid: int) -> list[int]:
    return sorted(child for child in all_pids() if parent_of(child) == pid)


def session_members(session: int) -> list[int]:
    """The living processes of a session, whoever their parents are by now."""
    found = []
    for pid in all_pids():
        fields = _stat(pid)
        if fields and int(fields[3]) == session and fields[0] not in "ZX":
            found.append(pid)
    return found


def title_of(pid: int) -> str:
    """What ps shows: the command line, cut at its padding."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def descriptors_of(pid: int) -> list[str]:
    """What the open descriptors lead to, sorted, without the inode numbers."""
    found = []
    directory = f"/proc/{pid}/fd"
    for name in os.listdir(directory):
        try:
            found.append(os.readlink(f"{directory}/{name}").split(":[")[0])
        except FileNotFoundError:
            continue
    return sorted(found)


def settled_descriptors(pid: int) -> list[str]:
    """The same, once it stays the same: `cohab status` leaves a connection behind for a moment."""
    seen = [descriptors_of(pid)]

    def settled() -> bool:
        seen.append(descriptors_of(pid))
        return len(seen) > 10 and all(one == seen[-1] for one in seen[-10:])

    wait_until(settled, what="descriptors that stay the same")
    return seen[-1]


def private_memory(pid: int) -> int:
    """Anonymous memory of the process in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no RssAnon of process {pid}")


def resident_memory(pid: int) -> int:
    """Anonymous and shared memory of the process in bytes: what it has for itself and its request buffer."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))


def huge_pages(pid: int) -> int:
    """Anonymous memory of the process that lies on huge pages, in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("AnonHugePages:"):
            return int(line.split()[1]) * 1024
    return 0


def signal_quietly(pid: int, number: int) -> bool:
    """Send a signal; False if there is no such process any more."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
