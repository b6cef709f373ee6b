"""A worker dies: one request gets an error, nothing else changes, and the worker is replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import cohab
import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import is_alive, parent_of, state_of, title_of, wait_until
from wire import ConnectionEnded, Raw, Reply, request

SIGNALS = [
    "SIGKILL",
    "SIGSEGV",
    "SIGBUS",
    "SIGILL",
    "SIGFPE",
    "SIGABRT",
    "SIGTRAP",
    "SIGQUIT",
    "SIGINT",
    "SIGVTALRM",
]
SIGNALS += ["SIGSYS", "SIGXCPU"]


def crash_error(reply: Reply, *, signal_name: str = "", retry: bool = False) -> dict[str, Any]:
    """Check the one error of a crash, and return it."""
    assert reply.error is not None
    error = reply.error
    assert (error["code"], error["reason"]) == ("INTERNAL", "ENGINE_CRASHED")
    assert error["executed"] is True
    assert error["retry"] is retry
    assert error["details"].get("signal", "") == signal_name
    return error


class Bystanders:
    """Connections beside the one that suffers: idle, and one with a call that runs."""

    def __init__(self, server: Server, gate: Gate) -> None:
        self.idle = [server.raw() for _ in range(4)]
        for raw in self.idle:
            assert raw.call("echo", 1).result == 1
        self.gate = gate
        self.running = server.raw()
        self.running.ask("block", gate.path, "bystander")
        self.pid = gate.pid_of("bystander")

    def check(self) -> None:
        for raw in self.idle:
            assert raw.call("echo", "fine").result == "fine"
        self.gate.release("bystander")
        assert self.running.receive().result == "bystander"
        assert is_alive(self.pid)


DEATHS: dict[str, tuple[str, list[Any], str, str]] = {
    # name: (method, params, signal in details, a word of the message)
    "crash": ("crash", [], "SIGSEGV", "SIGSEGV"),
    "crash in a thread": ("crash_in_thread", [], "SIGSEGV", "SIGSEGV"),
    "stack overflow": ("overflow_stack", [], "SIGSEGV", "SIGSEGV"),
    "abort": ("abort", [], "SIGABRT", "SIGABRT"),
    "double free": ("double_free", [], "SIGABRT", "SIGABRT"),
    "exit 0": ("exit", [0], "", "exit(0)"),
    "exit 3": ("exit", [3], "", "exit(3)"),
    "exit of the thread": ("exit_thread", [], "", "exit(0)"),
    "all descriptors closed": ("close_from", [3], "", "descriptors"),
    **{name: ("raise", [int(signal.Signals[name])], name, name) for name in SIGNALS},
    "real-time signal": ("raise", [40], "SIGRTMIN+6", "SIGRTMIN+6"),
}


@pytest.mark.parametrize("name", DEATHS)
def test_one_request_gets_one_error(start: StartServer, gate: Gate, name: str) -> None:
    method, params, signal_name, word = DEATHS[name]
    server = start("fault", workers=2)
    bystanders = Bystanders(server, gate)
    victim = next(pid for pid in server.workers() if pid != bystanders.pid)
    raw = server.raw()
    error = crash_error(raw.call(method, *params), signal_name=signal_name)
    assert f"{method}()" in error["message"]
    assert word in error["message"]
    assert raw.call("echo", "the same connection works on").result == "the same connection works on"
    pids = server.wait_replaced([victim])
    assert bystanders.pid in pids
    bystanders.check()
    status = server.status()
    assert status["totals"]["worker_deaths"] == 1
    assert [death["pid"] for death in status["deaths"]] == [victim]
    assert f"{method}()" in status["deaths"][0]["cause"]


def test_python_error_of_a_crash(start: StartServer) -> None:
    client = start("fault").client()
    with pytest.raises(cohab.EngineCrashed) as caught:
        client.call("crash")
    assert caught.value.signal == "SIGSEGV"
    assert caught.value.method == "crash"
    assert client.call("echo", 1) == 1


def test_retry_is_true_for_an_idempotent_method(start: StartServer, directory: Path) -> None:
    server = start("fault")
    raw = server.raw()
    crash_error(raw.call("crash_idempotent"), signal_name="SIGSEGV", retry=True)
    marker = str(directory / "crashed")
    crash_error(raw.call("crash_once", marker), signal_name="SIGSEGV", retry=True)
    assert raw.call("crash_once", marker).result == "survived"
    crash_error(raw.call("crash"), signal_name="SIGSEGV", retry=False)


def test_death_between_requests_is_nobody_s_error(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    pid = server.workers()[0]
    assert raw.call("alarm", 0.02).ok
    server.wait_replaced([pid])
    assert raw.call("echo", 1).result == 1
    assert "SIGALRM" in server.status()["deaths"][0]["cause"]


def test_raise_sigterm_lets_the_call_finish(start: StartServer) -> None:
    """SIGTERM asks a worker to leave when it is idle, whoever sends it."""
    server = start("fault", workers=1)
    raw = server.raw()
    pid = server.workers()[0]
    assert raw.call("raise", int(signal.SIGTERM)).ok
    server.wait_replaced([pid])
    assert raw.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 0


def test_sigterm_from_outside_while_a_call_runs(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    os.kill(pid, signal.SIGTERM)
    gate.release("held")
    assert raw.receive().result == "held"
    assert server.wait_replaced([pid]) != [pid]
    assert raw.call("echo", 1).result == 1


def test_sigterm_to_every_idle_worker(start: StartServer) -> None:
    server = start("fault", workers=4)
    client = server.client()
    client.ping()
    for _ in range(5):
        pids = server.workers()
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        assert client.call("echo", 1) == 1
        server.wait_replaced(pids)
    assert server.status()["totals"]["worker_deaths"] == 0


def test_a_worker_that_stops_itself(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    pid = server.workers()[0]
    reply = raw.call("raise", int(signal.SIGSTOP), meta={"timeout": 0.2})
    assert reply.reason == "DEADLINE"
    server.wait_replaced([pid])
    assert raw.call("echo", 1).result == 1


# ---- descriptors


def connection_fd(raw: Raw) -> int:
    """The number of this connection's own descriptor in the worker: the highest, as it is the newest."""
    return int(max(raw.call("open_fds").result))


