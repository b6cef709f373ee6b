"""Runs a scenario: round after round through all points, each by `cohab bench` on a server of our own."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from typing import IO, Any

from .kills import Killer
from .results import Result, describe_point, group_results, varied_dimensions
from .scenario import Point, Scenario, ScenarioError
from .screen import Progress
from .server import RunError, RunningServer, check_engine, find_programs

BENCH_VERSION = 1
_BENCH_BAD_USAGE = 2
_POLL_S = 0.1
_MARGIN_S = 60.0  # beyond warm-up, measured time and time-out something is wrong with cohab bench


def bench_command(tool: str, socket: str, point: Point, seed: int) -> list[str]:
    command = [tool, "--socket", socket, "bench", "--json", "--connections", str(point.connections)]
    command += ["--duration", f"{point.duration:g}", "--warmup", f"{point.warmup:g}"]
    command += ["--timeout", f"{point.timeout:g}", "--seed", str(seed)]
    if point.rate is not None:
        command += ["--rate", f"{point.rate:g}", "--arrivals", point.arrivals]
    if point.think:
        command += ["--think", f"{point.think:g}"]
    if point.payload is not None:
        command += ["--payload", str(point.payload)]
    return [*command, "--", point.work.method, *point.work.arguments]


def _run_bench(
    command: list[str], stdout: IO[str], stderr: IO[str], limit: float, progress: Progress
) -> tuple[int, float]:
    """Exit status and CPU seconds. Killed when we are interrupted, or after `limit` seconds."""
    # Ctrl-C in the terminal is for us: a bench that ends by itself would look like one that failed.
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
    )
    end = time.monotonic() + limit
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage.ru_utime + usage.ru_stime
            if time.monotonic() > end:
                raise RunError(f"cohab bench did not end within {limit:g} s: {' '.join(command)}")
            time.sleep(_POLL_S)
            progress.draw()
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


def _measure(
    tool: str, server: RunningServer, point: Point, *, seed: int, progress: Progress
) -> dict[str, Any]:
    """One round of one point, as results.py describes it."""
    command = bench_command(tool, server.path, point, seed)
    begin = time.monotonic() + point.warmup
    killer = Killer(server, point.kill_every, begin=begin, end=begin + point.duration, seed=seed)
    limit = point.seconds() + point.timeout + _MARGIN_S
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        with killer:
            status, cpu = _run_bench(command, stdout, stderr, limit, progress)
        elapsed = time.monotonic() - begin + point.warmup
        stdout.seek(0)
        stderr.seek(0)
        words = stderr.read().strip()
        try:
            bench = json.loads(stdout.read())
        except ValueError:
            bench = None
    if status == _BENCH_BAD_USAGE:
        raise ScenarioError(point.place(), words or f"exit status 2 from {' '.join(command)}")
    if bench is None:
        server.require_alive()
        raise RunError(f"cohab bench failed (exit status {status}): {words or ' '.join(command)}")
    if bench.get("version") != BENCH_VERSION:
        raise RunError(
            f"bench --json of {tool} has version {bench.get('version')}, not {BENCH_VERSION}: build it anew"
        )
    return {"bench": bench, "kills": killer.kills, "generator_cpu": round(cpu / elapsed, 4)}


def _by_server(results: list[Result]) -> list[list[Result]]:
    """In lists that share a server."""
    servers: dict[tuple[object, ...], list[Result]] = {}
    for result in results:
        servers.setdefault(result.point.server(), []).append(result)
    return list(servers.values())


def check_engines(cohabd: str, scenario: Scenario) -> None:
    checked = set()
    for point in scenario.points:
        key = (point.engine, point.engine_args, point.work.method)
        if key not in checked:
            check_engine(cohabd, point)
            checked.add(key)


def run_scenario(scenario: Scenario, results: list[Result]) -> None:
    """Measures into `results`, which is filled as far as it went when an exception ends it.

    Raises ScenarioError, RunError or cohab.StartError.
    """
    cohabd, tool = find_programs()
    check_engines(cohabd, scenario)
    results += [Result(point) for point in scenario.points]
    varied = {name: varied_dimensions(members) for name, members in group_results(results).items()}
    with Progress(scenario.seconds()) as progress:
        for number, members in itertools.product(range(scenario.rounds), _by_server(results)):
            with RunningServer(cohabd, tool, members[0].point) as server:
                for result in members:
                    point = result.point
                    words = (point.group, describe_point(point, varied[point.group]))
                    label = f"round {number + 1} of {scenario.rounds}: {', '.join(filter(None, words))}"
                    progress.begin(label, point.seconds())
                    server.wait_ready()
                    measured = _measure(tool, server, point, seed=scenario.seed + number, progress=progress)
                    result.rounds.append(measured)
                    progress.finish()
