"""docs/loadtest.md: its scenario and its commands are run, its tables list what there is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import REPOSITORY, blocks_of, rows_under
from docs_server import BUILD, clean_environment

PAGE = "loadtest.md"
BLOCKS = blocks_of(PAGE)
TIMEOUT = 120.0
# scripts/loadtest without what this very run is part of: installing and building.
LOADTEST = 'scripts/loadtest() { "$PYTHON" -m loadtest "$@"; }'


def masked(text: str) -> list[str]:
    """Lines in which the numbers do not count, nor how wide they are."""
    return [" ".join(re.sub(r"\d[\d.,]*", "0", line).split()) for line in text.splitlines()]


def read_keys() -> set[str]:
    """Those that the readers in scenario.py know."""
    code = (REPOSITORY / "bench" / "loadtest" / "scenario.py").read_text(encoding="utf-8")
    readers = re.findall(r"^_(?:POINT|SCENARIO)_KEYS\b.*?^}", code, flags=re.MULTILINE | re.DOTALL)
    assert len(readers) == 2
    return set(re.findall(r'^    "(\w+)":', "".join(readers), flags=re.MULTILINE))


def listed(header: str) -> list[str]:
    return [cell for row in rows_under(PAGE, header) for cell in re.findall(r"`(\w+)`", row[0])]


def test_the_keys_are_those_that_are_read() -> None:
    assert set(listed("| key | meaning |")) == read_keys()


def test_the_scenarios_are_those_that_are_there() -> None:
    there = {path.stem for path in (REPOSITORY / "bench" / "scenarios").glob("*.toml")}
    assert set(listed("| scenario | what it shows |")) == there


def test_the_commands_and_what_they_print(directory: Path) -> None:
    pytest.importorskip("matplotlib", reason="scripts/venv loadtest has not been run")
    environment = {
        **clean_environment(),
        "COHABD": str(BUILD / "cohabd"),
        "PYTHON": sys.executable,
        "PYTHONPATH": str(REPOSITORY / "bench"),
        "PATH": os.environ["PATH"],
    }
    for block in BLOCKS:
        if name := block.option("file"):
            (directory / name).write_text(block.text)
    for block in (block for block in BLOCKS if block.language == "console"):
        commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
        expected = "\n".join(line for line in block.text.splitlines() if not line.startswith("$ "))
        result = subprocess.run(
            ["bash", "-c", "\n".join([LOADTEST, *commands])],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        missing = [line for line in masked(expected) if line not in masked(result.stdout)]
        assert not missing, f"{PAGE}:{block.line}:\n{result.stdout}"
