"""Recycling, scaling, spare workers, and what callers are told while no worker can be had."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path
from typing import Any, Callable

import cohab
import pytest
from harness import Gate, Server, engine_path
from load import Load
from processes import state_of, wait_until

StartServer = Callable[..., Server]

MIB = 2**20


def numbers(server: Server, state: str) -> int:
    return sum(w["state"] == state for w in server.status()["workers"])


def recycled(server: Server) -> int:
    count: int = server.status()["totals"]["recycled"]
    return count


# ---- recycling


@pytest.mark.limit(120)
def test_after_so_many_requests(start: StartServer) -> None:
    server = start("echo", "--max-requests", "200", workers=2)
    with Load(server, 8) as load:
        wait_until(lambda: recycled(server) >= 20, 60.0, "twenty workers replaced")
    assert not load.failures
    assert "--max-requests" in server.log()
    assert server.status()["totals"]["worker_deaths"] == 0
    assert numbers(server, "idle") >= 2


def test_at_an_age(start: StartServer) -> None:
    server = start("echo", "--max-age", "0.3", workers=2)
    before = server.workers()
    with Load(server, 4) as load:
        wait_until(lambda: recycled(server) >= 6, 30.0, "six workers replaced")
    assert not load.failures
    assert not set(before) & set(server.workers())
    assert "--max-age" in server.log()


def test_with_too_much_memory_of_its_own(start: StartServer) -> None:
    """What load() has built is shared, and does not count."""
    server = start("fault", "--max-private", "48M", args=["load-memory", str(96 * MIB)], workers=1)
    client = server.client()
    pid = server.workers()[0]
    for number in range(20):
        assert client.call("echo", number) == number
    assert client.call("pid") == pid
    client.call("allocate", 64 * MIB)
    wait_until(lambda: client.call("pid") != pid, 20.0, "a fresh worker")
    server.wait_log("leaves: --max-private")


def test_private_memory_is_shown(start: StartServer) -> None:
    server = start("fault", args=["load-memory", str(64 * MIB)], workers=1)
    (worker,) = server.status()["workers"]
    assert 0 < worker["private"] < 32 * MIB
    server.client().call("allocate", 48 * MIB)
    (worker,) = server.status()["workers"]
    assert worker["private"] > 48 * MIB
    assert re.search(r"PRIVATE", server.cli("status").stdout)


def test_the_old_one_stays_while_its_replacement_cannot_start(start: StartServer, directory: Path) -> None:
    broken = directory / "broken"
    server = start("fault", "--max-requests", "10", args=["start-fail-while", str(broken)], workers=1)
    server.expect_error("start.. failed")
    client = server.client()
    pid = client.call("pid")
    broken.touch()
    for _ in range(10):
        client.call("pid")
    server.wait_log("start.. failed", 4)
    assert client.call("pid") == pid
    broken.unlink()
    wait_until(lambda: client.call("pid") != pid, 20.0, "a fresh worker")


# ---- scaling


def test_scale_up_and_down_under_load(start: StartServer) -> None:
    server = start("echo", workers=2)
    with Load(server, 8) as load:
        for count in (6, 1, 8, 3):
            result = server.cli("scale", str(count))
            assert result.returncode == 0, result.stderr
            assert result.stdout.startswith(f"{count} workers, before ")
            wait_until(
                lambda n=count: numbers(server, "idle") + numbers(server, "busy") == n,  # type: ignore[misc]
                what=f"{count} workers",
            )
    assert not load.failures
    assert load.calls > 0


def test_signals_add_and_take_one(start: StartServer) -> None:
    server = start("echo", workers=1)
    server.send_signal(signal.SIGTTIN)
    wait_until(lambda: len(server.workers("idle")) == 2, what="two workers")
    for count in (1, 1):  # never none
        server.send_signal(signal.SIGTTOU)
        wait_until(lambda n=count: len(server.workers()) == n, what="one worker")  # type: ignore[misc]
    assert server.client().call("echo", 1) == 1


@pytest.mark.parametrize("words", ["0", "x", "4:2", "1:257", "2:", ":2", "-1"])
def test_numbers_that_are_none(start: StartServer, words: str) -> None:
    server = start("echo", workers=1)
    result = server.cli("scale", "--", words)
    assert result.returncode in (1, 2)
    assert "workers" in result.stderr
    assert server.status()["server"]["workers"] == 1


def test_the_pool_grows_with_the_load_and_shrinks_without(start: StartServer, gate: Gate) -> None:
    server = start("fault", "--workers", "1:4", "--idle-timeout", "0.5", full=False)
    assert server.status()["server"]["workers_max"] == 4
    connections = [server.raw() for _ in range(6)]
    for number, connection in enumerate(connections):
        connection.ask("block", gate.path, f"call{number}")
    gate.wait_started(4)
    assert numbers(server, "busy") == 4
    assert "as the load needs" in server.cli("status").stdout
    released: set[str] = set()
    while len(released) < 6:
        for name in set(gate.names()) - released:
            gate.release(name)
            released.add(name)
    for connection in connections:
        assert connection.receive().ok
    wait_until(lambda: len(server.workers()) == 1, 20.0, "one worker again")
    assert "workers idle" in server.log()


# ---- spare workers


def test_a_spare_takes_a_dead_ones_place(start: StartServer) -> None:
    server = start("fault", "--spare", "1", workers=1, full=False)
    wait_until(lambda: numbers(server, "spare") == 1, what="a spare")
    assert "1 of 1 workers ready, 0 busy, 1 spare" in server.cli("status").stdout
    (spare,) = server.workers("spare")
    with pytest.raises(cohab.EngineCrashed):
        server.client().call("crash")
    assert server.client().call("pid") == spare
    wait_until(lambda: numbers(server, "spare") == 1, what="another spare")
    assert server.workers("spare") != [spare]


def test_a_spare_dies_alone(start: StartServer) -> None:
    server = start("echo", "--spare", "2", workers=1, full=False)
    wait_until(lambda: numbers(server, "spare") == 2, what="two spares")
    for pid in server.workers("spare"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: numbers(server, "spare") == 2, what="two others")
    assert server.client().call("echo", 1) == 1


def test_spares_are_reloaded_and_stopped_as_all_are(start: StartServer) -> None:
    server = start("echo", "--spare", "2", workers=2, full=False)
    assert server.cli("reload").returncode == 0
    wait_until(lambda: numbers(server, "spare") == 2, what="two spares")
    assert {w["generation"] for w in server.status()["workers"]} == {2}
    assert server.stop() == 0


# ---- no worker


def no_worker(client: cohab.Client) -> str:
    """The words of the refusal, as soon as there is one."""
    refusals: list[cohab.Unavailable] = []

    def refused() -> bool:
        try:
            client.call("echo", 1, timeout=0.3, retries=0)
        except cohab.Unavailable as error:
            refusals.append(error)
        except (cohab.DeadlineExceeded, cohab.EngineCrashed):
            return False
        return bool(refusals)

    wait_until(refused, 20.0, "a refusal")
    assert (refusals[0].reason, refusals[0].executed, refusals[0].retry) == ("NO_WORKER", False, True)
    return str(refusals[0])


def test_callers_are_told_when_start_fails(start: StartServer, directory: Path) -> None:
    broken = directory / "broken"
    server = start("fault", args=["start-fail-while", str(broken)], workers=2)
    server.expect_error("start.. failed")
    client = server.client()
    broken.touch()
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    assert "start() failed" in no_worker(client)
    assert server.children_titled("cohab: stand-in")
    assert all(w["number"] > 0 for w in server.status()["workers"])
    broken.unlink()
    server.wait_full_strength()
    assert client.call("echo", 7) == 7
    wait_until(lambda: not server.children_titled("cohab: stand-in"), what="the stand-in gone")


def test_callers_are_told_when_the_engine_is_gone(start: StartServer, directory: Path) -> None:
    link = directory / "libmine.so"
    link.symlink_to(engine_path("echo"))
    server = start(str(link), workers=2)
    server.expect_error(".")
    client = server.client()
    link.unlink()
    os.kill(server.forkserver(), signal.SIGKILL)
    wait_until(lambda: server.status()["problem"], what="a problem")
    assert client.call("echo", 1) == 1  # those that live go on
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    assert "cannot open engine" in no_worker(client)
    link.symlink_to(engine_path("echo"))
    server.wait_full_strength()
    assert client.call("echo", 7) == 7


def test_callers_that_wait_are_told(start: StartServer, directory: Path) -> None:
    """A request that came before the last worker died is answered, too."""
    broken = directory / "broken"
    server = start("fault", args=["start-crash-while", str(broken)], workers=1)
    server.expect_error("could not start")
    broken.touch()
    connections = [server.raw() for _ in range(20)]
    os.kill(server.workers()[0], signal.SIGSTOP)
    for connection in connections:
        connection.ask("echo", 1)
    os.kill(server.workers()[0], signal.SIGKILL)
    for connection in connections:
        reply = connection.receive()
        assert reply.reason == "NO_WORKER"
        assert "killed by SIGSEGV" in reply.error["message"]
    broken.unlink()
    server.wait_full_strength()
    for connection in connections:
        assert connection.call("echo", 2).result == 2


def test_a_dead_standin_is_replaced(start: StartServer, directory: Path) -> None:
    broken = directory / "broken"
    server = start("fault", args=["start-fail-while", str(broken)], workers=1)
    server.expect_error("start.. failed")
    broken.touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    client = server.client()
    no_worker(client)
    (standin,) = server.children_titled("cohab: stand-in")
    os.kill(standin, signal.SIGKILL)
    wait_until(lambda: server.children_titled("cohab: stand-in") not in ([], [standin]), what="another one")
    no_worker(client)
    assert server.stop() == 0


def test_a_reload_ends_it(start: StartServer, directory: Path) -> None:
    broken = directory / "broken"
    server = start("fault", args=["start-fail-while", str(broken)], workers=1)
    server.expect_error("start.. failed")
    broken.touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    no_worker(server.client())
    result = server.cli("reload", "--engine", "echo")
    assert result.returncode == 0, result.stderr
    assert server.client().call("echo", 1) == 1


def test_many_that_fail_together_are_tried_one_at_a_time(start: StartServer, directory: Path) -> None:
    """Eight workers that all fail: in the end there is one attempt at a time."""
    broken = directory / "broken"
    server = start("fault", args=["start-fail-while", str(broken)], workers=8)
    server.expect_error("start.. failed")
    broken.touch()
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    server.wait_log("start.. failed", 12, timeout=30)
    wait_until(lambda: len(server.children_titled("cohab: worker")) <= 1, what="one attempt at a time")
    assert server.log().count("start() failed") < 5 * 8
    assert "problem" in server.cli("status").stdout
    broken.unlink()
    server.wait_full_strength()


# ---- the whole


def test_the_whole_service_stopped_and_continued_kills_nobody(start: StartServer) -> None:
    server = start("echo", "--stall-timeout", "0.25", workers=3)
    client = server.client()
    client.call("echo", 0)
    before = server.workers()
    everybody = server.tree()
    results: list[Any] = []
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state_of(pid) == "T" for pid in everybody), what="all stopped")
    thread = threading.Thread(target=lambda: results.append(client.call("echo", 5)))
    thread.start()
    thread.join(1.0)  # longer than the stall rule has patience
    for pid in reversed(everybody):
        os.kill(pid, signal.SIGCONT)
    thread.join()
    assert results == [5]
    assert server.workers() == before


def test_a_frozen_worker_stalls_nobody_else(start: StartServer) -> None:
    server = start("echo", workers=2)
    with Load(server, 6, pause=0.001) as load:
        wait_until(lambda: load.calls > 100, what="calls")
        frozen = server.workers()[0]
        os.kill(frozen, signal.SIGSTOP)
        before = load.calls
        wait_until(lambda: load.calls > before + 500, 30.0, "more calls")
        os.kill(frozen, signal.SIGCONT)
    assert not load.failures or all("WORKER_LOST" in line or "CRASHED" in line for line in load.failures)
    assert len(load.failures) <= 1
