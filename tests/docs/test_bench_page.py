"""docs/bench.md: its commands are run, and their outputs have the form that the page shows."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_blocks import blocks_of, rows_under
from docs_server import BUILD, wait_until
from docs_shell import Shell, steps_of

PAGE = "bench.md"


@pytest.fixture
def shell(directory: Path) -> Iterator[Shell]:
    (directory / "build").symlink_to(BUILD)
    shell = Shell(directory)
    yield shell
    shell.close()


def form_of(line: str) -> str:
    """A line without its figures: they differ from run to run, and so do their units and the columns."""
    line = re.sub(r"[\d,.]*\d(e-\d+)?( (us|ms|s)\b)?", "#", line)
    return re.sub(r" +", " ", line)


def has_form(output: list[str], shown: list[str]) -> bool:
    return len(output) == len(shown) and all(
        form_of(line).startswith(form_of(page.removesuffix("...")))
        if page.endswith("...")
        else form_of(line) == form_of(page)
        for line, page in zip(output, shown, strict=True)
    )


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


def test_commands(shell: Shell, directory: Path) -> None:
    for block in (block for block in blocks_of(PAGE) if block.language == "console"):
        for command, shown in steps_of(block):
            status, output = shell.run(command)
            place = f"{PAGE}:{block.line}: $ {command}\n" + "\n".join(output)
            assert has_form(output, shown), place
            assert status == 0, place
            if command.startswith("build/bench/raw_echo"):
                wait_until(lambda: is_listening(directory / "raw.sock"), "raw_echo listens")


def test_keys_of_the_report(shell: Shell) -> None:
    shell.run("cohabd --socket s echo &")
    shell.run("cohab --socket s ping --wait 10")
    _, (line,) = shell.run("cohab --socket s bench --json --warmup 0 --duration 0.2 echo 1")
    report = json.loads(line)
    documented = [
        key for keys, *_ in rows_under(PAGE, "| key | value |") for key in re.findall(r"`([^`]+)`", keys)
    ]
    assert [key for key in documented if not key.startswith("timeline[]")] == list(report)
    assert {key.removeprefix("timeline[].") for key in documented if "[]" in key} == set(
        report["timeline"][0]
    )
