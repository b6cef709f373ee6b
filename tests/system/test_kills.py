"""kill -9 of every process of the tree at every stage, and processes that are stopped."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import Gate, Server
from processes import children_of, is_alive, parent_of, signal_quietly, state_of, wait_until

NO_BIRTH = "could not start|forkserver .* died"


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


# ---- workers


def test_idle_worker(start: StartServer) -> None:
    server = start("fault", workers=2)
    raws = [server.raw() for _ in range(4)]
    for raw in raws:
        assert raw.call("echo", 1).ok
    for _ in range(10):
        pid = server.workers()[0]
        kill(pid)
        server.wait_replaced([pid])
        for raw in raws:
            assert raw.call("echo", 1).ok
    assert server.status()["totals"]["worker_deaths"] == 10


def test_busy_worker(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    client = server.client()
    raw = server.raw()
    for i in range(10):
        raw.ask("block", gate.path, f"call-{i}")
        pid = gate.pid_of(f"call-{i}")
        kill(pid)
        reply = raw.receive()
        assert reply.reason == "ENGINE_CRASHED"
        assert reply.error
        assert reply.error["details"]["signal"] == "SIGKILL"
        assert client.call("echo", i) == i
        server.wait_replaced([pid])


def test_starting_worker(start: StartServer) -> None:
    """Killed in start(): another one is born, while the others serve."""
    server = start("fault", args=["start-sleep", "0.3"], workers=2)
    server.expect_error(r"worker 1 .*could not start: killed by SIGKILL")
    client = server.client()
    pid = server.workers()[0]
    kill(pid)
    for _ in range(2):
        starting = wait_until(server.starting_workers, what="a worker in its start()")
        kill(*starting)
        wait_until(lambda pids=starting: not any(is_alive(p) for p in pids), what="its end")  # type: ignore[misc]
        assert client.call("echo", 1) == 1
    server.wait_full_strength()
    assert client.call("echo", 1) == 1


def test_starting_worker_at_the_very_start(make_server: MakeServer) -> None:
    """Before the server serves, a worker that does not come up ends it: exit code 1, nothing left."""
    server = make_server()
    server.expect_error("could not start: killed by SIGKILL")
    server.launch("fault", args=["start-sleep", "20"], workers=2)
    wait_until(lambda: len(server.children_titled("cohab: worker")) == 2, what="two workers in their start()")
    kill(server.children_titled("cohab: worker 1")[0])
    assert server.wait_end() == 1
    wait_until(lambda: not server.tree(), what="all gone")


@pytest.mark.parametrize("workers", [2, 16])
def test_all_workers_at_once(start: StartServer, gate: Gate, workers: int) -> None:
    server = start("fault", workers=workers)
    raws = [server.raw() for _ in range(workers)]
    for turn in range(3):
        for i, raw in enumerate(raws[: workers // 2]):
            raw.ask("block", gate.path, f"call-{turn}-{i}")
        gate.wait_started((turn + 1) * (workers // 2))
        pids = server.workers()
        kill(*pids)
        for raw in raws[: workers // 2]:
            assert raw.receive().reason == "ENGINE_CRASHED"
        server.wait_replaced(pids)
        for raw in raws:
            assert raw.call("echo", turn).result == turn
    assert server.status()["totals"]["worker_deaths"] == 3 * workers


def test_all_workers_with_requests_waiting(start: StartServer, gate: Gate) -> None:
    """What runs gets an error, what waits is served by the successors."""
    server = start("fault", workers=4)
    running = [server.raw() for _ in range(4)]
    waiting = [server.raw() for _ in range(12)]
    for i, raw in enumerate(running):
        raw.ask("block", gate.path, f"call-{i}")
    gate.wait_started(4)
    for i, raw in enumerate(waiting):
        raw.ask("echo", i)
    kill(*server.workers())
    for raw in running:
        assert raw.receive().reason == "ENGINE_CRASHED"
    for i, raw in enumerate(waiting):
        assert raw.receive().result == i


# ---- the forkserver


def test_idle_forkserver(start: StartServer, gate: Gate) -> None:
    """A new one is started; calls go on, running ones too."""
    server = start("fault", workers=2)
    server.expect_error("forkserver .* died: killed by SIGKILL; a new one is started")
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    held = gate.pid_of("held")
    old = server.forkserver()
    kill(old)
    wait_until(lambda: server.status()["engine"]["generation"] == 2, what="a second generation")
    assert server.client().call("echo", 1) == 1
    assert server.forkserver() != old
    gate.release("held")
    assert raw.receive().result == "held"
    kill(held)
    pids = server.wait_replaced([held])
    new = next(w for w in server.status()["workers"] if w["pid"] not in (held, None) and w["generation"] == 2)
    assert new["pid"] in pids
    assert server.status()["totals"]["forkserver_deaths"] == 1


def test_forkserver_again_and_again(start: StartServer) -> None:
    server = start("fault", workers=2)
    server.expect_error("forkserver .* died|load.. never returned")
    client = server.client()
    pids = server.workers()
    for generation in range(2, 8):
        kill(server.forkserver())
        wait_until(
            lambda g=generation: server.status()["engine"]["generation"] == g,  # type: ignore[misc]
            what=f"generation {generation}",
        )
        assert client.call("echo", generation) == generation
    assert server.workers() == pids


def test_forkserver_and_all_workers_at_once(start: StartServer) -> None:
    server = start("fault", workers=4)
    server.expect_error(NO_BIRTH)
    client = server.client()
    client.ping()
    for _ in range(3):
        pids = server.workers()
        kill(server.forkserver(), *pids)
        assert client.call("echo", 1) == 1
        server.wait_replaced(pids)


def test_forkserver_while_births_are_under_way(start: StartServer) -> None:
    """Stopped with requests for births in its socket, then killed: the births are asked for again."""
    server = start("fault", workers=4)
    server.expect_error(NO_BIRTH)
    forkserver = server.forkserver()
    pids = server.workers()
    os.kill(forkserver, signal.SIGSTOP)
    wait_until(lambda: state_of(forkserver) == "T", what="a stopped forkserver")
    kill(*pids[:3])
    server.wait_log("died: killed by SIGKILL", 3)
    assert server.client().call("echo", "by the fourth") == "by the fourth"
    kill(forkserver)
    server.wait_replaced(pids[:3])
    assert server.client().call("echo", 1) == 1


def test_a_birth_fails_beside_another_death(start: StartServer) -> None:
    """The master learns in one go that a birth came to nothing and that an engine's stray child is dead."""
    server = start("fault", workers=1)
    server.expect_error(NO_BIRTH)
    for _ in range(10):
        raw = server.raw()
        strays = [raw.call("fork_child", 60.0).result for _ in range(3)]
        forkserver, worker = server.forkserver(), server.workers()[0]
        os.kill(forkserver, signal.SIGSTOP)
        wait_until(lambda f=forkserver: state_of(f) == "T", what="a stopped forkserver")  # type: ignore[misc]
        kill(worker)
        wait_until(lambda s=strays: all(parent_of(p) == server.pid for p in s), what="orphans")  # type: ignore[misc]
        wait_until(lambda w=worker: not server.workers() and not state_of(w), what="the birth")  # type: ignore[misc]
        server.send_signal(signal.SIGSTOP)
        wait_until(lambda: state_of(server.pid) == "T", what="a stopped master")
        kill(forkserver, *strays)
        wait_until(lambda s=strays: not any(is_alive(p) for p in s), what="their end")  # type: ignore[misc]
        server.send_signal(signal.SIGCONT)
        server.wait_full_strength()
        assert server.client().call("echo", 1) == 1
        raw.close()


