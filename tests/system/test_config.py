"""Where options come from: command line, environment, file, default; and what a file may have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import StartServer
from harness import COHABD, clean_environment, engine_path, run_cohab, run_cohabd


def shown(*arguments: str, environment: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """`cohabd --show-config`: value and origin of each name."""
    result = run_cohabd(*arguments, "--show-config", env=clean_environment() | (environment or {}))
    assert result.returncode == 0, result.stderr
    found = {}
    for line in result.stdout.splitlines():
        words, origin = line.split("#")
        name, _, value = words.strip().partition(" ")
        found[name] = (value.strip(), origin.strip())
    return found


@pytest.fixture
def conf(directory: Path) -> Path:
    return directory / "cohab.conf"


def refused(conf: Path, text: str, *arguments: str) -> list[str]:
    """Lines of standard error, of a file that is refused."""
    conf.write_text(text)
    result = run_cohabd("--config", str(conf), *arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    return result.stderr.splitlines()


def test_the_first_of_four_wins(conf: Path) -> None:
    conf.write_text("max-connections = 10\nmax-frame = 2M\nspare = 1\n")
    environment = {"COHAB_MAX_CONNECTIONS": "20", "COHAB_MAX_FRAME": "3M"}
    found = shown("--config", str(conf), "--max-connections", "30", environment=environment)
    assert found["max-connections"] == ("30", "command line")
    assert found["max-frame"] == ("3M", "environment, COHAB_MAX_FRAME")
    assert found["spare"] == ("1", f"{conf}:3")
    assert found["stop-timeout"] == ("30", "default")


def test_a_server_from_a_file_alone(conf: Path, directory: Path) -> None:
    """Its children are given what the file says: max-frame is the workers' business, --spare the master's."""
    log = directory / "hooks"
    conf.write_text(
        f"[cohab]\nengine = {engine_path('fault')}\narg = log\narg = {log}\nmax-frame = 4K\nspare = 1\n"
    )
    socket = directory / "from-file"
    with conf.open("a") as file:
        file.write(f"socket = {socket}\nworkers = 1\nlog-requests = yes\n")
    process = subprocess.Popen(
        [COHABD, "--config", str(conf)],
        env=clean_environment() | {"STATE_DIRECTORY": str(directory)},
        stderr=subprocess.PIPE,
    )
    try:
        assert run_cohab("--socket", str(socket), "ping", "--wait", "20").returncode == 0
        assert log.read_text().startswith("load ")
        result = run_cohab("--socket", str(socket), "call", "echo", "x" * 5000)
        assert "TOO_LONG" in result.stderr
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)
    assert b"cohab.ping()" in errors
    assert process.returncode == 0


def test_all_that_is_wrong_is_said(conf: Path) -> None:
    text = """\
# comment
workers = many
colour = blue
nothing
slow = 1
slow = 2

[other]
max-frame = 1M
[cohab]
check = on
socket-mode = 9
"""
    assert refused(conf, text) == [
        f"cohabd: {conf}:2: workers takes a number from 1 to 256, or two such as 2:8, not 'many'",
        f"cohabd: {conf}:3: there is no option 'colour'",
        f"cohabd: {conf}:4: this is no 'name = value'",
        f"cohabd: {conf}:6: 'slow' stands twice; first in line 5",
        f"cohabd: {conf}:9: there is no section [other]: options stand in [cohab], or in none",
        f"cohabd: {conf}:11: 'check' is an option of the command line alone",
        f"cohabd: {conf}:12: socket-mode takes an octal mode such as 0660, not '9'",
    ]


def test_a_bad_value_is_said_even_where_it_loses(conf: Path) -> None:
    lines = refused(conf, "workers = 0\n", "--workers", "2")
    assert lines == [f"cohabd: {conf}:1: workers takes a number from 1 to 256, or two such as 2:8, not '0'"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("arg = x\n", "arguments of an engine, and no 'engine'"),
        ("engine = a\nengine = b\n", "'engine' stands twice; first in line 1"),
        ("log-file = " + "x" * 500 + "\n", "the line is too long"),
        ("= 3\n", "this is no 'name = value'"),
        ("[cohab\n", "this is no 'name = value'"),
        ("core = perhaps\n", "core takes on or off, not 'perhaps'"),
    ],
)
def test_what_a_file_may_not_have(conf: Path, text: str, why: str) -> None:
    assert [line.split(": ", 2)[2] for line in refused(conf, text)] == [why]


def test_what_a_file_may_have(conf: Path) -> None:
    text = b"  workers = 2 ; two\n\n# max-frame = 1\n;\n[cohab]\n\tslow: 0.5\ncore = true\nengine=echo"
    conf.write_bytes(b"\xef\xbb\xbf" + text)
    found = shown("--config", str(conf))
    assert found["workers"] == ("2", f"{conf}:1")
    assert found["slow"] == ("0.5", f"{conf}:6")
    assert found["core"] == ("on", f"{conf}:7")
    assert found["engine"] == ("echo", f"{conf}:8")


def test_files_that_cannot_be_read(directory: Path) -> None:
    for path, why in ((directory / "none", "No such file or directory"), (directory, "Is a directory")):
        result = run_cohabd("--config", str(path))
        assert result.returncode == 2
        assert result.stderr == f"cohabd: --config {path}: {why}\n"


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("COHAB_WORKERS", "x", "COHAB_WORKERS takes a number from 1 to 256, or two such as 2:8, not 'x'"),
        ("COHAB_LOG_REQUESTS", "maybe", "COHAB_LOG_REQUESTS takes on or off, not 'maybe'"),
    ],
)
def test_bad_values_in_the_environment(name: str, value: str, why: str) -> None:
    result = run_cohabd("--socket", "/nowhere/s", "echo", env=clean_environment() | {name: value})
    assert result.returncode == 2
    assert result.stderr == f"cohabd: {why}; see cohabd --help\n"


def test_other_variables_are_none_of_its_business() -> None:
    environment = {"COHAB_SOMETHING": "x", "COHAB_CHECK": "on", "COHAB_HELP": "1", "COHAB_SLOW": ""}
    assert shown(environment=environment)["slow"] == ("0", "default")


def test_the_command_lines_engine_wins_with_its_arguments(conf: Path) -> None:
    conf.write_text("engine = fault\narg = load-fail\n")
    assert run_cohabd("--config", str(conf), "--check").returncode == 1
    assert run_cohabd("--config", str(conf), "--check", "fault").returncode == 0
    assert run_cohabd("--config", str(conf), "--check", "--", "load-print", "x").returncode == 0


def test_workers_are_started_as_the_environment_says(start: StartServer) -> None:
    server = start("echo", environment={"COHAB_MAX_FRAME": "4K", "COHAB_SPARE": "1"}, full=False)
    assert server.status()["server"]["spare"] == 1
    raw = server.raw()
    raw.ask("echo", "x" * 5000)
    assert raw.receive().reason == "TOO_LONG"


def test_help_has_every_option_in_columns() -> None:
    text = run_cohabd("--help").stdout
    for line in text.splitlines():
        assert len(line) <= 100, line
        assert line == line.rstrip()
    for name in shown():
        assert name in ("engine", "arg") or f"  --{name} " in text or f"  --{name}\n" in text
