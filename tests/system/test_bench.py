"""`cohab bench`: that it measures what it says. Nothing here asserts how fast anything is."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeServer, StartServer
from fake_server import FakeServer, reply
from harness import BUILD, COHAB, Server, clean_environment, run_cohab
from processes import wait_until
from wire import frame, pack

RAW_ECHO = BUILD / "bench" / "raw_echo"
QUICK = ("--warmup", "0", "--duration", "0.3")
KEYS = {
    "version",
    "method",
    "connections",
    "rate",
    "warmup",
    "duration",
    "calls",
    "calls_per_second",
    "bytes_sent",
    "bytes_received",
    "latency",
    "errors",
    "reconnects",
    "histogram",
    "timeline",
}
LATENCIES = ["min", "p50", "p90", "p99", "p99.9", "max"]


def bench(path: str, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """The report of a run."""
    result = run_cohab("--socket", path, "bench", "--json", *arguments)
    assert result.returncode == exit_code, result.stderr
    assert bool(result.stderr) == (exit_code != 0)
    report: dict[str, Any] = json.loads(result.stdout)
    check_report(report)
    return report


def check_report(report: dict[str, Any]) -> None:
    """What holds for every report."""
    assert set(report) == KEYS
    assert report["version"] == 1
    assert sum(count for _, count in report["histogram"]) == report["calls"]
    assert sum(second["calls"] for second in report["timeline"]) == report["calls"]
    assert sum(second["errors"] for second in report["timeline"]) == sum(report["errors"].values())
    assert [second["at"] for second in report["timeline"]] == list(range(len(report["timeline"])))
    assert all(set(second) == {"at", "calls", "errors", "p50", "p99", "max"} for second in report["timeline"])
    bounds = [bound for bound, _ in report["histogram"]]
    assert bounds == sorted(set(bounds))
    if report["calls"] == 0:
        assert report["latency"] is None
        return
    latency = report["latency"]
    assert set(latency) == {*LATENCIES, "mean"}
    values = [latency[name] for name in LATENCIES]
    assert values == sorted(values)
    assert latency["min"] <= latency["mean"] <= latency["max"]
    assert bounds[-1] >= latency["max"] * 0.9999
    assert report["calls_per_second"] == pytest.approx(report["calls"] / report["duration"])


@contextmanager
def running_bench(path: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(COHAB), "--socket", path, "bench", "--json", "--duration", "600", "--warmup", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupted(process: subprocess.Popen[str], exit_code: int = 0) -> dict[str, Any]:
    """The report after Ctrl-C."""
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == exit_code, errors
    report: dict[str, Any] = json.loads(output)
    check_report(report)
    return report


@contextmanager
def raw_echo(directory: Path) -> Iterator[str]:
    path = str(directory / "raw")
    with subprocess.Popen([str(RAW_ECHO), path, "4"]) as process:  # a process for each connection
        try:
            wait_until(lambda: can_connect(path), what="raw_echo listens")
            yield path
        finally:
            process.kill()


def can_connect(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(path) == 0


# ---- against a real server


@pytest.mark.parametrize("connections", [1, 5])
def test_closed_loop(start: StartServer, connections: int) -> None:
    server = start("echo")
    report = bench(server.socket, *QUICK, "-c", str(connections), "echo", "hi")
    assert report["calls"] > connections
    assert (report["method"], report["connections"], report["rate"]) == ("echo", connections, None)
    assert report["errors"] == {}
    assert report["reconnects"] == 0
    assert report["duration"] >= 0.3
    assert server.status()["totals"]["calls"] >= report["calls"]
    assert server.status()["connections"]["accepted"] == connections + 1  # and that of the first ping
    assert report["bytes_received"] == report["calls"] * 15  # as docs/protocol.md shows it


def test_warm_up_does_not_count(start: StartServer) -> None:
    server = start("echo")
    before = server.status()["totals"]["calls"]
    report = bench(server.socket, "--warmup", "0.3", "--duration", "0.1", "echo", "1")
    assert report["warmup"] == 0.3
    assert report["duration"] < 0.3 or report["latency"]["max"] > 0.1
    assert server.status()["totals"]["calls"] - before > report["calls"]


@pytest.mark.parametrize("arrivals", ["poisson", "constant"])
def test_open_loop(start: StartServer, arrivals: str) -> None:
    arguments = ["--rate", "200", "--arrivals", arrivals, "-c", "4", "--duration", "1", "--warmup", "0.1"]
    report = bench(start("echo").socket, *arguments, "echo", "1")
    assert report["rate"] == 200
    assert report["errors"] == {}
    if arrivals == "constant":
        assert report["calls"] in (199, 200, 201)
    else:
        assert 120 < report["calls"] < 280  # the same in every run


@pytest.mark.parametrize("connections", [1, 2])
def test_large_payloads(start: StartServer, connections: int) -> None:
    report = bench(start("echo").socket, *QUICK, "-c", str(connections), "--payload", "64M", "echo")
    assert report["calls"] > 0
    assert report["errors"] == {}
    assert report["bytes_received"] > report["calls"] * (64 << 20)
    assert report["bytes_sent"] > report["calls"] * (64 << 20)


@pytest.mark.parametrize("payload", ["16", "100K", "64M"])
@pytest.mark.parametrize("connections", [1, 3])
def test_echo(directory: Path, connections: int, payload: str) -> None:
    with raw_echo(directory) as path:
        arguments = ["--echo", *QUICK, "-c", str(connections), "--payload", payload]
        report = bench(path, *arguments, "echo", "{counter}")
    assert report["calls"] > 0
    assert report["errors"] == {}
    assert report["bytes_sent"] == report["bytes_received"]


def test_errors_by_code_and_reason(start: StartServer) -> None:
    server = start("fault")
    arguments = ["--call", "echo 1", "--call", "fail 5 NO_SUCH_WORD no", "--call", "nothing"]
    report = bench(server.socket, *QUICK, *arguments)
    assert report["method"] == "echo, fail, nothing"
    assert report["calls"] > 0
    assert set(report["errors"]) == {"NOT_FOUND/NO_SUCH_WORD", "UNIMPLEMENTED/NO_SUCH_METHOD"}
    assert report["reconnects"] == 0


def test_every_call_fails(start: StartServer) -> None:
    report = bench(start("echo").socket, *QUICK, "sleep", "soon", exit_code=1)
    assert report["calls"] == 0
    assert set(report["errors"]) == {"INVALID_ARGUMENT/BAD_ARGUMENT"}


def test_refused_connections(start: StartServer) -> None:
    server = start("echo", "--max-connections", "2")
    report = bench(server.socket, *QUICK, "-c", "4", "echo", "1")
    assert report["calls"] > 0
    assert set(report["errors"]) == {"RESOURCE_EXHAUSTED/TOO_MANY_CONNECTIONS"}


@pytest.mark.parametrize("arguments", [("-c", "3"), ("--rate", "300", "-c", "3", "--timeout", "0.5")])
def test_a_server_that_goes_and_comes_back(make_server: MakeServer, arguments: tuple[str, ...]) -> None:
    def has_served() -> bool:
        return bool(server.status()["totals"]["calls"] > 50)

    server = make_server().start("echo")
    with running_bench(server.socket, *arguments, "echo", "1") as process:
        wait_until(has_served)
        server.stop(signal.SIGKILL)
        server.start("echo")
        wait_until(has_served)
        report = interrupted(process)
    assert report["reconnects"] == 3
    assert report["errors"]["UNAVAILABLE/CONNECTION_LOST"] == 3
    assert report["calls"] > 50


def test_a_server_that_does_not_come_back(start: StartServer) -> None:
    server = start("echo")
    with running_bench(server.socket, "-c", "2", "echo", "1") as process:
        wait_until(lambda: server.status()["totals"]["calls"] > 50)
        server.stop(signal.SIGKILL)
        wait_until(lambda: not server.tree())
        report = interrupted(process)
    assert report["calls"] > 50
    assert report["errors"] == {"UNAVAILABLE/CONNECTION_LOST": 2}
    assert report["reconnects"] == 0


def test_ctrl_c(start: StartServer) -> None:
    server = start("echo")
    with running_bench(server.socket, "echo", "1") as process:
        wait_until(lambda: server.status()["totals"]["calls"] > 50)
        report = interrupted(process)
    assert report["calls"] > 0
    assert report["errors"] == {}


def test_a_second_ctrl_c(start: StartServer) -> None:
    """The first one waits for the calls that are under way, the second one does not."""
    server = start("echo", workers=1)
    with running_bench(server.socket, "-c", "2", "sleep", "25") as process:
        wait_until(lambda: server.workers("busy"))
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        output, _ = process.communicate()
    assert process.returncode == 1
    report = json.loads(output)
    check_report(report)
    assert report["errors"] == {"CANCELLED/INTERRUPTED": 2}


# ---- what it sends


def first_params(path: str, server: FakeServer, count: int, *arguments: str) -> list[Any]:
    server.requests.clear()
    bench(path, *QUICK, *arguments)
    assert len(server.requests) >= count
    return [request[3] for request in server.requests[:count]]


def test_requests(directory: Path) -> None:
    with FakeServer(directory) as server:
        before = time.monotonic_ns()
        bench(server.path, *QUICK, "--timeout", "7", "f", "1", '{"a": [null]}', "text")
        after = time.monotonic_ns()
    for number, (kind, msgid, method, params, meta) in enumerate(server.requests, start=1):
        assert (kind, msgid, method, params) == (0, number, "f", [1, {"a": [None]}, "text"])
        assert before < meta["deadline"] - 7 * 10**9 < after


def test_templates(directory: Path) -> None:
    (directory / "words").write_text("one\ntwo\n")
    word = f"{{word:{directory / 'words'}}}"
    with FakeServer(directory) as server:
        params = first_params(
            server.path, server, 50, "f", "{counter}", "{int:5:7}", word, f'["x-{word}", "{{{{counter}}}}"]'
        )
        assert [param[0] for param in params] == list(range(1, 51))
        assert {param[1] for param in params} == {5, 6, 7}
        assert {param[2] for param in params} == {"one", "two"}
        assert {param[3][0] for param in params} == {"x-one", "x-two"}
        assert {param[3][1] for param in params} == {"{counter}"}
        again = first_params(server.path, server, 50, "f", "{int:1:1000000}")
        assert first_params(server.path, server, 50, "f", "{int:1:1000000}") == again
        assert first_params(server.path, server, 50, "--seed", "2", "f", "{int:1:1000000}") != again


def test_payload(directory: Path) -> None:
    with FakeServer(directory) as server:
        ((first, blob),) = first_params(server.path, server, 1, "--payload", "100K", "f", "1")
        assert (first, len(blob)) == (1, 102400)
        ((blob,),) = first_params(server.path, server, 1, "f", "{blob:7}")
        assert len(blob) == 7


def test_weights(directory: Path) -> None:
    with FakeServer(directory) as server:
        bench(server.path, *QUICK, "-c", "2", "--call", "8:a 1", "--call", "b [1, 2]", "--call", "c")
    counts = Counter(request[2] for request in server.requests)
    assert set(counts) == {"a", "b", "c"}
    assert counts["a"] > 4 * counts["b"]
    assert counts["a"] > 4 * counts["c"]
    assert {json.dumps(request[3]) for request in server.requests if request[2] == "b"} == {"[[1, 2]]"}


def test_parameters_from_standard_input(directory: Path) -> None:
    with FakeServer(directory) as server:
        arguments = ["bench", *QUICK, "f", "-"]
        result = run_cohab("--socket", server.path, *arguments, text='[1, "{counter}"]')
        assert result.returncode == 0, result.stderr
    assert [request[3] for request in server.requests[:2]] == [[1, 1], [1, 2]]


def test_think(directory: Path) -> None:
    with FakeServer(directory) as server:
        arguments = ["--warmup", "0", "--duration", "1", "--think", "0.2", "-c", "2"]
        report = bench(server.path, *arguments, "f")
    assert 1 < report["calls"] <= 12


# ---- what it does not let pass


def test_a_stall_cannot_hide(directory: Path) -> None:
    """Calls that could not start as the server stood still count from when they should have started."""
    stall = threading.Lock()

    def stand_still_once(request: list[Any], _: bytes) -> bytes:
        if len(server.requests) == 20 and stall.acquire(blocking=False):
            time.sleep(1)
        return reply(request)

    with FakeServer(directory, stand_still_once) as server:
        arguments = ["--warmup", "0", "--duration", "1.5", "--rate", "100", "--arrivals", "constant"]
        report = bench(server.path, *arguments, "f")
    assert report["errors"] == {}
    assert report["calls"] in (149, 150, 151)
    slow = sum(count for bound, count in report["histogram"] if bound > 0.5)
    assert slow >= 45  # those of the first half of the stall
    assert report["latency"]["max"] >= 0.9


def test_calls_under_way_at_the_end_are_waited_for(start: StartServer) -> None:
    report = bench(start("echo").socket, "--warmup", "0", "--duration", "0.1", "sleep", "0.6")
    assert report["calls"] == 1
    assert report["latency"]["max"] >= 0.6
    assert report["duration"] >= 0.6


def test_deadlines_in_the_queue(start: StartServer) -> None:
    """An arrival whose deadline passes before a connection is free is an error, and is never sent."""
    server = start("echo", workers=1)
    before = server.status()["totals"]["calls"]
    arguments = ["--rate", "50", "--timeout", "0.3", "--warmup", "0", "--duration", "1"]
    report = bench(server.socket, *arguments, "sleep", "0.2")
    answered = server.status()["totals"]["calls"] - before
    assert report["calls"] + sum(report["errors"].values()) > answered
    assert "DEADLINE_EXCEEDED/QUEUE_TIMEOUT" in report["errors"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda request: frame(pack([1, request[1] + 1, None, None])), "UNKNOWN/BAD_REPLY"),
        (lambda request: frame(pack([0, request[1], "f", []])), "UNKNOWN/BAD_REPLY"),
        (lambda request: bytes(4), "UNKNOWN/BAD_REPLY"),
        (lambda request: reply(request) + b"x", "UNKNOWN/BAD_REPLY"),
        (lambda request: reply(request)[:-1], "DEADLINE_EXCEEDED/DEADLINE"),
        (lambda request: b"", "DEADLINE_EXCEEDED/DEADLINE"),
        (lambda request: None, "UNAVAILABLE/CONNECTION_LOST"),
        (lambda request: frame(pack([1, None, {"code": "X", "reason": "Y"}, None])), "X/Y"),
        (lambda request: frame(pack([1, request[1], {"code": "X"}, None])), "X"),
        (lambda request: frame(pack([1, request[1], {}, None])), "UNKNOWN"),
    ],
)
@pytest.mark.parametrize("connections", [1, 2])
def test_bad_replies(directory: Path, answer: Any, error: str, connections: int) -> None:
    with FakeServer(directory, lambda request, _: answer(request)) as server:
        arguments = [*QUICK, "--timeout", "0.2", "-c", str(connections)]
        report = bench(server.path, *arguments, "f", exit_code=1)
    assert set(report["errors"]) == {error}


def test_an_echo_of_something_else(directory: Path) -> None:
    def echo(request: list[Any], whole: bytes) -> bytes:
        return whole if len(server.requests) % 2 else whole[:10] + b"\xff" + whole[11:]

    with FakeServer(directory, echo) as server:
        report = bench(server.path, *QUICK, "--echo", "f")
    assert report["calls"] > 0
    assert set(report["errors"]) == {"UNKNOWN/BAD_REPLY"}
    assert report["reconnects"] > 0


def test_a_reply_byte_by_byte(directory: Path) -> None:
    """Where frames are cut means nothing."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / "slow"))
    listener.listen()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as stream:
            while header := stream.read(4):
                msgid = int.from_bytes(stream.read(int.from_bytes(header, "big"))[3:7], "big")
                for byte in frame(pack([1, msgid, {"code": "A", "reason": "B", "message": "x" * 50}, None])):
                    connection.sendall(bytes([byte]))

    thread = threading.Thread(target=serve)
    thread.start()
    report = bench(str(directory / "slow"), *QUICK, "f", exit_code=1)
    thread.join()
    listener.close()
    assert set(report["errors"]) == {"A/B"}