@pytest.mark.parametrize("method", ["close_fd", "replace_fd"])
def test_the_connection_s_descriptor_is_gone(start: StartServer, gate: Gate, method: str) -> None:
    server = start("fault", workers=2)
    bystanders = Bystanders(server, gate)
    raw = server.raw()
    error = crash_error(raw.call(method, connection_fd(raw)))
    assert "descriptors" in error["message"]
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()
    bystanders.check()
    assert server.status()["totals"]["worker_deaths"] == 1


@pytest.mark.parametrize("method", ["close_fd", "replace_fd"])
@pytest.mark.parametrize("which", [0, 1])
def test_the_worker_s_own_descriptors_are_gone(start: StartServer, method: str, which: int) -> None:
    """The set or the control socket: the answer is out, or another worker takes the request; no error."""
    server = start("fault", workers=1)
    raw = server.raw()
    fds = raw.call("open_fds").result
    own = [fd for fd in fds if fd >= 1024][which]
    pid = server.workers()[0]
    assert raw.call(method, own).ok
    for i in range(3):
        assert server.raw().call("echo", i).result == i  # a new connection: the worker must ask for it
    assert raw.call("echo", 1).result == 1
    server.wait_replaced([pid])
    assert server.status()["totals"]["worker_deaths"] == 1


def test_another_connection_s_descriptor_is_gone(start: StartServer) -> None:
    server = start("fault", workers=1)
    one, other = server.raw(), server.raw()
    assert other.call("echo", 1).result == 1
    fd = connection_fd(other)
    assert one.call("echo", 1).result == 1
    assert one.call("close_fd", fd).ok
    reply = other.call("echo", 2)  # the worker finds out before it has read anything
    assert reply.result == 2
    assert one.call("echo", 3).result == 3
    server.wait_full_strength()


def test_standard_descriptors_are_gone(start: StartServer) -> None:
    raw = start("fault", workers=1).raw()
    for fd in (0, 1, 2):
        assert raw.call("close_fd", fd).ok
    assert raw.call("echo", 1).result == 1
    assert raw.call("stderr", "into nowhere").ok
    crash_error(raw.call("crash"), signal_name="SIGSEGV")


