"""`cohab metrics`, and the lines of --log-requests and --slow."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import StartServer
from harness import Gate, Server, run_cohab, run_cohabd
from processes import wait_until
from wire import Reply

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? ([0-9]+(?:\.[0-9]+)?)")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}

Labels = tuple[tuple[str, str], ...]


def parse_labels(text: str | None) -> Labels:
    labels = []
    at = 0
    while text and at < len(text):
        match = LABEL.match(text, at)
        assert match, text
        value = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], match[2])
        labels.append((match[1], value))
        at = match.end()
        assert match[3] == "," or at == len(text), text
    assert len(dict(labels)) == len(labels), text
    return tuple(labels)


def check_histogram(name: str, samples: dict[str, dict[Labels, float]]) -> None:
    """Cumulative buckets in order, the last of them infinite and the same as the count."""
    buckets: dict[Labels, list[tuple[float, float]]] = {}
    for labels, value in samples.get(f"{name}_bucket", {}).items():
        assert labels[-1][0] == "le"
        buckets.setdefault(labels[:-1], []).append((float(labels[-1][1]), value))
    for labels, series in buckets.items():
        assert series == sorted(series)
        assert [count for _, count in series] == sorted(count for _, count in series)
        assert series[-1] == (float("inf"), samples[f"{name}_count"][labels])
        total = samples[f"{name}_sum"][labels]
        assert total >= 0
    assert set(buckets) == set(samples.get(f"{name}_count", {})) == set(samples.get(f"{name}_sum", {}))


def parse(text: str) -> dict[str, dict[Labels, float]]:
    """A strict reading of the text format, version 0.0.4: {name: {labels: value}}."""
    assert text.endswith("\n")
    samples: dict[str, dict[Labels, float]] = {}
    types: dict[str, str] = {}
    current, helped = "", ""
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({NAME}) (\S.*)", line):
            helped = match[1]
            assert helped not in types
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|histogram)", line):
            assert match[1] == helped, line
            current = match[1]
            types[current] = match[2]
            assert current.startswith("cohab_")
            assert (match[2] == "counter") == current.endswith("_total")
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] in [current + suffix for suffix in SUFFIXES[types[current]]], line
            series = samples.setdefault(sample[1], {})
            labels = parse_labels(sample[2])
            assert labels not in series, line
            series[labels] = float(sample[3])
    for name, kind in types.items():
        if kind == "histogram":
            check_histogram(name, samples)
    return samples


def metrics(server: Server) -> dict[str, dict[Labels, float]]:
    result = server.cli("metrics")
    assert result.returncode == 0, result.stderr
    return parse(result.stdout)


def value(server: Server, name: str, **labels: str) -> float:
    return metrics(server).get(name, {}).get(tuple(labels.items()), 0)


def calls(server: Server, method: str, code: str = "OK") -> float:
    return value(server, "cohab_calls_total", method=method, code=code)


def code_of(reply: Reply) -> str:
    assert reply.error is not None
    return str(reply.error["code"])


# ---- metrics


def test_calls_are_counted_by_method_and_code(start: StartServer) -> None:
    server = start("fault")
    assert calls(server, "echo") == 0
    raw = server.raw()
    for number in range(10):
        assert raw.call("echo", number).ok
    assert code_of(raw.call("fail", 5, "", "no")) == "NOT_FOUND"
    assert code_of(raw.call("echo")) == "INVALID_ARGUMENT"
    assert code_of(raw.call("nowhere")) == "UNIMPLEMENTED"
    assert raw.call("cohab.ping").ok
    assert raw.call("sleep", 0.05).ok
    seen = metrics(server)
    counts = {labels: count for labels, count in seen["cohab_calls_total"].items() if count}
    assert counts.pop((("method", "cohab.ping"), ("code", "OK"))) >= 1
    assert counts == {
        (("method", "echo"), ("code", "OK")): 10,
        (("method", "echo"), ("code", "INVALID_ARGUMENT")): 1,
        (("method", "fail"), ("code", "NOT_FOUND")): 1,
        (("method", "(other)"), ("code", "UNIMPLEMENTED")): 1,
        (("method", "sleep"), ("code", "OK")): 1,
    }
    slept = (("method", "sleep"),)
    assert seen["cohab_call_duration_seconds_count"][slept] == 1
    assert seen["cohab_call_duration_seconds_sum"][slept] >= 0.05
    assert seen["cohab_call_duration_seconds_bucket"][(*slept, ("le", "0.032768"))] == 0
    assert seen["cohab_request_bytes_total"][slept] > 10
    assert seen["cohab_response_bytes_total"][slept] > 5


def test_sizes_are_those_of_the_frames(start: StartServer) -> None:
    server = start("echo")
    assert server.raw().call("blob", 100_000).ok
    seen = metrics(server)
    blob = (("method", "blob"),)
    assert 100_000 < seen["cohab_response_bytes_total"][blob] < 100_040
    assert 10 < seen["cohab_request_bytes_total"][blob] < 60


def test_queue_time_of_clients_that_tell(start: StartServer, gate: Gate) -> None:
    """The one worker is busy while the second request waits."""
    server = start("fault", workers=1)
    client = server.client()
    holder = threading.Thread(target=lambda: client.call("block", gate.path, "held"))
    waiter = threading.Thread(target=lambda: client.call("sleep", 0.0))
    holder.start()
    gate.wait_started(1)
    waiter.start()
    before = float(metrics(server)["cohab_uptime_seconds"][()])
    wait_until(lambda: float(metrics(server)["cohab_uptime_seconds"][()]) > before + 0.3)
    gate.release("held")
    holder.join()
    waiter.join()
    seen = metrics(server)
    waited = (("method", "sleep"),)
    assert seen["cohab_queue_seconds_count"][waited] == 1
    assert seen["cohab_queue_seconds_sum"][waited] > 0.1
    assert seen["cohab_queue_seconds_sum"][(("method", "block"),)] < seen["cohab_queue_seconds_sum"][waited]


def test_deaths_and_what_they_cost(start: StartServer) -> None:
    server = start("fault", "--quarantine-after", "2", "--kill-grace", "0.05")
    raw = server.raw()
    assert raw.call("echo", 1).ok
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    wait_until(lambda: raw.call("crash").reason == "QUARANTINED", what="a refusal")
    assert raw.call("exit", 3).reason == "ENGINE_CRASHED"
    assert raw.call("hang", meta={"timeout": 0.1}).reason == "DEADLINE"
    server.wait_full_strength()
    wait_until(lambda: value(server, "cohab_crash_reports_written_total") == 4, what="four reports")
    seen = metrics(server)
    deaths = seen["cohab_worker_deaths_total"]
    assert deaths[(("cause", "signal"),)] == 2
    assert deaths[(("cause", "exit"),)] == 1
    assert deaths[(("cause", "deadline"),)] == 1
    assert sum(deaths.values()) == 4
    assert seen["cohab_quarantine_entries"][(("state", "refused"),)] == 1
    assert seen["cohab_quarantine_refusals_total"][()] >= 1
    assert seen["cohab_calls_total"][(("method", "crash"), ("code", "INTERNAL"))] == 2
    assert seen["cohab_calls_total"][(("method", "exit"), ("code", "INTERNAL"))] == 1
    assert seen["cohab_calls_total"][(("method", "hang"), ("code", "DEADLINE_EXCEEDED"))] == 1
    assert seen["cohab_calls_total"][(("method", "echo"), ("code", "OK"))] == 1  # of a worker that is gone


def test_a_forkserver_that_dies(start: StartServer) -> None:
    """The new generation's methods go on in the same totals."""
    server = start("fault")
    server.expect_error("forkserver .* died")
    assert server.raw().call("echo", 1).ok
    os.kill(server.forkserver(), signal.SIGKILL)
    wait_until(lambda: value(server, "cohab_forkserver_deaths_total") == 1)
    wait_until(lambda: any('generation="2"' in line for line in server.cli("metrics").stdout.splitlines()))
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    server.wait_replaced(workers)
    assert server.raw().call("echo", 1).ok
    assert calls(server, "echo") == 2


