"""docs/debugging.md: the walk-through is run as it is written, and the table of keys is complete."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_blocks import blocks_of, rows_under
from docs_server import BUILD, running_server, wait_until
from docs_shell import Shell, run_session
from msgpack import unpackb

PAGE = "debugging.md"
BLOCKS = blocks_of(PAGE)
FILES = {name: block for block in BLOCKS if (name := block.option("file"))}
SESSIONS = list(dict.fromkeys(block.words[0] for block in BLOCKS if block.language == "console"))


@pytest.fixture
def shell(directory: Path) -> Iterator[Shell]:
    """In a directory with all files of the page."""
    for name, block in FILES.items():
        (directory / name).write_text(block.text, encoding="utf-8")
    shell = Shell(directory)
    yield shell
    shell.close()


@pytest.mark.parametrize("session", SESSIONS)
def test_commands(session: str, shell: Shell) -> None:
    run_session(
        shell, PAGE, (block for block in BLOCKS if block.language == "console" and block.words[0] == session)
    )


def test_the_table_names_every_key(directory: Path) -> None:
    reports = directory / "crashes"
    reports.mkdir()
    engine = BUILD / "engine" / "libfault.so"
    with running_server(directory, "--crash-dir", str(reports), engine=engine) as server:
        command = [str(BUILD / "cohab"), "--socket", server.path, "call", "crash"]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 1
        wait_until(lambda: list(reports.glob("*.crash")), "a report")
        command = [str(BUILD / "cohab"), "crash", "show", "latest", "--json", "--crash-dir", str(reports)]
        shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (path,) = reports.iterdir()
    report = unpackb(path.read_bytes())
    listed = " ".join(cell for row in rows_under(PAGE, "| key | type | meaning |") for cell in row)
    names = set(re.findall(r"[a-z_]+", " ".join(re.findall(r"`([^`]+)`", listed))))
    for key, value in report.items():
        assert key in names
        if isinstance(value, dict):
            assert set(value) <= names, key
    for frame in report["stack"]:
        assert set(frame) <= names
    assert set(report) == set(shown)


def test_tools_are_there() -> None:
    for tool in ("c++", "gdb", "pkg-config"):
        assert shutil.which(tool), tool
