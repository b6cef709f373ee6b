"""Who takes a request: whichever worker is idle, and no request waits beside one. Counted, not timed."""

from __future__ import annotations

import random

import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import wait_until
from wire import Raw

WORKERS = 8
CONNECTIONS = 32


def connect_all(server: Server) -> list[Raw]:
    """Connections that are in use: each has been served once, and is idle now."""
    raws = [server.raw() for _ in range(CONNECTIONS)]
    for raw in raws:
        assert raw.call("echo", 1).result == 1
    return raws


def hold(raws: list[Raw], gate: Gate, names: list[str]) -> None:
    for raw, name in zip(raws, names):
        raw.ask("block", gate.path, name)


@pytest.mark.parametrize("released", range(WORKERS))
def test_the_ninth_call_starts_when_any_of_eight_is_released(
    start: StartServer, gate: Gate, released: int
) -> None:
    server = start("fault", workers=WORKERS)
    raws = connect_all(server)
    names = [f"call-{i}" for i in range(WORKERS)]
    hold(raws, gate, names)
    began = dict(gate.wait_started(WORKERS))
    assert sorted(began.values()) == sorted(server.workers())

    raws[WORKERS].ask("block", gate.path, "ninth")
    assert len(server.workers("busy")) == WORKERS
    assert "ninth" not in gate.names()
    assert raws[WORKERS].is_silent()

    gate.release(names[released])
    assert gate.pid_of("ninth") == began[names[released]]
    assert raws[released].receive().result == names[released]
    assert len(server.workers("busy")) == WORKERS
    gate.release_all()
    for i in (i for i in range(WORKERS + 1) if i != released):
        assert raws[i].receive().ok
    assert len(gate.started()) == WORKERS + 1


def test_all_that_wait_start_one_for_each_that_is_released(start: StartServer, gate: Gate) -> None:
    """32 calls on 8 workers: at every moment eight run, until fewer are left; first come, first served."""
    server = start("fault", workers=WORKERS)
    raws = connect_all(server)
    names = [f"call-{i}" for i in range(CONNECTIONS)]
    hold(raws[:WORKERS], gate, names)
    gate.wait_started(WORKERS)
    hold(raws[WORKERS:], gate, names[WORKERS:])
    running = gate.names()
    choose = random.Random(1)
    for done in range(1, CONNECTIONS + 1):
        name = running.pop(choose.randrange(len(running)))
        gate.release(name)
        assert raws[names.index(name)].receive().result == name
        begun = gate.wait_started(min(WORKERS + done, CONNECTIONS))
        if WORKERS + done <= CONNECTIONS:
            assert len(begun) == WORKERS + done
            running.append(begun[-1][0])
    assert not running
    assert gate.names()[WORKERS:] == names[WORKERS:]
    server.wait_all_idle()


@pytest.mark.parametrize("busy", range(WORKERS))
def test_no_request_waits_while_a_worker_is_idle(start: StartServer, gate: Gate, busy: int) -> None:
    """With any number of workers held, a burst of calls takes exactly the idle ones at once."""
    server = start("fault", workers=WORKERS)
    raws = connect_all(server)
    hold(raws[:busy], gate, [f"held-{i}" for i in range(busy)])
    gate.wait_started(busy)
    hold(raws[busy : WORKERS + 4], gate, [f"burst-{i}" for i in range(WORKERS + 4 - busy)])
    gate.wait_started(WORKERS)
    assert len(server.workers("busy")) == WORKERS
    assert len(gate.started()) == WORKERS
    assert len(set(dict(gate.started()).values())) == WORKERS
    for _ in range(WORKERS + 4):
        wait_until(lambda: len(gate.started()) >= 1, what="a call")
    left = WORKERS + 4
    while left > 0:
        names = set(gate.names())
        gate.release_all()
        left -= sum(1 for raw in raws[: WORKERS + 4] if not raw.is_silent(0.001) and raw.receive().ok)
        assert names <= set(gate.names())


@pytest.mark.parametrize("spin", ["0", "200"])
def test_a_request_on_every_connection_again_and_again(start: StartServer, spin: str) -> None:
    """Nothing is lost in the re-arming: each connection gets each of its answers."""
    server = start("fault", "--spin-us", spin, workers=WORKERS)
    raws = connect_all(server)
    for turn in range(150):
        for i, raw in enumerate(raws):
            raw.ask("echo", [turn, i])
        for i, raw in enumerate(raws):
            assert raw.receive().result == [turn, i]
    assert server.status()["totals"]["worker_deaths"] == 0


def test_one_busy_connection_does_not_hold_up_others(start: StartServer, gate: Gate) -> None:
    """Pipelined requests of one connection occupy one worker; everybody else is served by the other."""
    server = start("fault", workers=2)
    greedy = server.raw()
    for name in ("one", "two", "three"):
        greedy.ask("block", gate.path, name)
    gate.wait_started(1)
    others = [server.raw() for _ in range(8)]
    for raw in others:
        assert raw.call("echo", 1).result == 1
    assert gate.names() == ["one"]
    for name in ("one", "two", "three"):
        gate.pid_of(name)
        gate.release(name)
        assert greedy.receive().result == name
