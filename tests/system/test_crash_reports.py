"""Every way to die leaves a report: cause, method, stack, the whole request; and a replay dies alike."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import stat
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import Gate, Server, ServerEnded, run_cohab
from processes import settled_descriptors, wait_until
from reports import last_report, read_report, report_of, report_paths, symbols_of, wait_reports
from wire import Raw, deadline_in, request


class Death(NamedTuple):
    method: str
    params: list[Any]
    kind: str
    signal: str | None = None
    code: str | None = None
    frame: str | None = None  # a function that must be in the stack; None: there is no stack
    text: str = ""  # part of the cause's text
    no_stack: str = ""
    top: bool = True  # that function is the one to blame
    options: tuple[str, ...] = ()
    replays: bool = True


DEATHS = {
    "write through a bad pointer": Death("crash", [], "signal", "SIGSEGV", "SEGV_MAPERR", "do_crash"),
    "null call": Death("null_call", [], "signal", "SIGSEGV", "SEGV_MAPERR", "call_badly"),
    "wild write": Death("wild_write", [1 << 46], "signal", "SIGSEGV", "SEGV_MAPERR", "write_badly"),
    "non-canonical write": Death(
        "wild_write", [0x1234567812345678], "signal", "SIGSEGV", "SI_KERNEL", "write_badly"
    ),
    "wild jump": Death("wild_jump", [1 << 46], "signal", "SIGSEGV", "SEGV_MAPERR", "call_badly"),
    "deep": Death("crash_deep", [100], "signal", "SIGSEGV", "SEGV_MAPERR", "descend", top=False),
    "second thread": Death(
        "crash_in_thread", [], "signal", "SIGSEGV", "SEGV_MAPERR", "thread_crash", top=False
    ),
    "stack overflow": Death("overflow_stack", [], "signal", "SIGSEGV", "SEGV_MAPERR", "recurse", top=False),
    "abort": Death("abort", [], "signal", "SIGABRT", "SI_TKILL", "fault_abort"),
    "assert": Death("assert_fails", [], "signal", "SIGABRT", "SI_TKILL", "fault_assert_fails"),
    "uncaught exception": Death(
        "throw_uncaught", ["oh no"], "signal", "SIGABRT", "SI_TKILL", "fault::Thrower::throw_it"
    ),
    "double free": Death("double_free", [], "signal", "SIGABRT", "SI_TKILL", "fault_double_free"),
    "division": Death("divide_by_zero", [], "signal", "SIGFPE", "FPE_INTDIV", "divide"),
    "illegal instruction": Death(
        "illegal_instruction", [], "signal", "SIGILL", "ILL_ILLOPN", "run_illegal_instruction"
    ),
    "truncated mapping": Death("bus_error", [], "signal", "SIGBUS", "BUS_ADRERR", "write_badly"),
    "raised by itself": Death("raise", [11], "signal", "SIGSEGV", "SI_TKILL", "fault_raise"),
    "exit": Death("exit", [3], "exit", frame="fault_exit", text="exit(3) called in exit()"),
    "destructor at exit": Death(
        "exit_with_destructor_crash", [], "signal", "SIGSEGV", "SEGV_MAPERR", "fault::Destroyed::~Destroyed"
    ),
    "_exit": Death(
        "quick_exit_status",
        [3],
        "exit",
        text="exited with status 3 in",
        no_stack="_exit(3), which runs no handler",
    ),
    "SIGKILL": Death("raise", [9], "signal", "SIGKILL", no_stack="SIGKILL, which runs no handler"),
    "a signal without a handler": Death(
        "raise", [int(signal.SIGVTALRM)], "signal", "SIGVTALRM", no_stack="SIGVTALRM, for which"
    ),
    "memory limit": Death(
        "allocation_bomb",
        [],
        "memory_limit",
        "SIGSEGV",
        "SEGV_MAPERR",
        "hoard",
        text="--max-memory",
        top=False,
        options=("--max-memory", "128M"),
    ),
    "memory limit in C++": Death(
        "allocation_throw",
        [],
        "memory_limit",
        "SIGABRT",
        "SI_TKILL",
        "fault::Hoarder::hoard",
        text="--max-memory",
        options=("--max-memory", "128M"),
    ),
}


def check_request(report: dict[str, Any], death: Death, sent: bytes, msgid: int) -> None:
    found = report["request"]
    assert found["method"] == death.method
    assert found["msgid"] == msgid
    assert found["peer"] == {"pid": os.getpid(), "uid": os.getuid()}
    assert found["frame"] == sent
    assert found["size"] == len(sent)
    assert found["ran"] >= 0
    assert found["queued"] >= 0
    assert re.fullmatch("[0-9a-f]{16}", found["hash"])
    assert found["idempotent"] is False


def check_stack(report: dict[str, Any], death: Death) -> None:
    if death.frame is None:
        assert report["stack"] == []
        assert death.no_stack in report["no_stack"]
        return
    assert report["no_stack"] is None
    assert any(death.frame in symbol for symbol in symbols_of(report["stack"]))
    assert "call_run" in symbols_of(report["stack"]) or death.method in ("crash_in_thread", "overflow_stack")
    named = next(f for f in report["stack"] if f["symbol"] and death.frame in f["symbol"])
    assert named["module"] == "libfault.so"
    assert Path(named["file"]).name.startswith("fault")
    assert named["line"] > 0


def ask(server: Server, death: Death, msgid: int = 77) -> tuple[dict[str, Any], bytes]:
    """Its error, and the bytes that were sent."""
    raw = server.raw()
    meta = deadline_in(20) | {"sent": time.monotonic_ns()}
    sent = request(death.method, *death.params, msgid=msgid, meta=meta)
    raw.send(sent)
    error = raw.receive().error
    assert error is not None
    assert raw.call("echo", 1).result == 1  # the connection lives on
    return error, sent


@pytest.mark.parametrize("name", DEATHS)
def test_report(start: StartServer, name: str) -> None:
    death = DEATHS[name]
    server = start("fault", *death.options, args=["load-memory", "1000"], workers=1)
    pid = server.workers()[0]
    error, sent = ask(server, death)
    assert (error["code"], error["reason"]) == ("INTERNAL", "ENGINE_CRASHED")
    report = last_report(server)
    cause = report["cause"]
    assert cause["kind"] == death.kind
    assert (cause["signal"], cause["code"]) == (death.signal, death.code)
    assert death.text in cause["text"]
    assert report["phase"] == "call"
    check_request(report, death, sent, 77)
    check_stack(report, death)
    check_surroundings(server, report, pid)
    check_error(error, report, death)
    check_files(server.crash_directory)


def check_surroundings(server: Server, report: dict[str, Any], pid: int) -> None:
    engine = report["engine"]
    assert (engine["name"], engine["version"], engine["generation"]) == ("fault", "0.1.0", 1)
    assert engine["path"].endswith("libfault.so")
    assert engine["args"] == ["load-memory", "1000"]
    assert re.fullmatch("[0-9a-f]{40}", engine["build_id"])
    worker = report["worker"]
    assert (worker["number"], worker["pid"], worker["served"]) == (1, pid, 1)  # the ping
    assert worker["age"] > 0
    assert report["memory"]["peak"] > 1 << 20
    assert report["server"]["pid"] == server.pid
    assert report["server"]["program"].endswith("/cohabd")
    assert abs(report["time"] - time.time()) < 60


def check_error(error: dict[str, Any], report: dict[str, Any], death: Death) -> None:
    """What the caller is told is what the report says."""
    assert report["cause"]["text"] in error["message"]
    if "report" in error["details"]:  # else it took longer than 0.1 s
        assert f"(report {report['id']})" in error["message"]
        assert error["details"]["report"] == report["id"]
    assert error["details"].get("signal") == death.signal
    if death.frame is None:
        assert "frames" not in error["details"]
        return
    if "frames" not in error["details"]:  # the symbols took longer than 0.1 s
        assert error["message"].startswith(report["cause"]["text"])
        return
    if death.top:
        assert f"libfault.so!{death.frame}" in error["message"]
    assert any(death.frame in frame for frame in error["details"]["frames"])
    assert not any(frame.startswith("cohabd!") for frame in error["details"]["frames"][-1:])


def check_files(directory: Path) -> None:
    """Nobody else may read them, and nothing half done is left."""
    for path in directory.iterdir():
        assert re.fullmatch(r"\d{8}-\d{6}-\d+\.(crash|slow)", path.name)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", [name for name, death in DEATHS.items() if death.replays])
def test_replay_dies_alike(start: StartServer, name: str) -> None:
    death = DEATHS[name]
    server = start("fault", *death.options, workers=1)
    ask(server, death)
    ident = last_report(server)["id"]
    report_of(server, ident)
    server.stop()
    result = run_cohab("crash", "replay", ident, "--crash-dir", str(server.crash_directory), "--json")
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert outcome["crashed"] is True
    assert outcome["same_cause"] is True
    assert outcome["same_place"] is (death.frame is not None)


# ---- killed from outside, and by cohab


def test_killed_from_outside(start: StartServer, gate: Gate) -> None:
    """SIGKILL: the request is there all the same."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    os.kill(pid, signal.SIGKILL)
    error = raw.receive().error
    assert error is not None
    report = last_report(server)
    assert report["cause"]["text"] == "SIGKILL in block()"
    assert report["request"]["frame"].endswith(b"held")
    assert report["worker"]["pid"] == pid
    assert report["cause"]["own"] is False