def test_forkserver_while_a_worker_starts(start: StartServer) -> None:
    """The worker in its start() is the master's child: it goes on."""
    server = start("fault", args=["start-sleep", "0.3"], workers=2)
    server.expect_error(NO_BIRTH)
    kill(server.workers()[0])
    starting = wait_until(server.starting_workers, what="a worker in its start()")
    kill(server.forkserver())
    server.wait_full_strength()
    assert starting[0] in server.workers()


def test_forkserver_while_it_loads_again(start: StartServer) -> None:
    server = start("fault", args=["load-sleep", "0.3"], workers=2)
    server.expect_error(NO_BIRTH + "|load.. never returned")
    pids = server.workers()
    kill(server.forkserver())
    for _ in range(2):
        loading = wait_until(lambda: server.children_titled("forkserver loading"), what="a loading one")
        kill(*loading)
        assert server.client().call("echo", 1) == 1
    kill(pids[0])
    server.wait_replaced(pids[:1])


def test_forkserver_at_the_very_start(make_server: MakeServer) -> None:
    server = make_server()
    server.expect_error("load.. never returned.*SIGKILL")
    server.launch("fault", args=["load-hang"])
    loading = wait_until(lambda: server.children_titled("forkserver loading"), what="a loading forkserver")
    kill(*loading)
    assert server.wait_end() == 1
    wait_until(lambda: not server.tree(), what="all gone")


