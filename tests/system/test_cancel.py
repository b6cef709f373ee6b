"""Clients that go away: what they have asked for is told so, and dropped; nobody else is touched."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading

import pytest
from conftest import StartServer
from harness import Gate, Server
from others import Others
from processes import descriptors_of, state_of, wait_until
from wire import Raw, request


def wait_open(server: Server, count: int) -> None:
    wait_until(
        lambda: server.status()["connections"]["open"] == count, what=f"{count} connections of the server's"
    )


def ask_running(server: Server, method: str, *params: object, **how: object) -> tuple[Raw, int]:
    """A call that runs, and the pid of its worker. The server has one worker."""
    raw = server.raw()
    raw.ask(method, *params, **how)  # type: ignore[arg-type]
    wait_until(lambda: server.status()["workers"][0]["method"] == method, what=f"{method}() running")
    return raw, server.workers()[0]


def wait_told(server: Server, count: int = 1) -> None:
    server.wait_log(r"its client has gone: told to stop", count)


# ---- what runs


def test_an_engine_that_looks_is_told(start: StartServer, gate: Gate) -> None:
    """block() sees its flag, and gives up before it is released."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    raw.close()
    wait_until(lambda: "held" not in os.listdir(gate.directory), what="block() has given up")
    assert server.raw().call("pid").result == pid
    wait_open(server, 1)
    assert server.status()["totals"]["worker_deaths"] == 0
    wait_told(server)
    metrics = server.cli("metrics").stdout
    assert 'cohab_calls_cancelled_total{cause="client_gone"} 1\n' in metrics
    assert 'cohab_calls_total{method="block",code="CANCELLED"} 1\n' in metrics


def test_all_workers_are_busy(start: StartServer, gate: Gate) -> None:
    """The master notices by itself, as no worker is free to."""
    server = start("fault", workers=3)
    raws = [server.raw() for _ in range(3)]
    for i, raw in enumerate(raws):
        raw.ask("block", gate.path, f"held{i}")
    gate.wait_started(3)
    raws[1].close()
    wait_until(lambda: "held1" not in os.listdir(gate.directory), what="the call without client ends")
    gate.release_all()
    assert raws[0].receive().result == "held0"
    assert raws[2].receive().result == "held2"
    wait_told(server)