def test_a_fault_signal_from_outside(start: StartServer, gate: Gate) -> None:
    """Told apart from a fault of its own; it has a stack."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    os.kill(gate.pid_of("held"), signal.SIGSEGV)
    error = raw.receive().error
    assert error is not None
    report = last_report(server)
    assert report["cause"]["sender"] == {"pid": os.getpid(), "uid": os.getuid()}
    assert (report["cause"]["code"], report["cause"]["own"]) == ("SI_USER", False)
    assert f"sent by pid {os.getpid()}" in report["cause"]["text"]
    assert "wait_for_release" in symbols_of(report["stack"])


@pytest.mark.parametrize(
    ("method", "params", "frame"),
    [
        ("spin_forever", [], "fault_spin_forever"),
        ("deadlock", [], "lock_twice"),
        ("sleep", [30.0], "do_sleep"),
        ("hang", [], None),  # every signal blocked
    ],
)
def test_deadline(start: StartServer, method: str, params: list[Any], frame: str | None) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    error = raw.call(method, *params, meta=deadline_in(0.1)).error
    assert error is not None
    assert (error["code"], error["reason"]) == ("DEADLINE_EXCEEDED", "DEADLINE")
    report = last_report(server)
    assert (report["cause"]["kind"], report["phase"]) == ("deadline", "call")
    assert report["cause"]["text"] == f"ended: {method}() ran past its deadline"
    assert report["request"]["method"] == method
    if frame is None:
        assert "did not react to the signal" in report["no_stack"]
    else:
        assert frame in symbols_of(report["stack"])
        assert any(frame in line for line in error["details"].get("frames", [frame]))
    assert error["details"].get("report", "") in error["message"]
    assert raw.call("echo", 1).result == 1


def test_replay_of_a_deadline(start: StartServer) -> None:
    server = start("fault", workers=1)
    error = server.raw().call("spin_forever", meta=deadline_in(0.1)).error
    assert error is not None
    ident = last_report(server)["id"]
    result = server.cli(
        "crash", "replay", ident, "--crash-dir", str(server.crash_directory), "--timeout", "0.2", "--json"
    )
    assert result.returncode == 0, result.stderr
    outcome = json.loads(result.stdout)
    assert (outcome["crashed"], outcome["same_cause"], outcome["same_place"]) == (True, True, True)


def test_while_the_response_is_written(start: StartServer) -> None:
    server = start("fault", "--io-timeout", "10", workers=1)
    raw = server.raw()
    raw.ask("crash_while_writing", 4 << 20)
    (report,) = wait_reports(server)
    assert report["cause"]["text"] == "SIGSEGV in crash_while_writing()"
    assert report["request"]["method"] == "crash_while_writing"
    assert "crash_when_main_thread_writes" in symbols_of(report["stack"])
    other = server.raw()
    assert other.call("echo", 1).result == 1


# ---- elsewhere than in a call


@pytest.mark.parametrize(
    ("args", "phase", "kind", "text", "frame"),
    [
        (["load-crash"], "load", "signal", "SIGSEGV in load()", "do_crash"),
        (["load-abort"], "load", "signal", "SIGABRT in load()", "abort"),
        (["load-exit"], "load", "exit", "exit(3) called in load()", "exit"),
        (["start-crash"], "start", "signal", "SIGSEGV in start()", "do_crash"),
        (["start-exit"], "start", "exit", "exit(3) called in start()", "exit"),
    ],
)
def test_before_it_serves(  # noqa: PLR0917 - its cases
    make_server: MakeServer, args: list[str], phase: str, kind: str, text: str, frame: str
) -> None:
    server = make_server()
    server.expect_error("libfault.so|could not start")
    with pytest.raises(ServerEnded):
        server.start("fault", args=["load-stderr", "the engine's words", *args], workers=1)
    (report,) = wait_reports(server)
    assert (report["phase"], report["cause"]["kind"], report["cause"]["text"]) == (phase, kind, text)
    assert report["request"] is None
    assert frame in symbols_of(report["stack"])
    assert report["worker"]["number"] == (0 if phase == "load" else 1)
    if phase == "load":
        assert report["stderr"] == "the engine's words\n"


def test_in_stop(start: StartServer) -> None:
    server = start("fault", args=["stop-crash"], workers=1)
    assert server.raw().call("echo", 1).result == 1
    server.stop()
    (report,) = wait_reports(server)
    assert (report["phase"], report["cause"]["text"]) == ("stop", "SIGSEGV in stop()")
    assert report["request"] is None
    assert "do_crash" in symbols_of(report["stack"])
    assert report["worker"]["served"] == 2  # with the ping


def test_between_requests(start: StartServer) -> None:
    server = start("fault", workers=1)
    assert server.raw().call("alarm", 0.05).ok
    (report,) = wait_reports(server)
    assert (report["phase"], report["cause"]["text"]) == ("idle", "SIGALRM between requests")
    assert report["request"] is None
    assert server.status()["deaths"][0]["report"] == report["id"]


def test_nobody_is_blamed_for_a_stop(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    server.raw().ask("block", gate.path, "held")
    gate.pid_of("held")
    server.stop(signal.SIGQUIT)
    assert report_paths(server.crash_directory) == []


# ---- handlers and children of the engine's


def test_handlers_of_the_engine_stay(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("own_handler", int(signal.SIGSEGV), "recover").ok
    assert raw.call("recover").result == "recovered"
    assert report_paths(server.crash_directory) == []
    assert server.status()["totals"]["worker_deaths"] == 0


def test_a_handler_that_passes_it_on(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("own_handler", int(signal.SIGSEGV), "chain").ok
    error = raw.call("crash").error
    assert error is not None
    report = last_report(server)
    assert report["cause"]["text"] == "SIGSEGV in crash()"
    assert "do_crash" in symbols_of(report["stack"])


def test_a_handler_that_keeps_it(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("own_handler", int(signal.SIGSEGV), "die").ok
    error = raw.call("crash").error
    assert error is not None
    report = last_report(server)
    assert report["cause"]["text"] == "SIGSEGV in crash()"
    assert "the engine has one of its own" in report["no_stack"]


def test_a_child_of_the_engine_s_that_crashes(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert os.WTERMSIG(raw.call("fork_crash").result) == signal.SIGSEGV
    assert raw.call("echo", 1).result == 1
    assert report_paths(server.crash_directory) == []


# ---- what the engine prints


def test_last_lines_of_the_engine(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("stderr", "first\nsecond \x1b[31m\n", 1).ok
    assert raw.call("print", "printed\n", 1).ok
    error = raw.call("crash").error
    assert error is not None
    server.wait_log("worker 1: second")
    report = last_report(server)
    assert report["stderr"] == "first\nsecond  [31m\nprinted\n"
    assert error["details"]["stderr"].startswith("first\nsecond")
    assert {"worker 1: first", "worker 1: printed"} <= set(server.log_lines("info"))


def test_an_engine_that_prints_without_end(start: StartServer) -> None:
    """It is never held up, nor is anybody else; the report has the end."""
    server = start("fault", workers=1)
    raw = server.raw()
    line = "x" * 99 + "\n"
    assert raw.call("stderr", line, 20000).ok
    assert server.status()["problem"] is None
    assert raw.call("stderr", line, 20000).ok
    error = raw.call("crash").error
    assert error is not None
    report = last_report(server)
    assert 16000 <= len(report["stderr"]) <= 16384


# ---- where reports lie, and how many


def test_params_off(start: StartServer) -> None:
    server = start("fault", "--crash-params", "off", workers=1)
    error = server.raw().call("throw_uncaught", "secret").error
    assert error is not None
    report = last_report(server)
    assert report["request"]["frame"] is None
    assert report["request"]["size"] > 0
    result = server.cli("crash", "replay", report["id"], "--crash-dir", str(server.crash_directory))
    assert result.returncode == 1
    assert "--crash-params" in result.stderr


def crash_times(server: Server, count: int, *, written: bool = True) -> list[str]:
    """The ids of that many crashes, oldest first; empty where no report was written."""
    raw = server.raw()
    idents = []
    for _ in range(count):
        error = raw.call("crash").error
        assert error is not None
        assert written or "report" not in error["details"]
        idents.append(last_report(server)["id"] if written else "")
    return idents


def test_keep(start: StartServer) -> None:
    server = start("fault", "--crash-keep", "3", workers=1)
    idents = crash_times(server, 7)
    assert [path.stem for path in report_paths(server.crash_directory)] == idents[-3:]
    assert server.status()["crashes"]["written"] == 7


def test_keep_none(start: StartServer) -> None:
    server = start("fault", "--crash-keep", "0", workers=1)
    crash_times(server, 2, written=False)
    assert server.status()["crashes"] == {"directory": None, "written": 0, "lost": 0}
    assert not server.crash_directory.exists()


def test_keep_size(start: StartServer) -> None:
    server = start("fault", "--crash-keep-size", "20000", workers=1)
    idents = crash_times(server, 10)
    kept = report_paths(server.crash_directory)
    assert sum(path.stat().st_size for path in kept) <= 20000
    assert [path.stem for path in kept] == idents[-len(kept) :]
    assert 1 < len(kept) < 10


def test_a_directory_that_cannot_be_written_to(start: StartServer, directory: Path) -> None:
    """It goes away while the server runs: callers are answered, and the log says it."""
    place = directory / "crashes"
    place.mkdir()
    server = start("fault", "--crash-dir", str(place), workers=1)
    server.expect_error("cannot write a crash report")
    place.rmdir()
    error = server.raw().call("crash").error
    assert error is not None
    assert error["message"].startswith("SIGSEGV in crash()")
    assert "report" not in error["details"]
    server.wait_log(f"cannot write a crash report to {place}: No such file or directory")
    assert server.status()["crashes"]["lost"] == 1
    place.mkdir()
    assert server.raw().call("crash").reason == "ENGINE_CRASHED"
    wait_until(lambda: report_paths(place), what="a report")


def test_a_full_disk(start: StartServer) -> None:
    """As far as the reporter can tell: its files may not grow."""
    server = start("fault", workers=1)
    reporter = server.children_titled("cohab: reporter")[0]
    server.expect_error("cannot write crash report")
    resource.prlimit(reporter, resource.RLIMIT_FSIZE, (1000, 1 << 30))
    assert server.raw().call("crash").reason == "ENGINE_CRASHED"
    server.wait_log("cannot write crash report .*: File too large")
    assert list(server.crash_directory.iterdir()) == []
    resource.prlimit(reporter, resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    (ident,) = crash_times(server, 1)
    assert report_of(server, ident)["id"] == ident


def test_the_reporter_is_killed(start: StartServer) -> None:
    server = start("fault", workers=1)
    (ident,) = crash_times(server, 1)
    reporter = server.children_titled("cohab: reporter")[0]
    os.kill(reporter, signal.SIGKILL)
    server.wait_log("cohabd-reporter died")
    wait_until(lambda: server.children_titled("cohab: reporter"), what="another reporter")
    (other,) = crash_times(server, 1)
    assert report_of(server, other)["cause"]["text"] == report_of(server, ident)["cause"]["text"]


def test_a_reporter_that_does_not_answer(start: StartServer) -> None:
    """The caller waits no longer than 0.1 s, and the report comes when it can."""
    server = start("fault", workers=2)
    reporter = server.children_titled("cohab: reporter")[0]
    os.kill(reporter, signal.SIGSTOP)
    raw = server.raw()
    error = raw.call("crash").error
    assert error is not None
    assert error["message"] == "SIGSEGV in crash()"
    assert raw.call("echo", 1).result == 1
    os.kill(reporter, signal.SIGCONT)
    (report,) = wait_reports(server)
    assert "do_crash" in symbols_of(report["stack"])


def test_a_stop_waits_for_reports(start: StartServer) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("crash")
    server.wait_log("died: killed by SIGSEGV")
    assert server.stop() == 0
    assert len(report_paths(server.crash_directory)) == 1
    assert raw.receive().reason == "ENGINE_CRASHED"


# ---- stacks of what runs


def test_slow_stack(start: StartServer) -> None:
    """Once for each call that runs long; the call goes on."""
    server = start("fault", "--slow-stack", "0.2", workers=2)
    raw = server.raw()
    assert raw.call("sleep", 0.01).ok
    assert raw.call("sleep", 0.6).ok
    (report,) = wait_reports(server, suffix="slow")
    assert (report["kind"], report["cause"]["kind"]) == ("slow", "slow")
    assert report["cause"]["text"] == "sleep() runs long"
    assert report["request"]["method"] == "sleep"
    assert 0.2 <= report["request"]["ran"] < 0.6
    assert "do_sleep" in symbols_of(report["stack"])
    assert raw.call("sleep", 0.6).ok
    assert len(wait_reports(server, 2, suffix="slow")) == 2
    assert report_paths(server.crash_directory) == []


def test_stack_of_all_and_of_one(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=3)
    held, asleep = server.raw(), server.raw()
    held.ask("block", gate.path, "held")
    gate.pid_of("held")
    asleep.ask("deadlock", meta=deadline_in(15))
    wait_until(lambda: len(server.workers("busy")) == 2, what="two busy workers")
    result = server.cli("stack", "--json")
    assert result.returncode == 0, result.stderr
    workers = {worker["method"]: worker for worker in json.loads(result.stdout)["workers"]}
    assert set(workers) == {"block", "deadlock"}
    assert "wait_for_release" in symbols_of(workers["block"]["stack"])
    assert "lock_twice" in symbols_of(workers["deadlock"]["stack"])
    number = str(workers["deadlock"]["number"])
    (one,) = json.loads(server.cli("stack", number, "--json").stdout)["workers"]
    assert one["method"] == "deadlock"
    text = server.cli("stack", number).stdout
    assert "deadlock()" in text
    assert "lock_twice" in text
    gate.release("held")
    assert held.receive().result == "held"
    assert server.cli("stack", "4").returncode == 1


def test_stack_of_one_that_does_not_react(start: StartServer) -> None:
    server = start("fault", workers=1)
    server.raw().ask("hang", meta=deadline_in(5))
    wait_until(lambda: server.workers("busy"), what="a busy worker")
    (worker,) = json.loads(server.cli("stack", "--json").stdout)["workers"]
    assert worker["stack"] == []
    assert "did not react" in worker["no_stack"]


def test_many_ask_for_stacks(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.pid_of("held")
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(server.cli("stack").returncode)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 8
    gate.release("held")
    assert raw.receive().result == "held"


# ---- all of it


def test_a_thousand_crashes(start: StartServer) -> None:
    """Under load: every caller has its answer, the reports are right, and the master is as it was."""
    server = start("fault", "--crash-keep", "60", "--slow-stack", "5", workers=2)
    ways = [
        DEATHS[name] for name in DEATHS if DEATHS[name].kind != "memory_limit" and name != "stack overflow"
    ]
    wrong: list[object] = []

    def crash(first: int, count: int) -> None:
        with server.raw() as raw:
            crash_all(raw, first, count)

    def crash_all(raw: Raw, first: int, count: int) -> None:
        for number in range(first, first + count):
            death = ways[number % len(ways)]
            error = raw.call(death.method, *death.params).error
            if error is None or error["reason"] != "ENGINE_CRASHED" or death.method not in error["message"]:
                wrong.append((death, error))

    def call(stop: threading.Event) -> None:
        with server.client(retries=3) as client:
            while not stop.is_set():
                if client.call("echo", "fine") != "fine":
                    wrong.append("echo")

    crash(0, 40)
    server.wait_all_idle()
    wait_until(lambda: server.status()["crashes"]["written"] == 40, what="reports of the first")
    before = settled_descriptors(server.pid)
    memory = memory_of(server.pid)
    stop = threading.Event()
    threads = [threading.Thread(target=crash, args=(number * 240, 240), daemon=True) for number in range(4)]
    background = threading.Thread(target=call, args=(stop,), daemon=True)
    for thread in [*threads, background]:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    background.join()
    assert not wrong
    server.wait_all_idle()
    crashes = server.status()["crashes"]
    wait_until(lambda: server.status()["crashes"]["written"] == 1000, what=f"1,000 reports ({crashes})")
    assert server.status()["crashes"]["lost"] == 0
    assert len(settled_descriptors(server.pid)) == len(before)
    assert memory_of(server.pid) < memory + (4 << 20)
    reports = [read_report(path) for path in report_paths(server.crash_directory)]
    assert len(reports) == 60
    assert {report["request"]["method"] for report in reports} <= {death.method for death in ways}
    for report in reports:
        death = next(d for d in ways if d.method == report["request"]["method"])
        assert (report["cause"]["kind"], bool(report["stack"])) in {
            (d.kind, d.frame is not None) for d in ways if d.method == death.method
        }


def memory_of(pid: int) -> int:
    """Private memory in bytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(n) for n in re.findall(r"^Private_(?:Clean|Dirty): +(\d+)", text, re.MULTILINE)) * 1024


def test_the_client_shows_it(start: StartServer) -> None:
    server = start("fault", workers=1)
    client = server.client()

    def crash() -> cohab.EngineCrashed | None:
        with pytest.raises(cohab.EngineCrashed) as info:
            client.call("null_call")
        return info.value if info.value.frames else None

    error = wait_until(crash, what="symbols within 0.1 s")
    assert re.fullmatch(
        r"SIGSEGV in null_call\(\): libfault\.so!call_badly\+0x[0-9a-f]+ \(report \d{8}-\d{6}-\d+\)",
        str(error).splitlines()[0],
    )
    assert error.signal == "SIGSEGV"
    assert report_of(server, error.report or "")["request"]["method"] == "null_call"
    assert any("call_badly" in frame for frame in error.frames)


def test_the_client_tries_again(start: StartServer, directory: Path) -> None:
    server = start("fault", workers=1)
    client = server.client()
    assert client.call("crash_once", str(directory / "a")) == "survived"
    with pytest.raises(cohab.EngineCrashed) as info:
        client.call("crash_once", str(directory / "b"), retries=0)
    assert info.value.retry is True
