"""Rarer things about crash reports: odd requests, odd engines, odd directories, odd moments."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import MakeServer, StartServer
from harness import BUILD, Gate, Server
from processes import state_of, wait_until
from reports import last_report, report_paths, symbols_of, wait_reports
from test_deaths import crash_error
from wire import Raw, request


def crash(server: Server, raw: Raw, payload: str = "") -> str:
    """The id of its report."""
    crash_error(raw.call("mutate_params", payload), signal_name="SIGSEGV")
    ident: str = last_report(server)["id"]
    return ident


def ids(directory: Path) -> list[str]:
    return [path.stem for path in report_paths(directory)]


# ---- causes


@pytest.mark.parametrize("status", [0, 1, 79, 80, 81, 82, 83])
def test_exit_codes_of_cohab_s_own_mislead_nobody(start: StartServer, status: int) -> None:
    server = start("fault", "--quarantine-after", "1", workers=1)
    raw = server.raw()
    crash_error(raw.call("exit", status))
    report = last_report(server)
    assert (report["cause"]["kind"], report["cause"]["status"]) == ("exit", status)
    assert "fault_exit" in symbols_of(report["stack"])
    assert raw.call("exit", status).reason == "QUARANTINED"


def test_memory_limit_that_is_never_reached(start: StartServer) -> None:
    server = start("fault", "--max-memory", "128M", workers=1)
    crash_error(server.raw().call("crash"), signal_name="SIGSEGV")
    report = last_report(server)
    assert report["cause"]["kind"] == "signal"
    assert report["memory"]["limit"] == 128 << 20


# ---- requests


@pytest.mark.parametrize("size", [0, 1 << 20, 20 << 20])
def test_the_whole_frame_is_kept(start: StartServer, size: int) -> None:
    server = start("fault", workers=1)
    reply = server.raw().call("throw_uncaught", "x" * size)
    sent = request("throw_uncaught", "x" * size, msgid=reply.msgid or 0)
    assert last_report(server)["request"]["frame"] == sent


def test_the_frame_of_a_pipelined_request(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.send(request("echo", "before", msgid=901) + request("crash", msgid=902))
    assert raw.receive().result == "before"
    crash_error(raw.receive(), signal_name="SIGSEGV")
    report = last_report(server)
    assert report["request"]["msgid"] == 902
    assert report["request"]["frame"] == request("crash", msgid=902)


def test_a_request_that_the_engine_wrote_to(start: StartServer) -> None:
    """What the engine made of it is what can be kept; it is still a request."""
    server = start("fault", workers=1)
    reply = server.raw().call("mutate_params", "innocent")
    report = last_report(server)
    assert report["request"]["method"] == "mutate_params"
    assert len(report["request"]["frame"]) == len(
        request("mutate_params", "innocent", msgid=reply.msgid or 0)
    )
    assert "fault_mutate_params" in symbols_of(report["stack"])


# ---- engines


@pytest.mark.parametrize("hook", ["load", "start"])
@pytest.mark.parametrize("what", ["chain", "die"])
def test_handlers_from_before_the_first_call(start: StartServer, hook: str, what: str) -> None:
    """They run, and what they leave of the signal is reported."""
    server = start("fault", args=[f"{hook}-handler", what], workers=1)
    crash_error(server.raw().call("crash"), signal_name="SIGSEGV")
    report = last_report(server)
    assert "a handler of its own" in report["stderr"]
    assert report["cause"]["signal"] == "SIGSEGV"
    if what == "chain":
        assert "fault_crash" in symbols_of(report["stack"])
    else:
        assert "the engine has one of its own" in report["no_stack"]


@pytest.mark.parametrize("hook", ["load", "start"])
def test_a_handler_that_recovers(start: StartServer, hook: str) -> None:
    server = start("fault", args=[f"{hook}-handler", "recover"], workers=1)
    pids = server.workers()
    raw = server.raw()
    for _ in range(3):
        assert raw.call("recover").result == "recovered"
    assert server.workers() == pids
    assert server.status()["crashes"]["written"] == 0


def test_a_start_that_fails_in_words_needs_no_report(make_server: MakeServer) -> None:
    server = make_server()
    server.expect_error("could not start|failed on demand")
    server.launch("fault", args=["start-fail"], workers=1)
    assert server.wait_end() == 1
    assert ids(server.crash_directory) == []


def test_a_forkserver_that_dies_later(start: StartServer, directory: Path) -> None:
    broken = directory / "broken"
    server = start("fault", args=["load-crash-while", str(broken)], workers=1)
    server.expect_error("load.. never returned|forkserver .* died|SIGSEGV")
    broken.touch()
    os.kill(server.forkserver(), signal.SIGKILL)
    wait_until(lambda: len(ids(server.crash_directory)) >= 2, what="reports of both")
    broken.unlink()
    first, second = wait_reports(server)[:2]
    assert {first["cause"]["signal"], second["cause"]["signal"]} == {"SIGKILL", "SIGSEGV"}
    assert (first["worker"]["number"], second["worker"]["number"]) == (0, 0)


def test_workers_that_leave_leave_no_reports(start: StartServer) -> None:
    server = start("fault", workers=2)
    pids = server.workers()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    server.wait_replaced(pids)
    assert server.stop() == 0
    assert os.listdir(server.crash_directory) == []


@pytest.mark.parametrize("text", ["half a line", "\u00e4\u20ac\n", "\0\0\n", "x" * 100_000])
def test_odd_last_words(start: StartServer, text: str) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("stderr", text).ok
    crash_error(raw.call("crash"), signal_name="SIGSEGV")
    report = last_report(server)
    assert isinstance(report["stderr"], str)
    assert report["stderr"]
    assert raw.call("echo", 1).ok


def test_an_engine_that_prints_while_the_master_is_stopped(start: StartServer) -> None:
    """Nobody reads what it says, and it goes on."""
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("echo", 1).ok
    server.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(server.pid) == "T", what="a stopped master")
    try:
        assert raw.call("stderr", "x" * 999 + "\n", 10_000).ok
    finally:
        server.send_signal(signal.SIGCONT)
    assert raw.call("echo", 2).ok


# ---- directories


def test_crashes_and_slow_calls_are_counted_apart(start: StartServer) -> None:
    server = start("fault", "--crash-keep", "2", "--slow-stack", "0.02", workers=2)
    raw = server.raw()
    for _ in range(3):
        assert raw.call("sleep", 0.3).ok
    expected = [crash(server, raw) for _ in range(3)][-2:]
    wait_until(lambda: ids(server.crash_directory) == expected, what="the newest crashes")
    wait_until(lambda: len(report_paths(server.crash_directory, "slow")) == 2, what="slow calls")


def test_one_that_is_larger_than_all_may_be_is_kept(start: StartServer) -> None:
    """Until the next one: it is what somebody looks for."""
    server = start("fault", "--crash-keep-size", "50K", workers=1)
    raw = server.raw()
    idents = [crash(server, raw, "x" * 100_000) for _ in range(3)]
    wait_until(lambda: ids(server.crash_directory) == idents[-1:], what="the newest alone")


def test_other_files_are_left_alone(start: StartServer) -> None:
    server = start("fault", "--crash-keep", "1", workers=1)
    others = [server.crash_directory / name for name in ("notes.txt", "core.1234", "1.crash.txt", ".hidden")]
    for path in others:
        path.write_text("mine")
    raw = server.raw()
    for _ in range(3):
        crash(server, raw)
    wait_until(lambda: len(ids(server.crash_directory)) == 1, what="old ones gone")
    assert all(path.read_text() == "mine" for path in others)


def test_nobody_else_may_read_them(start: StartServer) -> None:
    server = start("fault", workers=1, preexec=lambda: os.umask(0))
    ident = crash(server, server.raw())
    path = server.crash_directory / f"{ident}.crash"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(server.crash_directory.stat().st_mode) == 0o700


def test_two_servers_share_a_directory(start: StartServer, directory: Path) -> None:
    shared = directory / "shared"
    shared.mkdir()
    servers = [start("fault", "--crash-dir", str(shared), workers=2) for _ in range(2)]
    for server in servers:
        server.crash_directory = shared
    raws = [server.raw() for server in servers]
    for _ in range(10):
        for raw in raws:
            raw.ask("crash")
        for raw in raws:
            crash_error(raw.receive(), signal_name="SIGSEGV")
    for server in servers:
        wait_until(lambda s=server: s.status()["crashes"]["written"] == 10, what="ten reports")  # type: ignore[misc]
    reports = wait_reports(servers[0], 20)
    assert len(reports) == 20
    masters = [report["server"]["pid"] for report in reports]
    assert [masters.count(server.pid) for server in servers] == [10, 10]


def test_the_directory_becomes_a_file(start: StartServer) -> None:
    server = start("fault", workers=1)
    server.expect_error("cannot write a crash report")
    server.crash_directory.rmdir()
    server.crash_directory.touch()
    raw = server.raw()
    for _ in range(3):
        crash_error(raw.call("crash"), signal_name="SIGSEGV")
    wait_until(lambda: server.status()["crashes"]["lost"] == 3, what="three lost")
    lines = server.log_lines("error")
    assert 1 <= len(lines) <= 3
    assert str(server.crash_directory) in lines[0]


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    path = directory / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small file system cannot be mounted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_is_really_full(start: StartServer, small_disk: Path) -> None:
    server = start("fault", "--crash-dir", str(small_disk), workers=1)
    server.crash_directory = small_disk
    server.expect_error("cannot write")
    raw = server.raw()
    for _ in range(3):
        crash_error(raw.call("mutate_params", "x" * (512 << 10)), signal_name="SIGSEGV")
    wait_until(lambda: server.status()["crashes"]["lost"] == 3, what="three lost")
    assert os.listdir(small_disk) == []
    assert 1 <= len(server.log_lines("error")) <= 3
    ident = crash(server, raw, "x" * 1000)
    assert ids(small_disk) == [ident]


def test_reports_are_finished_when_the_server_stops(start: StartServer) -> None:
    server = start("fault", workers=8)
    raws = [server.raw() for _ in range(8)]
    for raw in raws:
        raw.ask("crash")
    for raw in raws:
        crash_error(raw.receive(), signal_name="SIGSEGV")
    assert server.stop() == 0
    wait_until(lambda: not server.tree(), what="all gone")
    assert len(os.listdir(server.crash_directory)) == 8
    assert len(ids(server.crash_directory)) == 8


# ---- stacks of those that live


def stacks(server: Server) -> list[list[str]]:
    result = server.cli("stack", "--json")
    assert result.returncode == 0, result.stderr
    return [symbols_of(worker["stack"]) for worker in json.loads(result.stdout)["workers"]]


def tracer_of(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("TracerPid")).split()[1])


def test_nobody_is_traced(start: StartServer, gate: Gate) -> None:
    """Nor may be: a container may forbid it."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    over = threading.Event()
    tracers = set()

    def watch() -> None:
        while not over.is_set():
            tracers.add(tracer_of(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(10):
            assert "fault_block" in stacks(server)[0]
    finally:
        over.set()
        watcher.join()
    assert tracers == {0}
    gate.release("held")
    assert raw.receive().ok


def test_a_call_that_is_looked_at_is_not_disturbed(start: StartServer) -> None:
    """Its system calls go on."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("sleep", 0.5)
    wait_until(lambda: server.workers("busy"), what="a busy worker")
    while raw.is_silent():
        stacks(server)
    assert raw.receive().ok
    assert stacks(server) == []


def test_a_worker_that_is_stopped_has_no_stack(start: StartServer, gate: Gate) -> None:
    """The other's is there, and everybody is served meanwhile."""
    server = start("fault", workers=3)
    raws = [server.raw() for _ in range(2)]
    for i, raw in enumerate(raws):
        raw.ask("block", gate.path, f"call-{i}")
    os.kill(gate.pid_of("call-0"), signal.SIGSTOP)
    gate.pid_of("call-1")
    found = sorted(stacks(server), key=len)
    assert found[0] == []
    assert "fault_block" in found[1]
    assert server.raw().call("echo", 1).result == 1
    os.kill(gate.pid_of("call-0"), signal.SIGCONT)
    for i, raw in enumerate(raws):
        gate.release(f"call-{i}")
        assert raw.receive().ok


def test_a_slow_call_that_crashes(start: StartServer, gate: Gate) -> None:
    server = start("fault", "--slow-stack", "0.05", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    (slow,) = wait_reports(server, 1, "slow")
    assert "fault_block" in symbols_of(slow["stack"])
    os.kill(gate.pid_of("held"), signal.SIGABRT)
    crash_error(raw.receive(), signal_name="SIGABRT")
    report = last_report(server)
    assert (report["kind"], report["cause"]["signal"]) == ("crash", "SIGABRT")
    assert "fault_block" in symbols_of(report["stack"])


def test_a_slow_call_that_blocks_signals(start: StartServer) -> None:
    server = start("fault", "--slow-stack", "0.05", workers=1)
    server.raw().ask("hang", meta={"timeout": 10.0})
    (report,) = wait_reports(server, 1, "slow")
    assert report["request"]["method"] == "hang"
    assert report["stack"] == []
    assert report["no_stack"]


def test_a_crash_after_a_look(start: StartServer, gate: Gate) -> None:
    """Its report tells of the crash, not of what was seen before."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.pid_of("held")
    assert "fault_block" in stacks(server)[0]
    gate.release("held")
    assert raw.receive().ok
    crash_error(raw.call("quick_exit_status", 5))
    report = last_report(server)
    assert report["cause"]["status"] == 5
    assert report["stack"] == []


def test_a_caller_that_waits_is_not_taken_for_lost(start: StartServer) -> None:
    """Its connection is disarmed and no row claims it, as that of a worker that has lost its row."""
    server = start("fault", workers=2)
    os.kill(server.children_titled("cohab: reporter")[0], signal.SIGSTOP)
    waiting, lost = server.raw(), server.raw()
    waiting.ask("crash")
    server.wait_log("died: killed by SIGSEGV in crash")
    lost.ask("scribble", "cohab-row", 0xFF, "crash")
    reply = waiting.receive()
    assert reply.reason == "ENGINE_CRASHED"
    assert lost.at_end()
    assert waiting.call("echo", 1).result == 1
    os.kill(server.children_titled("cohab: reporter")[0], signal.SIGCONT)


def test_a_slot_in_doubt_waits_for_a_held_answer(start: StartServer, directory: Path, gate: Gate) -> None:
    """One worker dies behind its re-arm, the next one over the following request, whose caller has to wait.

    Nobody may take up the request behind it before that answer is out.
    """
    flag = directory / "now"
    preload = BUILD / "tests" / "libkill_after_rearm.so"
    server = start(
        "fault", workers=4, environment={"LD_PRELOAD": str(preload), "KILL_AFTER_REARM": str(flag)}
    )
    raw = server.raw()
    reporter = server.children_titled("cohab: reporter")[0]
    os.kill(reporter, signal.SIGSTOP)
    flag.touch()
    assert raw.call("echo", 1).result == 1
    held = raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    server.wait_log("died: killed by SIGKILL")
    os.kill(pid, signal.SIGKILL)
    behind = [raw.ask("echo", number) for number in range(5)]
    replies = [raw.receive() for _ in range(6)]
    assert [reply.msgid for reply in replies] == [held, *behind]
    assert replies[0].reason == "ENGINE_CRASHED"
    assert [reply.result for reply in replies[1:]] == list(range(5))
    os.kill(reporter, signal.SIGCONT)


def test_an_engine_that_prints_short_lines_without_end(start: StartServer) -> None:
    """What is too much is counted, and the server answers."""
    server = start("fault", workers=2)
    raw = server.raw()
    assert raw.call("stderr", "a\n" * 2000, 200).ok
    server.wait_log(r"worker \d: \(\d+ lines were not logged\)")
    assert server.log().count(": a\n") < 4000
    assert server.raw().call("echo", 1).result == 1


def test_a_reporter_that_cannot_be_run(make_server: MakeServer, directory: Path) -> None:
    """It is tried again after longer and longer pauses."""
    programs = directory / "programs"
    programs.mkdir()
    for name in ("cohabd", "cohabd-reporter"):
        shutil.copy2(BUILD / name, programs / name)
    server = make_server()
    server.launch("fault", program=programs / "cohabd")
    server.wait_serving()
    raw = server.raw()
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    assert last_report(server)["cause"]["text"] == "SIGSEGV in crash()"
    (programs / "cohabd-reporter").chmod(0o600)
    os.kill(server.children_titled("cohab: reporter")[0], signal.SIGKILL)
    server.wait_log("cohabd-reporter died", 6)
    assert len(re.findall("cohabd-reporter died", server.log())) < 30
    assert raw.call("crash").reason == "ENGINE_CRASHED"