def test_workers_and_connections(start: StartServer, gate: Gate) -> None:
    server = start("fault", "--max-connections", "2", workers=2)
    raw, second = server.raw(), server.raw()
    raw.ask("block", gate.path, "held")
    gate.wait_started(1)
    assert second.call("echo", 1).ok
    assert server.raw().receive().reason == "TOO_MANY_CONNECTIONS"
    seen = metrics(server)
    assert seen["cohab_workers"][(("state", "busy"),)] == 1
    assert seen["cohab_workers"][(("state", "idle"),)] == 1
    assert seen["cohab_workers"][(("state", "starting"),)] == 0
    assert seen["cohab_workers_wanted"][()] == 2
    assert seen["cohab_reloads_total"] == {(("outcome", "done"),): 0, (("outcome", "failed"),): 0}
    assert seen["cohab_connections_open"][()] == 2
    assert seen["cohab_connections_max"][()] == 2
    assert seen["cohab_connections_refused_total"][()] == 1
    assert seen["cohab_connections_accepted_total"][()] >= 2
    gate.release("held")
    assert raw.receive().ok


@pytest.mark.parametrize("value_written", [0xFF, 0x00, 0x41])
@pytest.mark.parametrize("outcome", ["return", "crash"])
def test_a_meter_that_the_engine_has_overwritten(
    start: StartServer, value_written: int, outcome: str
) -> None:
    """Counters never go down, and what is printed stays sound; the worker goes on."""
    server = start("fault", workers=1)
    raw = server.raw()
    for number in range(20):
        assert raw.call("echo", number).ok
    assert calls(server, "echo") == 20
    raw.call("scribble", "cohab-meter", value_written, outcome)
    seen = metrics(server)
    server.wait_log(r"worker 1: its counters were overwritten: its calls are not counted any more")
    assert seen["cohab_calls_total"][(("method", "echo"), ("code", "OK"))] == 20
    assert raw.call("echo", 1).ok or outcome == "crash"
    again = metrics(server)
    for name in seen:
        if name.endswith(("_total", "_count", "_bucket", "_sum")):
            for labels, count in seen[name].items():
                assert again[name][labels] >= count, (name, labels)
    assert all(count < 1e6 for count in again["cohab_calls_total"].values())
    server.wait_full_strength()