def test_shutdown_of_both_ends_is_going_away(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw, _ = ask_running(server, "polite", 50.0)
    raw.sock.shutdown(socket.SHUT_RDWR)
    server.wait_all_idle()


def test_a_half_close_is_served(start: StartServer, gate: Gate) -> None:
    """It is not going away, however long the call takes."""
    server = start("fault", "--cancel-kill", "0.05", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    raw.ask("echo", "behind")
    raw.sock.shutdown(socket.SHUT_WR)
    gate.pid_of("held")
    server.raw().ask("sleep", 0.0)
    gate.release("held")
    assert raw.receive().result == "held"
    assert raw.receive().result == "behind"
    assert raw.at_end()
    assert "told to stop" not in server.log()


def test_after_a_half_close_the_real_one_counts(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw, _ = ask_running(server, "polite", 50.0)
    raw.sock.shutdown(socket.SHUT_WR)
    raw.close()
    server.wait_all_idle()
    wait_told(server)


def test_by_default_nobody_is_killed(start: StartServer) -> None:
    """sleep() does not look, and is not interrupted."""
    server = start("fault", workers=1)
    raw, pid = ask_running(server, "sleep", 1.0)
    raw.close()
    wait_told(server)
    assert server.status()["workers"][0]["method"] == "sleep"
    assert server.raw().call("pid").result == pid
    wait_open(server, 1)
    assert server.status()["totals"]["worker_deaths"] == 0


@pytest.mark.parametrize("method", ["sleep", "spin_forever", "hang"])
def test_cancel_kill(start: StartServer, method: str) -> None:
    """An engine that does not look loses its worker, and with it the connection that nobody has any more."""
    server = start("fault", "--cancel-kill", "0.1", workers=1)
    raw, pid = ask_running(server, method, *([30.0] if method == "sleep" else []))
    raw.close()
    server.wait_replaced([pid])
    assert f"ended: {method}() went on after its client had gone" in server.status()["deaths"][0]["cause"]
    wait_open(server, 0)
    assert server.raw().call("echo", 1).result == 1
    metrics = server.cli("metrics").stdout
    assert 'cohab_worker_deaths_total{cause="cancelled"} 1\n' in metrics
    assert f'cohab_calls_total{{method="{method}",code="CANCELLED"}} 1\n' in metrics
    report = wait_until(lambda: server.status()["deaths"][0]["report"], what="a report")
    shown = server.cli("crash", "show", "--json", report, "--crash-dir", str(server.crash_directory))
    assert '"kind": "cancelled"' in shown.stdout


def test_cancel_kill_leaves_polite_engines_alive(start: StartServer) -> None:
    server = start("fault", "--cancel-kill", "5", workers=1)
    raw, pid = ask_running(server, "polite", 50.0)
    raw.close()
    assert server.raw().call("pid").result == pid


def test_the_deadline_holds_without_a_client(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw, pid = ask_running(server, "sleep", 30.0, meta={"timeout": 0.5})
    raw.close()
    server.wait_replaced([pid])
    assert "sleep() ran past its deadline" in server.status()["deaths"][0]["cause"]
    wait_open(server, 0)


# ---- what waits


def test_what_waits_is_dropped(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    holder, waiting = server.raw(), server.raw()
    holder.ask("block", gate.path, "held")
    gate.pid_of("held")
    waiting.ask("block", gate.path, "never")
    wait_open(server, 2)
    waiting.close()
    wait_open(server, 1)  # its slot is free while its request was never read
    gate.release("held")
    assert holder.receive().ok
    assert holder.call("echo", 1).result == 1
    assert gate.names() == ["held"]


def test_what_is_pipelined_is_dropped(start: StartServer, gate: Gate) -> None:
    """The worker has read it already, with the request before."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.send(request("block", gate.path, "first") + request("block", gate.path, "second"))
    gate.pid_of("first")
    raw.close()
    assert server.raw().call("echo", 1).result == 1
    assert gate.names() == ["first"]
    wait_open(server, 1)


def test_half_a_request_is_dropped(start: StartServer) -> None:
    server = start("fault", "--io-timeout", "30", workers=1)
    raw = server.raw()
    raw.send(request("echo", "x" * 1000)[:500])
    wait_until(lambda: server.workers("busy"), what="the worker reads")
    raw.close()
    wait_open(server, 0)
    assert server.raw().call("echo", 1).result == 1


# ---- slots


def test_the_worker_of_a_client_that_is_gone_dies(start: StartServer, gate: Gate) -> None:
    """Its slot is freed, and the next tenant served."""
    server = start("fault", "--max-connections", "2", workers=1)
    for turn in range(5):
        raw, pid = ask_running(server, "sleep", 30.0)
        raw.close()
        wait_told(server, turn + 1)
        os.kill(pid, signal.SIGKILL)
        server.wait_replaced([pid])
        wait_open(server, 0)
        raws = [server.raw() for _ in range(2)]
        for raw in raws:
            assert raw.call("echo", turn).result == turn
            raw.close()
        wait_open(server, 0)


def test_a_stopped_worker_keeps_the_slot_of_its_call(start: StartServer) -> None:
    """As long as its row claims it; then the slot is free, and nothing of the old call reaches the new
    tenant."""
    server = start("fault", "--max-connections", "3", workers=2)
    raw = server.raw()
    raw.ask("sleep", 0.3)
    wait_until(lambda: server.workers("busy"), what="a busy worker")
    (pid,) = server.workers("busy")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T", what="a stopped worker")
    raw.close()
    wait_told(server)
    assert server.status()["connections"]["open"] == 1
    others = [server.raw() for _ in range(2)]
    for other in others:
        assert other.call("echo", 1).result == 1
    os.kill(pid, signal.SIGCONT)
    wait_open(server, 2)
    tenant = server.raw()
    for turn in range(20):
        assert tenant.call("echo", turn).result == turn
    assert server.status()["totals"]["worker_deaths"] == 0


def test_a_client_that_has_gone_keeps_nobody_out(start: StartServer) -> None:
    """The server learns of its going before it refuses the next one."""
    server = start("fault", "--max-connections", "3", workers=1)
    holder = server.raw()
    holder.ask("sleep", 0.5)
    for _ in range(200):
        raw = Raw(server.socket)
        raw.ask("echo", 1)
        raw.close()
    assert holder.receive().ok
    assert "TOO_MANY" not in server.log()
    assert server.status()["connections"]["refused"] == 0


def call_once(server: Server, turns: int, failures: list[BaseException]) -> None:
    """Clients that go away as soon as they have their answer: their workers are about to arm them again."""
    try:
        for turn in range(turns):
            with Raw(server.socket) as raw:
                assert raw.call("echo", turn).result == turn
    except BaseException as error:
        failures.append(error)


def test_clients_with_one_call(start: StartServer) -> None:
    """The worker's re-arm finds nothing to arm, and the slot is free all the same."""
    server = start("fault", "--max-connections", "16", workers=2)
    failures: list[BaseException] = []
    threads = [
        threading.Thread(target=call_once, args=(server, 400, failures), daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    wait_open(server, 0)
    assert server.status()["totals"]["worker_deaths"] == 0


def leave(server: Server, seed: int, turns: int) -> None:
    """Clients that ask for something and go, sooner or later."""
    chance = random.Random(seed)
    for _ in range(turns):
        raw = Raw(server.socket)
        raw.ask("polite", chance.choice([0.0, 0.002, 5.0]))
        if chance.random() < 0.3:
            raw.ask("echo", "x" * chance.choice([1, 100_000]))
        if chance.random() < 0.2:
            raw.sock.shutdown(socket.SHUT_WR)
        threading.Event().wait(chance.choice([0, 0.001, 0.004]))
        raw.close()


@pytest.mark.parametrize("cancel_kill", ["0", "0.005"])
def test_slots_under_load(start: StartServer, cancel_kill: str) -> None:
    """Clients come and go on few slots: none is lost, and others never see it."""
    server = start("fault", "--max-connections", "24", "--cancel-kill", cancel_kill, workers=3)
    server.raw().call("echo", 1)
    with Others(server, 4) as others:
        threads = [threading.Thread(target=leave, args=(server, seed, 60), daemon=True) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not others.errors
    assert others.answered > 5
    wait_until(lambda: server.status()["connections"]["open"] <= 1 + 4, what="no slot is lost")
    server.wait_all_idle()
    raws = [server.raw() for _ in range(19)]
    for turn, raw in enumerate(raws):
        assert raw.call("echo", turn).result == turn
    for raw in raws:
        raw.close()
    sockets = [line for line in descriptors_of(server.pid) if "socket" in line]
    assert len(sockets) < 24 + 20


def test_kills_hit_no_other_call(start: StartServer) -> None:
    """Calls that end around the time when their absent client has them killed."""
    server = start("fault", "--cancel-kill", "0.01", "--kill-grace", "0.002", workers=2)
    with Others(server, 3) as others:
        for turn in range(60):
            raw = Raw(server.socket)
            raw.ask("sleep", 0.005 + turn % 20 / 1000)
            wait_until(lambda: server.workers("busy"), what="a call")
            raw.close()
    assert not others.errors
    assert others.answered > 5
    server.wait_full_strength()