def test_an_engine_that_opens_descriptors(start: StartServer) -> None:
    """Up to where the connections begin, and beyond: a request is never lost to a number that is taken."""
    server = start("fault", "--max-connections", "64", workers=1)
    raw = server.raw()
    assert raw.call("open_more", 1100).ok
    for i in range(5):
        assert server.raw().call("echo", i).result == i
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()


def test_an_engine_at_its_limit_of_descriptors(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("limit_files", 20).ok
    assert server.raw().call("echo", 1).result == 1
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()


# ---- children


def test_stray_fork(start: StartServer) -> None:
    """The child holds every descriptor: connections are closed all the same, and the worker is replaced."""
    server = start("fault", workers=1)
    raw = server.raw()
    child = raw.call("fork_child", 60.0).result
    assert is_alive(child)
    pid = server.workers()[0]
    crash_error(raw.call("crash"), signal_name="SIGSEGV")
    server.wait_replaced([pid])
    assert raw.call("echo", 1).result == 1
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.at_end()
    wait_until(lambda: parent_of(child) == server.pid, what="the orphan is the master's")
    os.kill(child, signal.SIGKILL)
    wait_until(lambda: state_of(child) == "", what="the orphan is reaped")
    assert server.client().call("echo", 1) == 1


@pytest.mark.parametrize("status", [0, 80, 81, 82, 83])
def test_child_that_exits(start: StartServer, status: int) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("fork_exit", status).result > 0
    assert raw.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 0


def test_child_that_returns_out_of_the_method(start: StartServer) -> None:
    """It has neither row nor buffer: it can answer nothing and claim nothing."""
    server = start("fault", workers=1)
    raw = server.raw()
    pid = server.workers()[0]
    reply = raw.call("fork_return")
    child = reply.result
    assert child > 0
    wait_until(lambda: state_of(child) in ("", "Z"), what="the child's end")
    for i in range(50):
        assert raw.call("echo", i).result == i
    assert raw.is_silent()
    assert server.workers() == [pid]


@pytest.mark.parametrize("status", [0, 1, 80, 81, 82, 83])
def test_exit_codes_with_a_meaning_mean_nothing_in_a_call(start: StartServer, status: int) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    crash_error(raw.call("exit", status))
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()


# ---- a worker's shared memory


@pytest.mark.parametrize("mapping", ["cohab-row", "cohab-request"])
@pytest.mark.parametrize("value", [0, 0x7F, 0xFF])
@pytest.mark.parametrize("outcome", ["return", "crash", "exit"])
def test_wild_writes_into_shared_memory(
    start: StartServer, gate: Gate, mapping: str, value: int, outcome: str
) -> None:
    """Whatever becomes of that one request, everybody else is served."""
    server = start("fault", workers=2)
    bystanders = Bystanders(server, gate)
    victim = next(pid for pid in server.workers() if pid != bystanders.pid)
    server.raw().ask("scribble", mapping, value, outcome)
    if outcome != "return":
        server.wait_replaced([victim])
    fresh = server.raw()
    for i in range(20):
        assert fresh.call("echo", i).result == i
    server.wait_full_strength()
    bystanders.check()


@pytest.mark.parametrize("value", [0, 0xFF])
def test_a_row_that_was_overwritten_loses_no_connection_for_ever(start: StartServer, value: int) -> None:
    """Nobody can say any more whose request it was; but its connection ends, and its place is given back."""
    server = start("fault", workers=1)
    raw = server.raw(timeout=3.0)
    raw.ask("scribble", "cohab-row", value, "crash")
    assert raw.at_end()
    raw.close()
    wait_until(lambda: server.status()["connections"]["open"] == 0, 3.0, "its place is free")


@pytest.mark.parametrize("size", [64, 256, 512])
def test_an_overrun_row_hits_nobody_else(start: StartServer, size: int) -> None:
    """Bytes of 1, as from an array of small numbers: a state, and a claim on another's connection."""
    server = start("fault", workers=2)
    raws = [server.raw(timeout=3.0) for _ in range(4)]
    for raw in raws:
        assert raw.call("echo", 1).ok
    raws[0].ask("scribble", "cohab-row", 1, "crash", 0, size)
    assert raws[0].at_end()
    for raw in raws[1:]:
        assert raw.is_silent()
        assert raw.call("echo", 2).result == 2
    wait_until(lambda: server.status()["connections"]["open"] == 3, 3.0, "its place is free")


def test_one_word_of_a_row_that_was_overwritten(start: StartServer) -> None:
    """Wherever it lies: the caller hears something, and its place is given back."""
    server = start("fault", workers=2)
    for offset in range(0, 192, 8):
        with server.raw(timeout=5.0) as raw:
            raw.ask("scribble", "cohab-row", 0xFF, "crash", offset, 8)
            with contextlib.suppress(ConnectionEnded, ConnectionResetError):
                assert not raw.receive().ok
        wait_until(lambda: server.status()["connections"]["open"] == 0, 3.0, f"{offset}: its place is free")


@pytest.mark.parametrize(("value", "size"), [(0xFF, 512), (0xFF, 192), (0, 512)])
def test_a_row_that_was_overwritten_hides_no_stuck_call(start: StartServer, value: int, size: int) -> None:
    server = start(
        "fault", "--default-timeout", "0.3", "--stall-timeout", "0.25", "--max-timeout", "0.5", workers=1
    )
    raw = server.raw(timeout=10.0)
    raw.ask("scribble", "cohab-row", value, "spin", 0, size)
    with contextlib.suppress(ConnectionEnded, ConnectionResetError):
        assert not raw.receive().ok
    assert server.client().call("echo", 1) == 1


@pytest.mark.parametrize("value", [0, 1, 0xFF])
def test_the_length_of_a_request_that_was_overwritten(start: StartServer, value: int) -> None:
    """The answer is right, and nothing follows that nobody asked for."""
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("scribble", "cohab-request", value, "return", 0, 4).result == 4
    assert raw.is_silent(0.05)
    assert raw.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize("rubbish", [b"x" * 20, b"\0" * 64, b""], ids=["unknown", "zeros", "empty"])
def test_what_an_engine_writes_to_the_control_socket(start: StartServer, rubbish: bytes) -> None:
    server = start("fault", workers=2)
    raw = server.raw(timeout=5.0)
    control = 1028
    raw.ask("write_fd", control, rubbish)
    with contextlib.suppress(ConnectionEnded, ConnectionResetError):
        raw.receive()
    server.wait_full_strength()
    assert server.client().call("echo", 1) == 1
    assert len(server.log()) < 10000


def test_truncating_shared_memory_is_refused(start: StartServer) -> None:
    """The memfds are sealed. Nothing of them is open in a worker to begin with."""
    server = start("fault", workers=1)
    raw = server.raw()
    for fd in raw.call("open_fds").result:
        if fd >= 1024:
            assert raw.call("truncate_fd", fd, 0).result < 0
    assert raw.call("echo", 1).result == 1


# ---- pipelined requests


def test_crash_with_a_pipelined_request(start: StartServer) -> None:
    """The answer to the first, then the end: the second went down with the worker's buffer."""
    server = start("fault", workers=2)
    raw = server.raw()
    raw.send(request("crash", msgid=1) + request("echo", "lost", msgid=2))
    reply = raw.receive()
    assert reply.msgid == 1
    crash_error(reply, signal_name="SIGSEGV")
    assert raw.at_end()
    server.wait_full_strength()
    assert server.client().call("echo", 1) == 1


def test_crash_after_pipelined_requests(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.send(request("echo", "a", msgid=1) + request("echo", "b", msgid=2) + request("crash", msgid=3))
    assert raw.receive() == (1, None, "a")
    assert raw.receive() == (2, None, "b")
    reply = raw.receive()
    assert reply.msgid == 3
    crash_error(reply, signal_name="SIGSEGV")
    assert raw.call("echo", "on").result == "on"


def test_crash_with_a_pipelined_request_that_was_not_yet_received(start: StartServer, gate: Gate) -> None:
    """It is still in the socket: another worker serves it."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    second = raw.ask("echo", "waits in the socket")
    os.kill(pid, signal.SIGKILL)
    crash_error(raw.receive(), signal_name="SIGKILL")
    reply = raw.receive()
    assert (reply.msgid, reply.result) == (second, "waits in the socket")


def test_crash_of_a_half_closed_client(start: StartServer) -> None:
    server = start("fault")
    raw = server.raw()
    raw.send(request("crash", msgid=4))
    raw.sock.shutdown(socket.SHUT_WR)
    crash_error(raw.receive(), signal_name="SIGSEGV")
    assert raw.at_end()


def test_crash_of_a_client_that_is_gone(start: StartServer) -> None:
    server = start("fault", workers=1)
    for deaths in range(1, 6):
        raw = server.raw()
        raw.ask("sleep", 30.0)
        wait_until(lambda: server.status()["workers"][0]["method"], what="the call")
        raw.close()
        server.wait_log("its client has gone", deaths)
        os.kill(server.workers()[0], signal.SIGSEGV)
        wait_until(lambda n=deaths: server.status()["totals"]["worker_deaths"] == n, what="its death")  # type: ignore[misc]
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="their connections closed")
    server.wait_full_strength()
    assert server.client().call("echo", 1) == 1


def test_death_while_half_a_frame_is_there(start: StartServer) -> None:
    """What was read is lost: the connection is closed without a word about a request."""
    server = start("fault", "--io-timeout", "20", workers=1)
    pid = server.workers()[0]
    raw = server.raw()
    raw.send(request("echo", "never complete")[:10])
    wait_until(lambda: server.workers("busy") == [pid], what="the worker reads")
    time.sleep(0.01)  # claimed a moment ago: give it time to have read the bytes; both outcomes are right
    os.kill(pid, signal.SIGKILL)
    server.wait_replaced([pid])
    assert raw.at_end()
    assert server.client().call("echo", 1) == 1


def test_death_while_half_a_response_is_written(start: StartServer) -> None:
    server = start("echo", "--io-timeout", "20", workers=1)
    pid = server.workers()[0]
    raw = server.raw()
    raw.ask("blob", 8 << 20)
    raw.receive_exactly(1000)
    os.kill(pid, signal.SIGKILL)
    assert len(raw.receive_exactly(9 << 20)) < 8 << 20
    assert raw.at_end()
    server.wait_replaced([pid])
    assert server.client().call("echo", 1) == 1


# ---- many


def test_deaths_in_a_row(start: StartServer) -> None:
    """No hot loop, no slowing down: each death is replaced at once."""
    server = start("fault", workers=2)
    raw = server.raw()
    for i in range(100):
        crash_error(raw.call("crash"), signal_name="SIGSEGV")
        assert raw.call("echo", i).result == i
    server.wait_full_strength()
    status = server.status()
    assert status["totals"]["worker_deaths"] == 100
    assert len(status["deaths"]) == 8
    assert len(server.children()) == 3


def test_all_workers_crash_at_once(start: StartServer) -> None:
    server = start("fault", workers=8)
    raws = [server.raw() for _ in range(16)]
    for _ in range(5):
        for raw in raws:
            raw.ask("crash")
        for raw in raws:
            crash_error(raw.receive(), signal_name="SIGSEGV")
    server.wait_full_strength()
    for raw in raws:
        assert raw.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 80


def test_start_that_fails_for_a_while(start: StartServer, directory: Path) -> None:
    """Workers that cannot start are tried again, not too often; when it works again all is well."""
    broken = directory / "broken"
    server = start("fault", args=["start-crash-while", str(broken)], workers=2)
    server.expect_error("could not start")
    client = server.client()
    broken.touch()
    for _ in range(2):
        with pytest.raises(cohab.EngineCrashed):
            client.call("crash")
    server.wait_log("could not start", 4)
    states = {w["state"] for w in server.status()["workers"]}
    assert states == {"starting"}
    with pytest.raises(cohab.Unavailable, match="NO_WORKER"):
        client.call("echo", 1)
    broken.unlink()
    server.wait_full_strength()
    assert client.call("echo", 1) == 1
    assert server.log().count("could not start") < 30


def test_words_of_a_dying_engine_are_in_the_log(start: StartServer) -> None:
    server = start("fault")
    raw = server.raw()
    assert raw.call("stderr", "these are the engine's words\n").ok
    server.wait_log("these are the engine's words")
    crash_error(raw.call("double_free"), signal_name="SIGABRT")
    server.wait_log("double free")


def test_idle_workers_say_so_in_their_titles_after_a_crash(start: StartServer) -> None:
    server = start("fault", workers=2)
    crash_error(server.raw().call("crash"), signal_name="SIGSEGV")
    pids = server.wait_full_strength()
    assert sorted(title_of(pid) for pid in pids) == ["cohab: worker 1 idle", "cohab: worker 2 idle"]