@pytest.mark.parametrize("seed", range(5))
def test_random_meters(start: StartServer, seed: int) -> None:
    server = start("fault", "--log-requests", workers=2)
    raw = server.raw()
    for round_number in range(10):
        assert raw.call("echo", 1).ok
        raw.call("scribble_random", "cohab-meter", seed * 100 + round_number, "return")
        seen = metrics(server)
        assert all(count < 1e9 for count in seen["cohab_calls_total"].values())


def test_counters_of_many_threads(start: StartServer) -> None:
    """Nothing is counted twice or lost, with scrapes going on meanwhile."""
    server = start("echo", workers=2)
    client = server.client()

    def run() -> None:
        for number in range(500):
            assert client.call("echo", number) == number

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    last = 0.0
    while any(thread.is_alive() for thread in threads):
        now = calls(server, "echo")
        assert now >= last
        last = now
    for thread in threads:
        thread.join()
    assert calls(server, "echo") == 4000
    seen = metrics(server)
    assert seen["cohab_call_duration_seconds_count"][(("method", "echo"),)] == 4000
    assert seen["cohab_queue_seconds_count"][(("method", "echo"),)] == 4000


def test_metrics_without_a_server(directory: Path) -> None:
    result = run_cohab("--socket", str(directory / "none"), "metrics")
    assert result.returncode == 3
    assert result.stdout == ""


# ---- the log of requests


def requests_of(server: Server, name: str = "request") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


def wait_requests(
    server: Server, wanted: Callable[[dict[str, Any]], bool], name: str = "request"
) -> dict[str, Any]:
    wait_until(lambda: any(wanted(line) for line in requests_of(server, name)), what="a line of a request")
    return next(line for line in requests_of(server, name) if wanted(line))


