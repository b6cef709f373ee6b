"""What `cmake --install` puts where, and that it works there: programs, engines, units, manual pages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeServer
from harness import BUILD, COHAB, COHABD, Server, clean_environment
from processes import wait_until

ENGINE = """
#include <cohab/engine.h>

static int twice(struct cohab_call *call)
{
    int64_t value;
    if (cohab_parse(call, "i", &value) < 0)
        return -1;
    return cohab_return(call, "i", 2 * value);
}

static const struct cohab_method methods[] = {
    {.name = "twice", .function = twice, .doc = "Doubles.", .signature = "twice(value: int) -> int"}};
const struct cohab_engine cohab_engine = {COHAB_ENGINE_HEADER(methods), .name = "doubler", .version = "1"};
"""
PAGES = {"cohab": BUILD / "man" / "cohab.1", "cohabd": BUILD / "man" / "cohabd.8"}


def run(*command: str | Path, **options: Any) -> str:
    """Run to its end, which must be a good one; what it printed."""
    result = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, timeout=50, **options
    )
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout + result.stderr


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", BUILD, "--prefix", path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def only(paths: Iterator[Path]) -> Path:
    [path] = paths
    return path


def serve(server: Server, command: Sequence[str]) -> None:
    environment = clean_environment() | {"STATE_DIRECTORY": str(server.crash_directory.parent)}
    with server.log_path.open("ab") as log:
        server.process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd="/", start_new_session=True
        )
    server.took_session()
    server.wait_serving()


# ---- where


def names(root: Path) -> set[str]:
    """The files below, without what lib may be called."""
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return {re.sub(r"^lib/[a-z0-9_]+-linux-gnu/", "lib/", name) for name in found}


EXPECTED = {
    "bin/cohab",
    "bin/cohabd",
    "bin/cohabd-reporter",
    "include/cohab/engine.h",
    "lib/cohab/engines/libecho.so",
    "lib/cohab/engines/libspell.so",
    "lib/pkgconfig/cohab.pc",
    "lib/systemd/system/cohab@.service",
    "lib/systemd/system/cohab@.socket",
    "lib/sysusers.d/cohab.conf",
    "share/man/man1/cohab.1",
    "share/man/man8/cohabd.8",
    "share/doc/cohab/spell.conf",
    "share/doc/cohab/docs/operations.md",
}


def test_files(prefix: Path) -> None:
    assert names(prefix) >= EXPECTED
    for program in ("cohab", "cohabd", "cohabd-reporter"):
        assert os.access(prefix / "bin" / program, os.X_OK)


def test_destdir(directory: Path) -> None:
    """Files go below DESTDIR; what names paths names those without it."""
    environment = {**os.environ, "DESTDIR": str(directory / "stage")}
    run("cmake", "--install", BUILD, "--prefix", "/usr", env=environment)
    root = directory / "stage" / "usr"
    assert names(root) >= EXPECTED
    unit = (root / "lib/systemd/system/cohab@.service").read_text()
    assert "ExecStart=/usr/bin/cohabd " in unit
    assert "ExecReload=/usr/bin/cohab " in unit
    assert str(directory) not in unit


# ---- that it works


def test_an_engine_of_one_s_own(prefix: Path, directory: Path, make_server: MakeServer) -> None:
    """Built by pkg-config's words, put where engines lie, served by its short name."""
    need("pkg-config")
    config = only(prefix.rglob("cohab.pc"))
    environment = {**os.environ, "PKG_CONFIG_PATH": str(config.parent)}
    flags = run("pkg-config", "--cflags", "cohab", env=environment).split()
    engines = Path(run("pkg-config", "--variable=enginedir", "cohab", env=environment).strip())
    assert run("pkg-config", "--modversion", "cohab", env=environment).strip() in run(COHABD, "--version")
    source = directory / "doubler.c"
    source.write_text(ENGINE)
    run("cc", "-shared", "-fPIC", *flags, "-o", engines / "libdoubler.so", source, cwd=directory)
    server = make_server()
    program = str(prefix / "bin/cohabd")
    serve(server, [program, "--socket", server.socket, "--workers", "1", "doubler"])
    assert run(prefix / "bin/cohab", "--socket", server.socket, "call", "twice", "21") == "42\n"
    wait_until(server.is_full_strength, what="every worker ready")


def start_words(unit: str, key: str, place: Path) -> list[str]:
    """The command of a unit, with its socket and its configuration in another place."""
    [line] = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
    here = line.replace("/run/cohab/%i.sock", str(place / "s")).replace(
        "/etc/cohab/%i.conf", str(place / "conf")
    )
    return here.split()


def test_the_unit_s_commands(prefix: Path, make_server: MakeServer) -> None:
    """Its server starts, and its reload works."""
    server = make_server()
    unit = (prefix / "lib/systemd/system/cohab@.service").read_text()
    (server.directory / "conf").write_text("engine = echo\nworkers = 1\nsocket = /nowhere\n")
    serve(server, start_words(unit, "ExecStart", server.directory))
    run(*start_words(unit, "ExecReload", server.directory))
    assert server.status()["engine"]["generation"] == 2
    assert server.raw().call("echo", 1).result == 1
    wait_until(server.is_full_strength, what="every worker ready")


def test_the_example_is_a_configuration(prefix: Path) -> None:
    example = prefix / "share/doc/cohab/spell.conf"
    assert run(prefix / "bin/cohabd", "--config", example, "--check").startswith("engine spell ")


# ---- units


def test_units_are_right(prefix: Path) -> None:
    need("systemd-analyze")
    units = prefix / "lib/systemd/system"
    said = run(
        "systemd-analyze", "verify", "--man=no", units / "cohab@.service", units / "cohab@.socket", cwd=units
    )
    assert said == ""


def test_the_unit_is_hardened(prefix: Path) -> None:
    need("systemd-analyze")
    unit = prefix / "lib/systemd/system/cohab@.service"
    said = run("systemd-analyze", "security", "--offline=yes", "--threshold=30", unit)
    assert "Overall exposure level" in said


# ---- manual pages


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_well_formed(name: str) -> None:
    need("mandoc")
    assert run("mandoc", "-T", "lint", "-W", "warning", PAGES[name]) == ""


def rendered(name: str) -> str:
    need("mandoc")
    return re.sub(r".\x08", "", run("mandoc", "-T", "utf8", PAGES[name]))


def test_every_option_has_its_place() -> None:
    page = rendered("cohabd")
    options = re.findall(r"--[a-z][a-z-]*", run(COHABD, "--help"))
    assert options
    for option in options:
        assert re.search(rf"^ +(--\w+, )?{option}\b", page, re.MULTILINE), option


def test_every_command_has_its_place() -> None:
    page = rendered("cohab")
    overview = run(COHAB, "--help").split("commands:\n")[1].split("\n\n")[0]
    commands = re.findall(r"^  (\w+)", overview, re.MULTILINE)
    assert "status" in commands
    for command in commands:
        assert re.search(rf"^ +cohab {command}\b", page, re.MULTILINE), command
        for option in re.findall(r"^  (--[a-z][a-z-]*)", run(COHAB, command, "--help"), re.MULTILINE):
            assert option in page, f"{command} {option}"


def test_signals_have_their_place() -> None:
    page = rendered("cohabd")
    for number in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGTTIN", "SIGTTOU"):
        assert number in page
