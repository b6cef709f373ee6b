"""`cohab ps` and `cohab kill`: what runs, what waits, and the end of what runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from typing import Any

import cohab
import pytest
from conftest import StartServer
from harness import COHAB, Gate, Server, run_cohab
from others import Others
from processes import wait_until
from wire import Raw, Reply, deadline_in, frame, request


def ps(server: Server) -> dict[str, Any]:
    result = server.cli("ps", "--json")
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["version"] == 1
    return answer


def wait_ps(server: Server, running: int, waiting: int) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        answer = ps(server)
        fits = (len(answer["running"]), len(answer["waiting"])) == (running, waiting)
        return answer if fits else None

    found = wait_until(look, what=f"{running} calls running, {waiting} requests waiting")
    assert found
    return found


def check_killed(reply: Reply, method: str) -> None:
    assert reply.error is not None
    assert (reply.error["code"], reply.reason) == ("CANCELLED", "KILLED")
    assert reply.error["executed"] is True
    assert reply.error["retry"] is False
    assert f"{method}() was killed by an operator" in reply.error["message"]


# ---- ps


def test_nothing(start: StartServer) -> None:
    server = start("fault", workers=1)
    server.raw().call("echo", 1)
    server.wait_all_idle()
    assert ps(server) == {"version": 1, "running": [], "waiting": []}
    assert server.cli("ps").stdout == "nothing runs, and nothing waits\n"


def test_what_runs_and_what_waits(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    holder, waiting = server.raw(), server.raw()
    meta = {**deadline_in(50), "sent": time.monotonic_ns()}
    msgid = holder.ask("block", gate.path, "held", meta=meta)
    pid = gate.pid_of("held")
    behind = waiting.ask("echo", "x" * 50, meta=meta)
    answer = wait_ps(server, 1, 1)
    call = answer["running"][0]
    assert (call["worker"], call["pid"]) == (1, pid)
    assert (call["method"], call["msgid"]) == ("block", msgid)
    assert (call["peer_pid"], call["peer_uid"]) == (os.getpid(), os.getuid())
    assert 0 < call["running"] < 50
    assert 0 <= call["queued"] < 50
    assert 0 < call["deadline_left"] < 50
    assert call["ending"] is None
    waits = answer["waiting"][0]
    assert (waits["method"], waits["msgid"]) == ("echo", behind)
    assert (waits["peer_pid"], waits["peer_uid"]) == (os.getpid(), os.getuid())
    assert 0 < waits["queued"] < 50
    assert 0 < waits["deadline_left"] < 50
    assert waits["bytes"] > 50
    lines = server.cli("ps").stdout.splitlines()
    assert lines[0].split()[:4] == ["WORKER", "CALL", "STATE", "METHOD"]
    assert lines[1].split()[:5] == ["1", f"{pid}/{call['request']}", "running", "block", str(msgid)]
    assert lines[2].split()[:5] == ["-", "-", "waiting", "echo", str(behind)]
    gate.release("held")
    assert holder.receive().result == "held"
    assert waiting.receive().result == "x" * 50  # the look at it has left it whole


def test_what_clients_do_not_tell(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    holder, waiting = server.raw(), server.raw()
    holder.ask("block", gate.path)
    gate.wait_started(1)
    waiting.ask("echo", 1, meta={"timeout": 7.0})
    answer = wait_ps(server, 1, 1)
    assert answer["running"][0]["queued"] is None
    assert answer["waiting"][0]["queued"] is None
    assert answer["waiting"][0]["deadline_left"] == 7.0


def test_of_large_requests_the_beginning_is_shown(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    holder, waiting = server.raw(), server.raw()
    holder.ask("block", gate.path)
    gate.wait_started(1)
    msgid = waiting.ask("echo", "x" * 20_000, meta=deadline_in(50))
    waits = wait_ps(server, 1, 1)["waiting"][0]
    assert (waits["method"], waits["msgid"]) == ("echo", msgid)
    assert waits["queued"] is None
    assert waits["deadline_left"] is None
    assert waits["bytes"] > 20_000


@pytest.mark.parametrize(
    "data",
    [b"\0", b"\0\0\0\1\xc1", b"\xff" * 40, frame(b"\x94\x00\xce\xff"),
     frame(b"\x94\x00\x01\xa4\xff\x1b[2"), b"\0" * 9],
    ids=["a byte", "no msgpack", "ones", "cut in the msgid", "an escape", "zeros"],
)  # fmt: skip
def test_what_waits_is_no_request(start: StartServer, gate: Gate, data: bytes) -> None:
    server = start("fault", workers=1)
    holder, waiting = server.raw(), server.raw()
    holder.ask("block", gate.path)
    gate.wait_started(1)
    waiting.send(data)
    waits = wait_ps(server, 1, 1)["waiting"][0]
    assert waits["method"] is None
    assert waits["bytes"] == len(data)
    assert "\x1b" not in server.cli("ps").stdout


def test_what_is_pipelined_is_not_cut(start: StartServer, gate: Gate) -> None:
    """What is left in the connection of a call that runs may begin in the middle of a request."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.send(request("block", gate.path, "held") + request("echo", "x" * 100_000))
    gate.pid_of("held")
    assert ps(server)["waiting"] == []
    gate.release("held")
    assert raw.receive().result == "held"
    assert raw.receive().result == "x" * 100_000


