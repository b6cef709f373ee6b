"""bench/ping and the servers in C do what the comparisons need; and one comparison is run whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from compare.processes import PROGRAMS, ROOT, Failed, Process, directory, engine, ping, start_cohabd


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as servers:
        yield servers


def start(stack: ExitStack, program: str, *options: str, workers: int = 1) -> Path:
    path = directory(stack) / "s"
    Process(stack, [PROGRAMS / program, *options, path, str(workers)]).wait_for_socket(path)
    return path


def run_ping(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [PROGRAMS / "ping", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_same_request_to_an_echo_and_to_cohab(stack: ExitStack) -> None:
    raw = start(stack, "raw_echo", workers=2)
    several = directory(stack) / "s"
    Process(stack, [PROGRAMS / "raw_echo", several, "1", "2"]).wait_for_socket(several)
    _, cohab = start_cohabd(stack, engine("echo"), 2)
    for path, options in ((raw, ["--raw"]), (several, ["--raw"]), (cohab, [])):
        answer = ping(
            path, "--connections", "2", "--calls", "5", "--payload", "3000000", "--latencies", *options
        )
        assert answer["calls"] == len(answer["latencies"]) == 10
        latency = answer["latency"]
        assert latency["min"] <= latency["p50"] <= latency["p99"] <= latency["max"]
        assert answer["calls_per_second"] == pytest.approx(10 / answer["seconds"], rel=0.01)


def test_an_echo_is_no_answer(stack: ExitStack) -> None:
    with pytest.raises(Failed, match="5 of 5 calls got an error"):
        ping(start(stack, "raw_echo"), "--calls", "5")


@pytest.mark.parametrize("options", [(), ("--accept-per-request",)])
def test_prefork_answers_as_cohab_does(stack: ExitStack, options: tuple[str, ...]) -> None:
    path = start(stack, "prefork", *options, workers=2)
    each = ["--connect-each"] if options else []
    for work in (["--payload", "100000"], ["--sleep", "0.001"], ["--spin", "0.001"]):
        assert ping(path, "--connections", "3", "--calls", "2", *work, *each)["calls"] == 6


def test_a_schedule_says_when_and_over_which_connection(stack: ExitStack) -> None:
    path = start(stack, "prefork", workers=2)
    schedule = "0.00 0\n0.05 1\n0.06 1\n"
    options = ["--connections", "2", "--sleep", "0.03", "--schedule", "--latencies", "--one-by-one"]
    answer = ping(path, *options, schedule=schedule)
    assert answer["calls"] == 3
    assert answer["seconds"] >= 0.11  # both calls of connection 1, one after the other
    assert (
        answer["latencies"][2] >= 0.05
    )  # the last waited for the one before it, and counts from its own time


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ((), 2, "one SOCKET is needed"),
        (("--calls", "many", "s"), 2, "a number is missing, wrong or out of range"),
        (("--nonsense", "s"), 2, "nonsense"),
        (("/nonexistent/s",), 1, "/nonexistent/s: No such file or directory"),
    ],
)
def test_ping_says_what_is_wrong(arguments: tuple[str, ...], status: int, says: str) -> None:
    result = run_ping(*arguments)
    assert result.returncode == status
    assert says in result.stderr


def test_a_schedule_with_a_mistake_is_refused() -> None:
    command = [PROGRAMS / "ping", "--schedule", "s"]
    for schedule, says in (
        ("0.1 7\n", "a connection of the schedule"),
        ("soon 0\n", "a line of the schedule"),
    ):
        result = subprocess.run(
            command, input=schedule, capture_output=True, text=True, timeout=30, check=False
        )
        assert result.returncode == 1
        assert says in result.stderr


def compare(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/bench:{ROOT}/scripts"}
    command = [sys.executable, "-m", "compare", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_a_comparison_from_its_options_to_its_files(tmp_path: Path) -> None:
    page, data = tmp_path / "page.md", tmp_path / "data.json"
    options = ["--quick", "--rounds", "1", "--peer", "Pipe", "--only", "small", "--only", "master"]
    result = compare(*options, "--markdown", page, "--json", data)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    figures = json.loads(data.read_text())
    assert figures["version"] == 1
    assert set(figures["scenarios"]) == {"small", "master"}
    small = figures["scenarios"]["small"]
    assert {"cohab", "cohab, C", "raw socket, C", "raw socket + msgpack", "multiprocessing.Pipe"} <= set(
        small["rounds"]
    )
    assert small["skipped"] == {}
    assert all(len(rounds) == 1 for rounds in small["rounds"].values())
    assert "| multiprocessing.Pipe |" in page.read_text()
    assert "CPU of the master under saturation" in result.stdout


def test_options_that_make_no_sense(tmp_path: Path) -> None:
    for options, says in (
        (["--only", "nothing"], "no scenario nothing; see --list"),
        (["--json", tmp_path / "absent" / "x"], "no such directory"),
        (["--rounds", "0"], "at least 1"),
    ):
        result = compare(*options)
        assert result.returncode == 2
        assert says in result.stderr