def test_load_that_fails_later(start: StartServer, directory: Path) -> None:
    """A forkserver that cannot come back is tried again, not in a hot loop, and the workers serve on."""
    broken = directory / "broken"
    server = start("fault", args=["load-fail-while", str(broken)], workers=2)
    server.expect_error(NO_BIRTH + "|failed on demand")
    broken.touch()
    pids = server.workers()
    kill(server.forkserver())
    server.wait_log("failed on demand", 3)
    assert server.client().call("echo", 1) == 1
    kill(pids[0])
    assert server.client().call("echo", 1) == 1
    broken.unlink()
    server.wait_replaced(pids[:1])
    assert server.log().count("failed on demand") < 12


# ---- the master


def all_gone(server: Server) -> None:
    wait_until(lambda: not server.tree(), 10.0, "nothing of it left")


def test_master(start: StartServer) -> None:
    server = start("fault", workers=4)
    server.client().ping()
    kill(server.pid)
    assert server.wait_end() == -signal.SIGKILL
    all_gone(server)


def test_master_with_a_running_call(start: StartServer, gate: Gate) -> None:
    """Workers finish the call that they run, answer it, and leave."""
    server = start("fault", workers=3)
    raws = [server.raw() for _ in range(2)]
    for i, raw in enumerate(raws):
        raw.ask("block", gate.path, f"call-{i}")
    began = dict(gate.wait_started(2))
    idle = [pid for pid in server.workers() if pid not in began.values()]
    kill(server.pid)
    server.wait_end()
    wait_until(lambda: not any(is_alive(pid) for pid in idle), what="the idle one leaves")
    assert all(is_alive(pid) for pid in began.values())
    for i, raw in enumerate(raws):
        gate.release(f"call-{i}")
        assert raw.receive().result == f"call-{i}"
    all_gone(server)
    for raw in raws:
        assert raw.at_end()


def test_master_and_a_call_that_never_ends(start: StartServer) -> None:
    """Nobody is there to enforce the deadline but the worker's own alarm clock."""
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("spin_forever", meta={"timeout": 0.5})
    wait_until(lambda: server.workers("busy"), what="the call runs")
    kill(server.pid)
    server.wait_end()
    assert raw.at_end()
    all_gone(server)


