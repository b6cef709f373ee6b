"""A worker is stopped from outside just as it takes a request: the request does not wait for its SIGCONT."""

from __future__ import annotations

import os
import signal
import time

import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import children_of, is_alive, signal_quietly, state_of, title_of, wait_until
from wire import ConnectionEnded, deadline_in

ROUNDS = 60
REASONS = ("ENGINE_CRASHED", "WORKER_LOST", "DEADLINE", "QUEUE_TIMEOUT")
ANSWER_WITHIN = 6.0  # far below the default time-out of 30 s


def idle_workers(server: Server) -> list[int]:
    return [pid for pid in children_of(server.pid) if title_of(pid).endswith(" idle")]


@pytest.mark.parametrize("ask_first", [True, False], ids=["ask, stop", "stop, ask"])
def test_request_and_stop_together(start: StartServer, ask_first: bool) -> None:
    """How far the stopped worker has come is up to the kernel; the request is answered in any case."""
    server = start("fault", "--stall-timeout", "0.25", workers=2)
    raw = server.raw(timeout=ANSWER_WITHIN)
    answered = 0
    for turn in range(ROUNDS):
        victim = wait_until(lambda: idle_workers(server), what="an idle worker")[-1]
        meta = deadline_in(1.0)  # for the case that it is stopped in the call
        if ask_first:
            raw.ask("echo", turn, meta=meta)
            signal_quietly(victim, signal.SIGSTOP)
        else:
            signal_quietly(victim, signal.SIGSTOP)
            raw.ask("echo", turn, meta=meta)
        try:
            reply = raw.receive()
        except (ConnectionEnded, ConnectionResetError):  # it was half read or half written
            raw.close()
            raw = server.raw(timeout=ANSWER_WITHIN)
        else:
            assert reply.result == turn or reply.reason in REASONS
            answered += reply.ok
        if is_alive(victim):
            signal_quietly(victim, signal.SIGCONT)
    assert answered > ROUNDS // 2
    server.wait_full_strength()
    assert raw.call("echo", 1).result == 1


def test_stopped_idle_workers_are_left_alone(start: StartServer) -> None:
    """They hold nothing: nobody waits for them, and nobody kills them."""
    server = start("fault", "--stall-timeout", "0.25", workers=3)
    stopped = server.workers()[:2]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state_of(pid) == "T" for pid in stopped), what="stopped workers")
    raw = server.raw()
    assert raw.call("echo", 1).ok
    assert raw.call("sleep", 0.6).ok
    assert all(state_of(pid) == "T" for pid in stopped)
    for pid in stopped:
        os.kill(pid, signal.SIGCONT)
    assert raw.call("echo", 1).ok
    assert server.status()["totals"]["worker_deaths"] == 0


def test_a_pause_of_everything_kills_nobody(start: StartServer) -> None:
    """Longer than the stall time-out: what was stopped with its master is innocent."""
    server = start("fault", "--stall-timeout", "0.25", workers=3)
    raws = [server.raw() for _ in range(6)]
    for turn in range(5):
        for i, raw in enumerate(raws):
            raw.ask("echo", [turn, i])
        tree = server.tree()
        for pid in tree:
            os.kill(pid, signal.SIGSTOP)
        wait_until(lambda pids=tree: all(state_of(pid) == "T" for pid in pids))  # type: ignore[misc]
        time.sleep(0.5)  # the pause itself
        for pid in reversed(tree):
            os.kill(pid, signal.SIGCONT)
        for i, raw in enumerate(raws):
            assert raw.receive().result == [turn, i]
    assert server.status()["totals"]["worker_deaths"] == 0


def test_a_worker_stopped_in_a_call_holds_up_nobody_else(start: StartServer, gate: Gate) -> None:
    """Its own call has time until its deadline; all others are served meanwhile."""
    server = start("fault", "--stall-timeout", "0.25", workers=2)
    held = server.raw()
    held.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T", what="a stopped worker")
    raws = [server.raw() for _ in range(8)]
    for turn in range(10):
        for i, raw in enumerate(raws):
            raw.ask("sleep", 0.01) if i == 0 else raw.ask("echo", [turn, i])
        for i, raw in enumerate(raws):
            assert raw.receive().result == (None if i == 0 else [turn, i])
    assert state_of(pid) == "T"
    os.kill(pid, signal.SIGCONT)
    gate.release("held")
    assert held.receive().result == "held"
    assert server.status()["totals"]["worker_deaths"] == 0
