"""Runs what docs/operations.md shows: its sh blocks, in order, against a socket of the test's own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_blocks import DOCS, blocks_of
from docs_server import BUILD
from docs_shell import Shell

PAGE = DOCS / "operations.md"
SOCKET = "/run/cohab/echo.sock"


@pytest.fixture
def shell(directory: Path) -> Iterator[Shell]:
    (directory / "libecho.so").symlink_to(BUILD / "engine" / "libecho.so")
    shell = Shell(directory)
    yield shell
    shell.run(f"cohab --socket {directory}/s stop")
    shell.close()


def test_every_command(shell: Shell, directory: Path) -> None:
    commands = [
        line.replace(SOCKET, f"{directory}/s")
        for block in blocks_of(PAGE)
        if block.language == "sh"
        for line in block.text.splitlines()
        if SOCKET in line
    ]
    assert len(commands) >= 6
    serving = [command for command in commands if command.startswith("cohabd ")]
    assert serving
    for command in serving:
        shell.run(f"{command} &")
        status, output = shell.run(f"cohab --socket {directory}/s ping --wait 20")
        assert status == 0, output
        for question in commands:
            if question in serving:
                continue
            status, output = shell.run(question)
            assert status == 0, (question, output)
        assert shell.run(f"cohab --socket {directory}/s stop")[0] == 0


def test_the_configuration_file(shell: Shell, directory: Path) -> None:
    """The page's file is whole, and its commands do what it says."""
    (example,) = (block for block in blocks_of(PAGE) if block.language == "ini")
    (directory / "spell.conf").write_text(example.text)
    commands = [
        line.replace("/etc/cohab/spell.conf", f"{directory}/spell.conf")
        for block in blocks_of(PAGE)
        if block.language == "sh"
        for line in block.text.splitlines()
        if "/etc/cohab/spell.conf" in line
    ]
    assert len(commands) == 2
    for command in commands:
        status, output = shell.run(command)
        assert status == 0, output
    assert any(line.startswith("workers") and "2:8" in line and "spell.conf:6" in line for line in output)


def test_what_ps_prints(shell: Shell, directory: Path) -> None:
    shell.run(f"cohabd --socket {directory}/s --workers 1 echo &")
    shell.run(f"cohab --socket {directory}/s ping --wait 20")
    shell.run(f"cohab --socket {directory}/s call sleep 30 &")
    heading: list[str] = []
    while not heading:
        status, output = shell.run(f"cohab --socket {directory}/s ps")
        assert status == 0
        heading = [line for line in output if line.startswith("WORKER")]
    assert " ".join(heading[0].split()) in " ".join(PAGE.read_text().split())
    assert shell.run(f"cohab --socket {directory}/s kill 1")[0] == 0


def test_what_a_reload_prints(shell: Shell, directory: Path) -> None:
    shell.run(f"cohabd --socket {directory}/s --workers 2 echo &")
    shell.run(f"cohab --socket {directory}/s ping --wait 20")
    status, output = shell.run(f"cohab --socket {directory}/s reload")
    assert status == 0
    assert output[0].startswith("generation 2 serves: echo 0.1.0, 2 workers replaced in ")
    assert "`generation 2 serves: echo 0.1.0, 2 workers replaced in " in PAGE.read_text()


def test_every_option_and_signal_is_explained() -> None:
    page = PAGE.read_text()
    words = subprocess.run(
        [str(BUILD / "cohabd"), "--help"], check=True, capture_output=True, text=True
    ).stdout
    options = re.findall(r"^  (--[a-z-]+)", words, re.MULTILINE)
    assert len(options) > 30
    assert [option for option in options if not re.search(rf"`{option}[` =]", page)] == []
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2"):
        assert f"| {name}" in page or f", {name}" in page, name


def test_the_status_is_json(shell: Shell, directory: Path) -> None:
    shell.run(f"cohabd --socket {directory}/s --workers 1 echo &")
    shell.run(f"cohab --socket {directory}/s ping --wait 20")
    command = [str(BUILD / "cohab"), "--socket", f"{directory}/s", "status", "--json"]
    status = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert status["workers"][0]["private"] > 0
