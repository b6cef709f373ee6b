"""Crash reports as they lie in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgpack
from harness import Server
from processes import wait_until


def read_report(path: Path) -> dict[str, Any]:
    report: dict[str, Any] = msgpack.unpackb(path.read_bytes(), strict_map_key=False)
    return report


def report_paths(directory: Path, suffix: str = "crash") -> list[Path]:
    return sorted(directory.glob(f"*.{suffix}"), key=lambda path: [int(n) for n in path.stem.split("-")])


def report_of(server: Server, ident: str) -> dict[str, Any]:
    """The report of that id, once it is there: a caller may know of it a moment before."""
    path = server.crash_directory / f"{ident}.crash"
    wait_until(path.exists, what=f"report {ident}")
    return read_report(path)


def wait_reports(server: Server, count: int = 1, suffix: str = "crash") -> list[dict[str, Any]]:
    """All reports, once there are that many; oldest first."""
    directory = server.crash_directory
    wait_until(lambda: len(report_paths(directory, suffix)) >= count, what=f"{count} reports")
    return [read_report(path) for path in report_paths(directory, suffix)]


def last_report(server: Server) -> dict[str, Any]:
    """That of the last worker that died. Its caller may not have been told: nobody waits for it for long."""
    ident = wait_until(lambda: server.status()["deaths"][0]["report"], 20.0, "the report of the last death")
    return report_of(server, ident)


def symbols_of(stack: Sequence[dict[str, Any]]) -> list[str]:
    return [frame["symbol"] for frame in stack if frame["symbol"]]