def test_a_method_with_controls_in_its_name(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    holder, waiting = server.raw(), server.raw()
    holder.ask("block", gate.path)
    gate.wait_started(1)
    waiting.ask("a\tb\x1b[2J" + "c" * 200)
    wait_ps(server, 1, 1)
    row = server.cli("ps").stdout.splitlines()[2]
    assert "a b\\x1b[2J" in row
    assert "c" * 100 not in row


def test_many_wait(start: StartServer, gate: Gate) -> None:
    """More than one part of the answer."""
    server = start("fault", "--max-connections", "400", workers=1)
    holder = server.raw()
    holder.ask("block", gate.path, "held")
    gate.pid_of("held")
    raws = [server.raw() for _ in range(300)]
    msgids = [raw.ask("echo", i, meta=deadline_in(50)) for i, raw in enumerate(raws)]
    answer = wait_ps(server, 1, 300)
    assert sorted(waits["msgid"] for waits in answer["waiting"]) == msgids
    gate.release("held")
    assert [raw.receive().result for raw in raws] == list(range(300))


def test_a_call_without_a_client(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("sleep", 2.0)
    wait_ps(server, 1, 0)
    raw.close()
    call = wait_until(lambda: next((c for c in ps(server)["running"] if c["ending"]), None), what="the flag")
    assert call["ending"] == "client_gone"
    assert call["peer_pid"] == os.getpid()
    assert " client gone " in server.cli("ps").stdout


def test_under_load(start: StartServer) -> None:
    """Looks at what waits take nothing away from anybody."""
    server = start("fault", workers=2)
    with Others(server, 8) as others:
        for _ in range(40):
            answer = ps(server)
            assert len(answer["running"]) <= 2
            for call in answer["running"] + answer["waiting"]:
                assert call["method"] in ("echo", "sleep")
    assert not others.errors


@pytest.mark.parametrize("params", [["x"], [-1], [1, 2], [1.5], [None]])
def test_ps_params(start: StartServer, params: list[Any]) -> None:
    server = start("fault", workers=1)
    with Raw(server.socket + ".ctl") as admin:
        assert admin.call("ps", *params).reason == "BAD_ARGUMENT"
        assert admin.call("ps", 2**64 - 1).result["waiting"] == []
        assert admin.call("ps", 5).result["running"] == []


# ---- kill


@pytest.mark.parametrize("method", ["sleep", "spin_forever", "hang", "polite"])
def test_by_worker(start: StartServer, gate: Gate, method: str) -> None:
    server = start("fault", "--kill-grace", "5" if method == "polite" else "0.1", workers=2)
    other, raw = server.raw(), server.raw()
    other.ask("block", gate.path, "held")
    gate.pid_of("held")
    raw.ask(method, *([30.0] if method in ("sleep", "polite") else []))
    call = next(c for c in wait_ps(server, 2, 0)["running"] if c["method"] == method)
    result = server.cli("kill", str(call["worker"]))
    assert result.returncode == 0
    assert result.stdout.startswith(f"worker {call['worker']}: ending {method}() of pid {os.getpid()} after ")
    check_killed(raw.receive(), method)
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()
    deaths = server.status()["deaths"]
    if method == "polite":
        assert deaths == []
    else:
        assert deaths[0]["cause"] == f"ended: {method}() was killed by an operator"
        assert 'cohab_worker_deaths_total{cause="killed"} 1\n' in server.cli("metrics").stdout
    metrics = server.cli("metrics").stdout
    assert 'cohab_calls_cancelled_total{cause="killed"} 1\n' in metrics
    assert f'cohab_calls_total{{method="{method}",code="CANCELLED"}} 1\n' in metrics
    gate.release("held")
    assert other.receive().result == "held"


def test_what_is_told_of_where_it_was(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("spin_forever")
    wait_ps(server, 1, 0)
    assert server.cli("kill", "1").returncode == 0
    reply = raw.receive()
    check_killed(reply, "spin_forever")
    assert reply.error is not None
    details = reply.error["details"]
    assert any("fault_spin_forever" in line for line in details["frames"])
    shown = server.cli(
        "crash", "show", "--json", details["report"], "--crash-dir", str(server.crash_directory)
    )
    assert '"kind": "killed"' in shown.stdout


def test_python_client(start: StartServer) -> None:
    server = start("fault", workers=1)
    client = server.client()
    caught: list[BaseException] = []

    def run() -> None:
        try:
            client.call("crash_once", "/dev/null/nowhere")  # idempotent, and yet not to be sent again
            client.call("sleep", 30.0)
        except cohab.Error as error:
            caught.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    wait_ps(server, 1, 0)
    assert server.cli("kill", "1").returncode == 0
    thread.join()
    (error,) = caught
    assert isinstance(error, cohab.Cancelled)
    assert (error.code, error.reason) == ("CANCELLED", "KILLED")
    assert error.executed
    assert not error.retry
    assert client.call("echo", 1) == 1


def test_by_call(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.call("echo", 1)
    raw.ask("sleep", 30.0)
    call = wait_ps(server, 1, 0)["running"][0]
    name = f"{call['pid']}/{call['request']}"
    for wrong in (f"{call['pid']}/{call['request'] + 1}", f"{call['pid'] + 1}/{call['request']}"):
        result = server.cli("kill", wrong)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == f"cohab: kill: call {wrong} is not running; see cohab ps\n"
    assert ps(server)["running"][0]["ending"] is None
    assert server.cli("kill", name).returncode == 0
    check_killed(raw.receive(), "sleep")
    assert server.cli("kill", name).returncode == 1


def test_by_peer(start: StartServer, gate: Gate) -> None:
    """All calls of one client process, and of no other; its waiting request runs."""
    server = start("fault", workers=3)
    mine = server.raw()
    mine.ask("block", gate.path, "mine")
    gate.pid_of("mine")
    command = [str(COHAB), "--socket", server.socket, "call", "sleep", "30"]
    strangers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    wait_ps(server, 3, 0)
    result = server.cli("kill", "--peer", str(strangers[0].pid))
    assert (result.returncode, result.stdout.count("\n")) == (0, 1)
    output = strangers[0].communicate()
    assert strangers[0].returncode == 1
    assert "cohab: CANCELLED (KILLED): sleep() was killed by an operator" in output[1]
    peers = {call["peer_pid"] for call in wait_ps(server, 2, 0)["running"]}
    assert peers == {os.getpid(), strangers[1].pid}
    second = server.raw()
    second.ask("sleep", 30.0)
    wait_ps(server, 3, 0)
    result = server.cli("kill", "--peer", str(os.getpid()))
    assert result.stdout.count("\n") == 2
    check_killed(second.receive(), "sleep")
    check_killed(mine.receive(), "block")
    assert strangers[1].poll() is None
    assert server.cli("kill", "--peer", str(strangers[1].pid)).returncode == 0
    strangers[1].communicate()


def test_what_waits_is_not_touched(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw, behind = server.raw(), server.raw()
    raw.ask("sleep", 30.0)
    wait_ps(server, 1, 0)
    behind.ask("echo", "b")
    wait_ps(server, 1, 1)
    assert server.cli("kill", "--peer", str(os.getpid())).returncode == 0
    check_killed(raw.receive(), "sleep")
    assert behind.receive().result == "b"


def test_pipelined_behind_what_is_killed(start: StartServer) -> None:
    """It is served, where the engine has ended the call itself."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("polite", 30.0)
    raw.ask("echo", "behind")
    wait_ps(server, 1, 0)
    assert server.cli("kill", "1").returncode == 0
    check_killed(raw.receive(), "polite")
    assert raw.receive().result == "behind"


def test_a_kill_hits_only_the_call_that_it_names(start: StartServer) -> None:
    """Calls that end all the time, on one worker, and kills that come at any moment: who gets KILLED was
    named by a kill."""
    server = start("fault", "--kill-grace", "0.002", workers=1)
    killed: set[int] = set()
    named: set[int] = set()
    failures: list[Reply] = []
    asked = threading.Event()
    over = threading.Event()

    def kill() -> None:
        with Raw(server.socket + ".ctl") as admin:
            while not over.is_set():
                asked.wait(5)
                asked.clear()
                named.update(call["msgid"] for call in admin.call("kill", 1).result["calls"])

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    raw = server.raw()
    for turn in range(400):
        if turn % 3 == 0:
            asked.set()
        reply = raw.call("sleep", turn % 7 / 1000)
        if reply.reason == "KILLED":
            assert reply.msgid is not None
            killed.add(reply.msgid)
        elif not reply.ok:
            failures.append(reply)
    over.set()
    asked.set()
    thread.join()
    assert not failures
    assert killed
    assert killed <= named
    assert len(killed) < 250
    server.wait_full_strength()


def test_nothing_to_kill(start: StartServer) -> None:
    server = start("fault", workers=2)
    result = server.cli("kill", "2")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "cohab: kill: worker 2 is not running a call; see cohab ps\n"
    result = server.cli("kill", "--peer", "1")
    assert result.returncode == 1
    assert result.stderr == "cohab: kill: no call of pid 1 is running; see cohab ps\n"
    result = server.cli("kill", "3")
    assert result.returncode == 1
    assert "there is no worker of that number" in result.stderr


@pytest.mark.parametrize(
    "words",
    [[], ["x"], ["0"], ["-1"], ["1", "2"], ["1/"], ["1/0"], ["/1"], ["1/2/3"], ["1x"], ["--peer"],
     ["--peer", "x"], ["--peer", "0"], ["--peer", "1", "1"], ["1/2x"]],
)  # fmt: skip
def test_bad_usage(words: list[str]) -> None:
    result = run_cohab("--socket", "/nowhere", "kill", *words)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [["ps"], ["kill", "1"], ["kill", "--peer", "1"]])
def test_no_server(words: list[str]) -> None:
    assert run_cohab("--socket", "/nowhere", *words).returncode == 3


@pytest.mark.parametrize(
    ("method", "params"),
    [("kill", []), ("kill", [0]), ("kill", ["1"]), ("kill", [1, 1]), ("kill", [2]), ("kill", [2**40]),
     ("kill_call", [1]), ("kill_call", [1, 0]), ("kill_call", [1, 1, 1]), ("kill_peer", []),
     ("kill_peer", [-1]), ("kill_peer", [0]), ("kill_peer", [2**31])],
)  # fmt: skip
def test_kill_params(start: StartServer, method: str, params: list[Any]) -> None:
    server = start("fault", workers=1)
    with Raw(server.socket + ".ctl") as admin:
        assert admin.call(method, *params).reason == "BAD_ARGUMENT"


def test_nobody_sends_it_again(start: StartServer) -> None:
    """Not even where the method is idempotent, as a retry would undo what the operator wants."""
    server = start("echo", workers=1)
    raw = server.raw()
    for stopped in (False, True):
        raw.ask("sleep", 30.0)
        pid = wait_ps(server, 1, 0)["running"][0]["pid"]
        if stopped:  # it cannot end the call itself
            os.kill(pid, signal.SIGSTOP)
        assert server.cli("kill", "1").returncode == 0
        check_killed(raw.receive(), "sleep")


def test_a_stopped_worker_s_call_can_be_killed(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("sleep", 30.0)
    pid = wait_ps(server, 1, 0)["running"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert server.cli("kill", "1").returncode == 0
    check_killed(raw.receive(), "sleep")
    assert raw.call("echo", 1).result == 1