# ---- what it cannot do


def test_no_server(directory: Path) -> None:
    result = run_cohab("--socket", str(directory / "none"), "bench", "echo")
    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1
    assert "no such file" in result.stderr


def test_a_full_queue_of_new_connections(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "full"))
        listener.listen(1)
        result = run_cohab("--socket", str(directory / "full"), "bench", "-c", "4", "echo")
    assert result.returncode == 3
    assert "connection 3 of 4" in result.stderr
    assert "queue of new connections is full" in result.stderr


def test_too_many_connections_for_this_process(start: StartServer) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    result = start("echo").cli("bench", "-c", "100", "echo", preexec_fn=limit)
    assert result.returncode == 3
    assert len(result.stderr.splitlines()) == 1
    assert "100 connections" in result.stderr
    assert "ulimit" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no method"),
        (["-c", "0", "f"], "whole number"),
        (["-c", "f"], "'f'"),
        (["f", "-c"], "needs a value"),
        (["--rate", "0", "f"], "calls per second"),
        (["--rate", "x", "f"], "calls per second"),
        (["--arrivals", "often", "--rate", "1", "f"], "poisson nor constant"),
        (["--arrivals", "constant", "f"], "--rate"),
        (["--think", "1", "--rate", "1", "f"], "--think"),
        (["--warmup", "-1", "f"], "seconds"),
        (["--duration", "0", "f"], "above 0"),
        (["--payload", "1X", "f"], "size"),
        (["--seed", "-1", "f"], "whole number"),
        (["--call", "f", "f"], "not both"),
        (["--call", "0:f"], "weight"),
        (["--call", "f [1"], "not closed"),
        (["--call", ""], "no method"),
        (["f", "{int:1}"], "{int:LOW:HIGH}"),
        (["f", "{word:/no/such/file}"], "No such file"),
        (["f", "{word:/dev/null}"], "no word"),
        (["f", "{word:/}"], "directory"),
        (["f", "x{blob:1}"], "stands alone"),
    ],
)
def test_bad_usage(directory: Path, arguments: list[str], words: str) -> None:
    result = run_cohab("--socket", str(directory / "none"), "bench", *arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


# ---- what it shows


def test_table(start: StartServer) -> None:
    server = start("fault")
    result = server.cli(
        "bench", *QUICK, "-c2", "--call", "3:echo 1", "--call", 'fail 5 WORD "\\u001b[31mred"'
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert re.fullmatch(r"load +closed loop, 2 connections", lines[0])
    heading = next(line for line in lines if line.startswith("METHOD"))
    assert heading.split() == [
        "METHOD",
        "CALLS",
        "PER",
        "S",
        "MIN",
        "MEAN",
        "P50",
        "P90",
        "P99",
        "P99.9",
        "MAX",
    ]
    rows = {line.split()[0]: line.split()[1:] for line in lines if line and line[0] in "efaN"}
    assert rows["echo"][0] == rows["all"][0] != "0"
    assert rows["fail"] == ["0", "0", *"-------"]
    assert "red" in result.stdout
    assert "NOT_FOUND/WORD" in rows


def test_table_of_an_open_loop(start: StartServer) -> None:
    result = start("echo").cli("bench", *QUICK, "--rate", "100", "echo", "1")
    assert "open loop, 1 connection, 100 calls per second (poisson)" in result.stdout
    assert re.search(r"^queue +at most \d+ calls waited", result.stdout, re.MULTILINE)


def run_on_terminal(server: Server, *arguments: str) -> str:
    """What appears on the terminal that is standard error."""
    terminal, its_end = pty.openpty()
    with subprocess.Popen(
        [str(COHAB), "--socket", server.socket, "bench", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=its_end,
        env={**clean_environment(), "TERM": "xterm"},
    ) as process:
        os.close(its_end)
        shown = b""
        while True:
            try:
                shown += os.read(terminal, 4096)
            except OSError:  # EIO: nobody has the other end any more
                break
        os.close(terminal)
        assert process.wait() == 0
    return shown.decode()


def test_progress(start: StartServer) -> None:
    shown = run_on_terminal(start("echo"), "--warmup", "0.5", "--duration", "2.2", "-c", "2", "echo", "1")
    lines = shown.split("\r")
    assert any("warming up" in line for line in lines)
    assert any(re.match(r"2 s of 3 .* calls/s  p50 ", line) for line in lines)
    assert lines[-1] == "\x1b[K"
    assert "\n" not in shown
