"""The load test itself, with the programs that were built: what it writes, what it refuses, how it ends."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from loadtest.results import Result
from loadtest.tables import table_of
from processes import children_of, is_alive, title_of, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("COHAB_BUILD_DIR", REPOSITORY / "build")).resolve()
TIMEOUT = 120.0

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module", autouse=True)
def _matplotlib() -> None:
    if not find_spec("matplotlib"):
        install = subprocess.run(
            [REPOSITORY / "scripts" / "venv", "loadtest"], capture_output=True, check=False
        )
        if install.returncode != 0:
            pytest.skip("matplotlib cannot be installed")


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cohab-load-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "loadtest", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY / "bench"), "COHABD": str(BUILD / "cohabd")}


def run(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **options,
    )


def run_scenario(directory: Path, text: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    scenario = directory / "s.toml"
    scenario.write_text(text)
    return run(scenario, "--output", directory / "out", *arguments)


def read_results(directory: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((directory / "results.json").read_text())
    return document


# ---- what it writes


def test_the_quick_scenario(directory: Path) -> None:
    result = run("quick", "--rounds", "1", "--duration", "0.3", "--output", directory)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    document = read_results(directory)
    assert document["complete"]
    assert len(document["points"]) == 9
    page = (directory / "report.html").read_text()
    groups: dict[str, list[Result]] = {}
    for data in document["points"]:
        point = Result.from_json(data)
        assert [one["bench"]["version"] for one in point.rounds] == [1]
        assert data["summary"]["calls"] == sum(count for _, count in data["rounds"][0]["bench"]["histogram"])
        groups.setdefault(point.point.group, []).append(point)
    for members in groups.values():
        for row in table_of(members)[1]:
            assert "".join(f"<td>{escape(cell)}</td>" for cell in row) in page
            assert re.search(r"\s+".join(map(re.escape, row)), result.stdout)
    check_pictures(directory, page)
    names = {path.stem for path in directory.glob("*.svg")}
    expected = {
        "small-calls-throughput-workers",
        "small-calls-throughput-connections",
        "offered-load-load",
        "kills-time",
    }
    assert names == expected | {f"{name}-distribution" for name in ("small-calls", "offered-load", "kills")}


def check_pictures(directory: Path, page: str) -> None:
    """Each is there as PNG and SVG, and the SVG is in the report."""
    drawings = sorted(directory.glob("*.svg"))
    assert drawings
    assert page.count("<img ") == len(drawings)
    for drawing in drawings:
        assert b"<svg" in drawing.read_bytes()
        assert base64.b64encode(drawing.read_bytes()).decode() in page
        assert drawing.with_suffix(".png").read_bytes().startswith(PNG)
    assert len(list(directory.glob("*.png"))) == len(drawings)


def test_results_are_drawn_anew(directory: Path) -> None:
    text = "rounds = 2\nwarmup = 0\nduration = 0.2\nworkers = [1, 2]"
    assert run_scenario(directory, text).returncode == 0
    again = run(directory / "out" / "results.json", "--output", directory / "again")
    assert again.returncode == 0, again.stderr
    for name in ("report.html", "throughput-workers.svg", "distribution.svg"):
        assert (directory / "again" / name).read_bytes() == (directory / "out" / name).read_bytes()


def test_kills_are_made_and_recorded(directory: Path) -> None:
    text = (
        "rounds = 1\nduration = 1\nworkers = 2\nconnections = 4\nwork = {sleep = 0.01}\nkill_every = [0, 0.2]"
    )
    result = run_scenario(directory, text)
    assert result.returncode == 0, result.stderr
    spared, killed = read_results(directory / "out")["points"]
    assert spared["summary"]["kills"] == 0
    assert spared["summary"]["errors"] == {}
    kills = killed["rounds"][0]["kills"]
    assert kills
    assert kills == sorted(kills)
    # Of all calls only those may fail that a killed worker was working for.
    assert sum(killed["summary"]["errors"].values()) <= len(kills)
    assert killed["summary"]["calls"] > 0
    check_pictures(directory / "out", (directory / "out" / "report.html").read_text())


def test_a_method_of_another_engine(directory: Path) -> None:
    text = (
        'rounds = 1\nwarmup = 0\nduration = 0.2\nengine = "spell"\nengine_args = ["en_US"]\n'
        'work = {method = "suggest", arguments = ["recieve", 3]}'
    )
    result = run_scenario(directory, text)
    assert result.returncode == 0, result.stderr
    (point,) = read_results(directory / "out")["points"]
    assert point["summary"]["calls"] > 0
    assert point["summary"]["errors"] == {}


def test_list_measures_nothing(directory: Path) -> None:
    result = run_scenario(directory, "workers = [1, 2]\nduration = 9.5", "--list")
    assert result.returncode == 0
    assert "2 points, 3 rounds: at least 1 min 0 s" in result.stdout
    assert not (directory / "out").exists()


# ---- what it refuses


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("workers = ", "s.toml: not TOML: "),
        ("worker = 1", "s.toml: unknown key 'worker'; did you mean 'workers'?"),
        ('engine = "nosuch"', "s.toml: engine: 'nosuch': no engine named 'nosuch' in "),
        ('engine = "./no.so"', "s.toml: engine: './no.so': cannot open engine"),
        (
            '[[group]]\nname = "a"\nwork = {method = "sing"}',
            "s.toml: group 'a': work: engine 'echo' has no method",
        ),
    ],
)
def test_a_wrong_scenario(directory: Path, text: str, error: str) -> None:
    result = run_scenario(directory, text)
    assert result.returncode == 2
    assert result.stderr.startswith(f"loadtest: {directory}/{error}")
    assert result.stderr.count("\n") == 1


def test_files_that_cannot_be_used(directory: Path) -> None:
    missing = run(directory / "none.toml")
    assert (missing.returncode, missing.stderr) == (
        2,
        f"loadtest: {directory}/none.toml: No such file or directory\n",
    )
    unready = run("nosuch", cwd=directory)
    assert unready.returncode == 2
    assert "ready scenarios: kills, load, payload, quick, scale, workers\n" in unready.stderr
    (directory / "file").touch()
    (directory / "s.toml").touch()
    output = run(directory / "s.toml", "--output", directory / "file" / "out")
    assert output.returncode == 2
    assert output.stderr.startswith(f"loadtest: cannot write to {directory}/file/out: Not a directory;")
    (directory / "r.json").write_text("{}")
    results = run(directory / "r.json")
    assert results.returncode == 2
    assert results.stderr.startswith(f"loadtest: {directory}/r.json: not the results of a load test")


def test_a_server_that_does_not_come_up_shows_its_own_words(directory: Path) -> None:
    result = run_scenario(directory, 'server_options = ["--nonsense"]')
    assert result.returncode == 1
    assert "loadtest: the server has ended (exit status 2); its last words:\n" in result.stderr
    assert "--nonsense" in result.stderr
    assert not (directory / "out" / "results.json").exists()


# ---- how it ends


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_was_measured_and_leaves_no_process(directory: Path, number: int) -> None:
    scenario = directory / "s.toml"
    scenario.write_text(
        'rounds = 2\nwarmup = 0\n[[group]]\nname = "short"\nduration = 0.2\n'
        '[[group]]\nname = "long"\nworkers = 2\nduration = 300\nkill_every = 100'
    )
    process = subprocess.Popen(
        command(scenario, "--output", directory / "out"),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(
            lambda: any("--duration 300" in title_of(pid) for pid in children_of(process.pid)), TIMEOUT
        )
        started = descendants(process.pid)
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 130
    assert errors == "loadtest: interrupted\n"
    document = read_results(directory / "out")
    assert not document["complete"]
    assert [(point["group"], len(point["rounds"])) for point in document["points"]] == [("short", 1)]
    assert "ended before its last round" in (directory / "out" / "report.html").read_text()
    wait_until(lambda: not [pid for pid in started if is_alive(pid)], what=f"the end of {started}")


def descendants(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        found += children_of(one)
    return found[1:]