def test_every_request_is_logged(start: StartServer) -> None:
    server = start("fault", "--log-requests", "--log-format", "json")
    client = server.client()
    assert client.call("echo", "x" * 1000) == "x" * 1000
    client.close()
    line = wait_requests(server, lambda line: line["method"] == "echo")
    assert line["level"] == "info"
    assert line["code"] == "OK"
    assert line["worker"] in (1, 2)
    assert line["pid"] in server.workers()
    assert line["duration"] > 0
    assert line["queued"] > 0
    assert 1000 < line["request_bytes"] < 1100
    assert 1000 < line["response_bytes"] < 1100
    assert line["peer_pid"] == os.getpid()
    assert line["peer_uid"] == os.getuid()
    raw = server.raw()
    assert code_of(raw.call("nowhere")) == "UNIMPLEMENTED"
    wait_requests(server, lambda line: line["method"] == "(other)" and line["code"] == "UNIMPLEMENTED")
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    line = wait_requests(server, lambda line: line["method"] == "crash")
    assert line["code"] == "INTERNAL"
    assert line["peer_pid"] == os.getpid()


def test_lines_in_text(start: StartServer) -> None:
    server = start("fault", "--log-requests")
    assert server.client().call("echo", 1) == 1
    server.wait_log(
        r"info  worker [12]: echo\(\) OK in \d+\.\d{3} ms after \d+\.\d{3} ms in the queue, "
        r"\d+ bytes in, \d+ out, "
        rf"for pid {os.getpid()} of uid {os.getuid()}\n"
    )


def test_slow_requests_alone(start: StartServer) -> None:
    server = start("fault", "--slow", "0.2", "--log-format", "json")
    raw = server.raw()
    assert raw.call("echo", 1).ok
    assert raw.call("sleep", 0.3).ok
    line = wait_requests(server, lambda line: line["method"] == "sleep", "slow_request")
    assert line["level"] == "warn"
    assert line["duration"] >= 0.3
    assert server.stop() == 0
    assert [line["method"] for line in requests_of(server, "slow_request")] == ["sleep"]
    assert requests_of(server) == []


def test_nothing_is_logged_of_requests_by_default(start: StartServer) -> None:
    server = start("fault")
    assert server.raw().call("echo", 1).ok
    server.stop()
    assert "echo" not in server.log()


def test_the_last_requests_of_a_worker_that_leaves(start: StartServer) -> None:
    server = start("fault", "--log-requests", "--log-format", "json")
    raw = server.raw()
    for number in range(200):
        assert raw.call("echo", number).ok
    server.stop()
    assert len([line for line in requests_of(server) if line["method"] == "echo"]) == 200


def test_too_many_requests_at_a_time(start: StartServer) -> None:
    """Workers do not wait for a master that writes no lines; what has no room is counted."""
    server = start("echo", "--log-requests", "--log-format", "json", workers=1)
    raw = server.raw()
    assert raw.call("echo", 0).ok
    wait_requests(server, lambda line: line["method"] == "echo")
    server.send_signal(signal.SIGSTOP)
    for number in range(1, 1500):
        assert raw.call("echo", number).ok
    server.send_signal(signal.SIGCONT)
    unlogged = value(server, "cohab_requests_not_logged_total")
    assert 400 < unlogged < 500
    wait_until(lambda: requests_of(server, "requests_not_logged"), what="the count of them")
    assert server.stop() == 0
    logged = len([line for line in requests_of(server) if line["method"] == "echo"])
    told = sum(line["count"] for line in requests_of(server, "requests_not_logged"))
    assert told == unlogged
    assert logged + told == 1500


@pytest.mark.parametrize("value_given", ["-1", "x", ""])
def test_no_such_time(value_given: str) -> None:
    result = run_cohabd("--slow", value_given, "--socket", "/nowhere", "echo")
    assert result.returncode == 2
    assert "--slow takes a number of seconds" in result.stderr
