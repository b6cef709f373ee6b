"""Deadlines: who sets them, how a call is ended, and that the end hits the request it was meant for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import cohab
import pytest
from conftest import StartServer
from harness import Gate
from others import Others
from processes import wait_until
from wire import Reply, deadline_in


def check_deadline(reply: Reply, reason: str = "DEADLINE", *, retry: bool = False) -> dict[str, Any]:
    assert reply.error is not None
    assert (reply.error["code"], reply.reason) == ("DEADLINE_EXCEEDED", reason)
    assert reply.error["executed"] is (reason == "DEADLINE")
    assert reply.error["retry"] is retry
    return reply.error


# ---- who sets it


@pytest.mark.parametrize("meta", ["timeout", "deadline"])
def test_client_s_own(start: StartServer, meta: str) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    given = {"timeout": 0.2} if meta == "timeout" else deadline_in(0.2)
    check_deadline(raw.call("sleep", 30.0, meta=given))
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()


def test_python_client_s_own(start: StartServer) -> None:
    client = start("fault").client()
    with pytest.raises(cohab.DeadlineExceeded) as caught:
        client.call("sleep", 30.0, timeout=0.2)
    assert caught.value.reason == "DEADLINE"
    assert caught.value.executed
    assert not caught.value.retry
    assert client.call("echo", 1) == 1


def test_default_timeout(start: StartServer) -> None:
    server = start("fault", "--default-timeout", "0.2", workers=1)
    raw = server.raw()
    check_deadline(raw.call("sleep", 30.0))
    assert raw.call("deadline_left", meta={"timeout": 9.0}).result > 5


def test_max_timeout_clips(start: StartServer) -> None:
    server = start("fault", "--max-timeout", "0.3", workers=1)
    raw = server.raw()
    for meta in ({"timeout": 30.0}, deadline_in(30), {"deadline": 2**64 - 1}, None):
        assert raw.call("deadline_left", meta=meta).result <= 0.3
    check_deadline(raw.call("sleep", 30.0, meta={"timeout": 30.0}))


@pytest.mark.parametrize("meta", [{"deadline": 0}, {"deadline": 1}, {"timeout": 0}, {"timeout": 0.0}])
def test_already_past(start: StartServer, meta: dict[str, Any]) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    check_deadline(raw.call("crash", meta=meta), "QUEUE_TIMEOUT", retry=True)
    assert raw.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 0


def test_passed_while_it_waited(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    first, second = server.raw(), server.raw()
    first.ask("block", gate.path, "held")
    gate.pid_of("held")
    meta = deadline_in(0.05)
    second.ask("crash", meta=meta)
    wait_until(lambda: time.monotonic_ns() > meta["deadline"], what="the deadline")
    gate.release("held")
    assert first.receive().ok
    check_deadline(second.receive(), "QUEUE_TIMEOUT", retry=True)
    assert server.status()["totals"]["worker_deaths"] == 0


# ---- how it ends


def test_polite_engine(start: StartServer) -> None:
    """It sees that it was cancelled and ends by itself: the worker lives on."""
    server = start("fault", "--kill-grace", "5", workers=1)
    raw = server.raw()
    pids = server.workers()
    for outcome in ("error", "error", "error"):
        check_deadline(raw.call("polite", 30.0, outcome, meta={"timeout": 0.1}))
    assert raw.call("polite", 0.01).result == "done"
    assert raw.call("cancelled").result is False
    assert server.workers() == pids


def test_polite_engine_with_a_value(start: StartServer) -> None:
    """A result that comes late is a result, or the deadline was first: nothing else, and no death."""
    server = start("fault", "--kill-grace", "5", workers=1)
    raw = server.raw()
    for _ in range(5):
        reply = raw.call("polite", 30.0, "value", meta={"timeout": 0.05})
        if reply.error is not None:
            check_deadline(reply)
        else:
            assert reply.result == "cancelled"
    assert server.status()["totals"]["worker_deaths"] == 0


def test_echo_s_sleep_and_spin_are_polite(start: StartServer) -> None:
    server = start("echo", "--kill-grace", "5", workers=2)
    for method in ("sleep", "spin"):
        reply = server.raw().call(method, 30.0, meta={"timeout": 0.1})
        check_deadline(reply, retry=reply.error is not None and reply.error["retry"])
    assert server.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize("method", ["sleep", "spin_forever", "hang"])
def test_stuck_engine(start: StartServer, gate: Gate, method: str) -> None:
    """However stuck: its own sleep, a loop, or every signal blocked."""
    server = start("fault", workers=2)
    other = server.raw()
    other.ask("block", gate.path, "held")
    held = gate.pid_of("held")
    raw = server.raw()
    victim = next(pid for pid in server.workers() if pid != held)
    params = [30.0] if method == "sleep" else []
    error = check_deadline(raw.call(method, *params, meta={"timeout": 0.2}))
    assert f"{method}()" in error["message"]
    assert raw.call("echo", 1).result == 1
    server.wait_replaced([victim])
    gate.release("held")
    assert other.receive().result == "held"
    assert f"{method}() ran past its deadline" in server.status()["deaths"][0]["cause"]


def test_blocked_signals_of_an_earlier_call(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("block_signals").ok
    check_deadline(raw.call("sleep", 30.0, meta={"timeout": 0.1}))
    assert raw.call("echo", 1).result == 1


@pytest.mark.parametrize("action", ["ignore", "default"])
def test_the_ending_signal_s_handler_is_replaced(start: StartServer, action: str) -> None:
    """An engine that ignores the signal is killed the hard way; with the default action, by the signal."""
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("set_signal", signal.SIGRTMAX - 1, action).ok
    check_deadline(raw.call("sleep", 30.0, meta={"timeout": 0.1}))
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()


def test_no_grace(start: StartServer) -> None:
    server = start("fault", "--kill-grace", "0", workers=1)
    raw = server.raw()
    for _ in range(5):
        check_deadline(raw.call("hang", meta={"timeout": 0.05}))
    assert raw.call("echo", 1).result == 1


def test_all_workers_stuck(start: StartServer) -> None:
    """The calls that wait behind them are served as soon as the deadlines have cleared the way."""
    server = start("fault", workers=4)
    stuck = [server.raw() for _ in range(4)]
    for raw in stuck:
        raw.ask("hang", meta={"timeout": 0.3})
    wait_until(lambda: len(server.workers("busy")) == 4, what="all are stuck")
    waiting = [server.raw() for _ in range(8)]
    for i, raw in enumerate(waiting):
        raw.ask("echo", i)
    for raw in stuck:
        check_deadline(raw.receive())
    for i, raw in enumerate(waiting):
        assert raw.receive().result == i
    server.wait_full_strength()


def test_deadline_with_a_pipelined_request(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    first = raw.ask("polite", 30.0, meta={"timeout": 0.1})
    second = raw.ask("echo", "after")
    reply = raw.receive()
    assert reply.msgid == first
    check_deadline(reply)
    assert raw.receive() == (second, None, "after")


# ---- the end hits whom it is meant for


def from_to(low: float, high: float, count: int) -> Iterator[float]:
    for i in range(count):
        yield low + (high - low) * i / (count - 1)


@pytest.mark.parametrize("grace", ["0", "0.005", "0.02"])
def test_calls_that_finish_around_their_deadline(start: StartServer, grace: str) -> None:
    """Each ends right or by its deadline; calls of others, on the same workers, never fail."""
    server = start("fault", "--kill-grace", grace, workers=2)
    finished = late = 0
    with Others(server, 4) as others:
        raw = server.raw()
        for seconds in from_to(0.005, 0.05 + 2 * float(grace), 100):
            reply = raw.call("sleep", seconds, meta={"timeout": 0.02})
            if reply.error is None:
                finished += 1
            else:
                late += 1
                assert reply.reason in ("DEADLINE", "QUEUE_TIMEOUT")
    assert not others.errors
    assert others.answered > 100
    assert finished > 0
    assert late > 0
    server.wait_full_strength()


def test_many_calls_that_finish_around_their_deadline(start: StartServer) -> None:
    """Several at once, hundreds in all."""
    server = start("fault", "--kill-grace", "0.002", workers=4)
    outcomes: list[str] = []
    failures: list[BaseException] = []

    def run(seed: int) -> None:
        raw = server.raw()
        try:
            for seconds in from_to(0.002, 0.03 + seed / 1000, 100):
                reply = raw.call("sleep", seconds, meta={"timeout": 0.01})
                outcomes.append(reply.reason)
        except BaseException as error:
            failures.append(error)

    with Others(server, 3) as others:
        threads = [threading.Thread(target=run, args=(seed,), daemon=True) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures
    assert not others.errors
    assert len(outcomes) == 400
    assert set(outcomes) <= {"", "DEADLINE", "QUEUE_TIMEOUT"}
    server.wait_full_strength()