def test_master_while_it_loads(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("fault", args=["load-hang"])
    wait_until(lambda: server.children_titled("forkserver loading"), what="a loading forkserver")
    kill(server.pid)
    server.wait_end()
    all_gone(server)


def test_master_while_workers_start(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("fault", args=["start-sleep", "1"], workers=3)
    wait_until(
        lambda: len(server.children_titled("cohab: worker")) == 3, what="three workers in their start()"
    )
    kill(server.pid)
    server.wait_end()
    all_gone(server)


def test_master_with_a_worker_in_the_middle_of_a_frame(start: StartServer) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.send(b"\x00\x00\x00\x10half")
    wait_until(lambda: server.workers("busy"), what="the worker reads")
    kill(server.pid)
    server.wait_end()
    all_gone(server)


def test_master_and_forkserver_and_a_worker(start: StartServer) -> None:
    server = start("fault", workers=3)
    server.expect_error(NO_BIRTH)  # it may live long enough to say so
    kill(server.forkserver(), server.workers()[0], server.pid)
    server.wait_end()
    all_gone(server)


# ---- stopped processes


def test_idle_worker_that_is_stopped(start: StartServer) -> None:
    """The others get the work; when it goes on it is one of them again."""
    server = start("fault", workers=2)
    raw = server.raw()
    assert raw.call("echo", 1).ok
    stopped, other = server.workers()
    os.kill(stopped, signal.SIGSTOP)
    wait_until(lambda: state_of(stopped) == "T", what="a stopped worker")
    for i in range(50):
        assert raw.call("pid").result == other, i
    os.kill(stopped, signal.SIGCONT)
    kill(other)
    assert raw.call("echo", 1).result == 1
    server.wait_full_strength()
    assert stopped in server.workers()


def test_worker_stopped_in_a_call_past_its_deadline(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("block", gate.path, "held", meta={"timeout": 0.3})
    pid = gate.pid_of("held")
    os.kill(pid, signal.SIGSTOP)
    reply = raw.receive()
    assert (reply.reason, reply.error and reply.error["code"]) == ("DEADLINE", "DEADLINE_EXCEEDED")
    server.wait_replaced([pid])
    assert raw.call("echo", 1).result == 1


def test_worker_stopped_in_a_call_and_continued(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("block", gate.path, "held", meta={"timeout": 20.0})
    pid = gate.pid_of("held")
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_of(pid) == "T", what="a stopped worker")
    gate.release("held")
    assert raw.is_silent(0.05)
    os.kill(pid, signal.SIGCONT)
    assert raw.receive().result == "held"
    assert pid in server.workers()
    assert server.status()["totals"]["worker_deaths"] == 0


def test_master_that_is_stopped(start: StartServer) -> None:
    """The workers go on serving those connections that they know; nobody is killed when it goes on."""
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("echo", 1).ok
    server.send_signal(signal.SIGSTOP)
    wait_until(lambda: state_of(server.pid) == "T", what="a stopped master")
    for i in range(100):
        assert raw.call("echo", i).result == i
    newcomer = server.raw()
    newcomer.ask("echo", "waits for the master")
    assert newcomer.is_silent(0.1)
    server.send_signal(signal.SIGCONT)
    assert newcomer.receive().result == "waits for the master"
    assert raw.call("echo", 1).ok
    assert server.status()["totals"]["worker_deaths"] == 0


def test_the_whole_tree_is_stopped_and_continued(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=4)
    raws = [server.raw() for _ in range(8)]
    for i, raw in enumerate(raws[:2]):
        raw.ask("block", gate.path, f"call-{i}")
    gate.wait_started(2)
    tree = server.tree()
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    for i, raw in enumerate(raws[2:]):
        raw.ask("echo", i)
    assert raws[2].is_silent(0.2)
    for pid in tree:
        os.kill(pid, signal.SIGCONT)
    for i, raw in enumerate(raws[2:]):
        assert raw.receive().result == i
    for i, raw in enumerate(raws[:2]):
        gate.release(f"call-{i}")
        assert raw.receive().ok
    assert server.status()["totals"]["worker_deaths"] == 0


def test_what_load_has_started_ends_with_its_forkserver(start: StartServer) -> None:
    server = start("fault", args=["load-child"], workers=1)
    server.expect_error(NO_BIRTH)
    before = set(server.tree()) - set(server.children_titled("cohab: reporter"))
    kill(server.forkserver())
    server.wait_log("generation 2")
    server.wait_full_strength()
    left = before - {server.pid, *server.workers()}
    wait_until(lambda: not any(is_alive(pid) for pid in left), what="its child is gone")


# ---- all of it, while calls run


@pytest.mark.parametrize("seed", range(3))
def test_any_process_at_any_moment(start: StartServer, seed: int) -> None:
    """Kills of everything but the master, as they come; calls from four threads meanwhile."""
    server = start("fault", workers=4)
    server.expect_error(NO_BIRTH + "|load.. never returned|cannot fork|cannot be asked")
    client = server.client()
    stop = threading.Event()
    wrong: list[object] = []
    errors: list[cohab.Error] = []
    answered = [0] * 4

    def call(number: int) -> None:
        i = 0
        while not stop.is_set():
            i += 1
            try:
                if client.call("echo", [number, i]) != [number, i]:
                    wrong.append((number, i))
                answered[number] += 1
            except (cohab.EngineCrashed, cohab.Unavailable) as error:
                errors.append(error)
            except BaseException as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    kills = 0
    try:
        for turn in range(150):
            children = children_of(server.pid)
            if children:
                kills += signal_quietly(children[(turn * (7 + seed)) % len(children)], signal.SIGKILL)
            before = list(answered)
            wait_until(lambda b=before: sum(answered) > sum(b), 20.0, "progress")  # type: ignore[misc]
    finally:
        stop.set()
    for thread in threads:
        thread.join(25)
        assert not thread.is_alive()
    assert not wrong
    assert len(errors) <= kills
    server.wait_full_strength()
    wait_until(lambda: len(server.children()) == 5, what="forkserver and workers, and nothing else")
    assert all(parent_of(pid) == server.pid for pid in server.workers())
