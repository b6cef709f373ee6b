"""The queue: how long requests wait, what is refused for it, and how many connections one may have."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from typing import Any

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import Gate, Server, others_may_reach, run_cohabd
from processes import wait_until
from wire import Raw, Reply


def sent_ago(seconds: float) -> dict[str, int]:
    """The meta of a request that says that it was sent so long ago: the server takes the client's word."""
    return {"sent": time.monotonic_ns() - int(seconds * 1e9)}


def queue_of(server: Server) -> dict[str, Any]:
    queue: dict[str, Any] = server.status()["queue"]
    return queue


def wait_waiting(server: Server, count: int) -> None:
    wait_until(lambda: queue_of(server)["waiting"] == count, what=f"{count} requests waiting")


def sample(server: Server, name: str) -> float:
    """The metric of that name and labels."""
    lines = server.cli("metrics").stdout.splitlines()
    return next(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + " "))


def hold(server: Server, gate: Gate, name: str = "held", meta: dict[str, Any] | None = None) -> Raw:
    """Keep a worker busy until the gate releases it."""
    raw = server.raw()
    raw.ask("block", gate.path, name, meta=meta)
    gate.pid_of(name)
    return raw


# ---- --max-queue-time


def check_overloaded(reply: Reply) -> None:
    assert reply.error is not None
    assert (reply.error["code"], reply.reason) == ("RESOURCE_EXHAUSTED", "OVERLOADED")
    assert reply.error["executed"] is False
    assert reply.error["retry"] is True
    assert "--max-queue-time" in reply.error["message"]


def press(raw: Raw) -> Reply:
    """Send requests that have waited for ten seconds until one is refused for it."""

    def refused() -> list[Reply]:
        reply = raw.call("echo", 1, meta=sent_ago(10))
        return [reply] if reply.reason == "OVERLOADED" else []

    return wait_until(refused, what="a request refused")[0]


def test_refused_when_waits_stay_long(start: StartServer, gate: Gate) -> None:
    server = start("fault", "--max-queue-time", "0.2", workers=1)
    raw = server.raw()
    assert raw.call("echo", 0, meta=sent_ago(10)).ok  # one alone decides nothing
    check_overloaded(press(raw))
    check_overloaded(raw.call("block", gate.path, "never", meta=sent_ago(10)))
    assert "never" not in gate.names()
    # Nobody knows how long these have waited, or it is not long.
    assert raw.call("echo", 1).result == 1
    assert raw.call("echo", 2, meta=sent_ago(0)).result == 2
    assert raw.call("echo", 3, meta=sent_ago(-10)).result == 3
    assert queue_of(server)["shed"] >= 2


def test_served_again_when_waits_are_short(start: StartServer) -> None:
    server = start("fault", "--max-queue-time", "0.2", workers=1)
    raw = server.raw()
    press(raw)

    def served() -> bool:
        for _ in range(100):
            assert raw.call("echo", 1, meta=sent_ago(0.001)).ok
        return raw.call("echo", 1, meta=sent_ago(10)).ok

    wait_until(served, what="a burst let pass again")


def test_never_refused_by_default(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    for _ in range(3):
        assert raw.call("sleep", 0.1, meta=sent_ago(3000)).ok
    assert queue_of(server)["shed"] == 0


def test_past_deadline_comes_first(start: StartServer) -> None:
    server = start("fault", "--max-queue-time", "0.2", workers=1)
    raw = server.raw()
    press(raw)
    assert raw.call("echo", 1, meta=sent_ago(10) | {"deadline": 1}).reason == "QUEUE_TIMEOUT"


def test_pings_are_requests_like_others(start: StartServer) -> None:
    server = start("fault", "--max-queue-time", "0.2", workers=1)
    raw = server.raw()
    press(raw)
    check_overloaded(raw.call("cohab.ping", meta=sent_ago(10)))
    assert server.cli("ping").returncode == 0


@pytest.mark.limit(120)
def test_overload(start: StartServer) -> None:
    """Eight callers of one worker: it works on, and those for whom it takes too long are told so."""
    server = start("fault", "--max-queue-time", "0.1", workers=1)
    client = server.client(max_connections=8, retries=5)
    refused = "OVERLOADED executed=False retry=True"
    enough = threading.Event()
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def call_again_and_again() -> None:
        while not enough.is_set():
            try:
                client.call("sleep", 0.05)
                outcome = "ok"
            except cohab.ResourceExhausted as error:
                outcome = f"{error.reason} executed={error.executed} retry={error.retry}"
                time.sleep(0.05)  # as the page says: retry later
            with lock:
                outcomes[outcome] += 1

    threads = [threading.Thread(target=call_again_and_again) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: outcomes[refused] >= 20 and outcomes["ok"] >= 20, 60.0, "both outcomes")
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    assert set(outcomes) == {"ok", refused}
    # No client has retried by itself: each refusal was seen by its caller.
    assert queue_of(server)["shed"] == outcomes[refused]
    assert sample(server, "cohab_queue_shed_total") == outcomes[refused]
    assert client.call("echo", 1) == 1


# ---- past its deadline


def test_queue_timeouts_are_counted(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    held = hold(server, gate)
    late = server.raw()
    late.ask("block", gate.path, "never", meta={"deadline": time.monotonic_ns() + 1})
    wait_waiting(server, 1)
    gate.release("held")
    assert held.receive().ok
    reply = late.receive()
    assert reply.reason == "QUEUE_TIMEOUT"
    assert reply.error is not None
    assert reply.error["executed"] is False
    assert gate.names() == ["held"]
    assert queue_of(server)["timeouts"] == 1
    assert sample(server, "cohab_queue_timeouts_total") == 1


# ---- what waits


def test_depth_and_age(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    idle, gone, given_up = server.raw(), server.raw(), server.raw()
    assert idle.call("echo", 1).ok
    assert queue_of(server) == {"waiting": 0, "oldest": 0.0, "timeouts": 0, "shed": 0}
    before = time.monotonic()
    held = hold(server, gate, meta=sent_ago(0))
    held.ask("echo", "behind the one that runs")
    waiting = [server.raw() for _ in range(3)]
    for raw in waiting:
        raw.ask("echo", 1)
    asked = time.monotonic()
    given_up.ask("echo", 1)
    gone.close()
    given_up.close()
    wait_waiting(server, 3)
    at_least = time.monotonic() - asked
    oldest = queue_of(server)["oldest"]
    assert at_least <= oldest <= time.monotonic() - before
    assert sample(server, "cohab_queue_waiting") == 3
    assert sample(server, "cohab_queue_oldest_seconds") >= oldest
    assert "3 waiting, the oldest for at most " in server.cli("status").stdout
    gate.release("held")
    assert held.receive().ok
    for raw in waiting:
        assert raw.receive().ok
    assert held.receive().result == "behind the one that runs"
    wait_waiting(server, 0)
    assert queue_of(server)["oldest"] == 0
    assert sample(server, "cohab_queue_waiting") == 0
    assert "0 waiting; 0 timed out, 0 shed" in server.cli("status").stdout


def test_age_of_a_queue_that_is_never_empty(start: StartServer, gate: Gate) -> None:
    """What waits now was sent after what has been taken up, however long there has been a queue."""
    server = start("fault", workers=1)
    raws = [hold(server, gate, "0", meta=sent_ago(0))]
    before, after = [], []
    for number in range(1, 4):
        before.append(time.monotonic())
        raws.append(server.raw())
        raws[-1].ask("block", gate.path, str(number), meta=sent_ago(0))
        after.append(time.monotonic())
        wait_waiting(server, number)
    for number in range(3):
        gate.release(str(number))
        gate.pid_of(str(number + 1))
        now = time.monotonic()
        queue = queue_of(server)
        assert queue["waiting"] == 2 - number
        if number < 2:  # the last one taken was sent before those that wait
            assert now - after[number + 1] <= queue["oldest"] <= time.monotonic() - before[number]
    gate.release("3")
    for raw in raws:
        assert raw.receive().ok


def test_age_where_no_client_tells(start: StartServer, gate: Gate) -> None:
    """What waits came after the queue was last seen to be empty."""
    server = start("fault", workers=1)
    held = hold(server, gate)
    before = time.monotonic()
    assert queue_of(server)["waiting"] == 0
    raw = server.raw()
    raw.ask("echo", 1)
    after = time.monotonic()
    wait_waiting(server, 1)
    now = time.monotonic()
    assert now - after <= queue_of(server)["oldest"] <= time.monotonic() - before
    gate.release("held")
    assert held.receive().ok
    assert raw.receive().ok


def test_a_worker_shows_how_long_its_call_had_waited(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    told = hold(server, gate, "told", meta=sent_ago(5))
    untold = hold(server, gate, "untold")
    workers = {worker["pid"]: worker for worker in server.status()["workers"]}
    assert 5 <= workers[gate.pid_of("told")]["queued"] < 3600
    assert workers[gate.pid_of("untold")]["queued"] is None
    gate.release_all()
    assert told.receive().ok
    assert untold.receive().ok
    server.wait_all_idle()
    assert all(worker["queued"] is None for worker in server.status()["workers"])


@pytest.mark.parametrize("keep", ["0", "1"])
def test_calls_of_dead_workers_have_waited_too(start: StartServer, keep: str) -> None:
    server = start("fault", "--log-requests", "--crash-keep", keep, workers=1)
    assert server.raw().call("crash", meta=sent_ago(5)).reason == "ENGINE_CRASHED"
    assert sample(server, 'cohab_queue_seconds_count{method="crash"}') == 1
    assert sample(server, 'cohab_queue_seconds_sum{method="crash"}') >= 5
    server.wait_log(r"crash\(\) INTERNAL in .* ms after 5\d\d\d\.\d* ms in the queue")


def test_calls_that_a_stop_has_ended_have_waited_too(start: StartServer, gate: Gate) -> None:
    server = start("fault", "--log-requests", "--stop-timeout", "0", workers=1)
    held = hold(server, gate, meta=sent_ago(5))
    assert server.stop() == 0
    assert held.receive().reason == "STOPPING"
    server.wait_log(r"block\(\) UNAVAILABLE in .* ms after 5\d\d\d\.\d* ms in the queue")


# ---- --max-connections-per-uid


def check_refused(raw: Raw) -> None:
    reply = raw.receive()
    assert reply.msgid is None
    assert reply.error is not None
    assert (reply.error["code"], reply.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CONNECTIONS")
    assert reply.error["executed"] is False
    assert reply.error["retry"] is True
    assert f"user {os.getuid()} has" in reply.error["message"]
    assert "--max-connections-per-uid" in reply.error["message"]
    assert raw.at_end()


def wait_open(server: Server, count: int) -> None:
    wait_until(lambda: server.status()["connections"]["open"] == count, what=f"{count} connections open")


def test_one_user_has_so_many(start: StartServer) -> None:
    server = start("echo", "--max-connections-per-uid", "2")
    assert server.status()["connections"]["max_per_uid"] == 2
    wait_open(server, 0)
    raws = [server.raw() for _ in range(2)]
    for raw in raws:
        assert raw.call("echo", 1).ok
    check_refused(server.raw())
    with pytest.raises(cohab.ResourceExhausted, match="--max-connections-per-uid") as caught:
        server.client().call("echo", 1)
    assert caught.value.reason == "TOO_MANY_CONNECTIONS"
    assert server.status()["connections"]["refused"] == 2
    raws[0].close()
    wait_open(server, 1)
    assert server.raw().call("echo", 2).ok
    check_refused(server.raw())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_other_users_have_theirs(make_server: MakeServer) -> None:
    server = make_server()
    if not others_may_reach(server.directory.parent):
        pytest.skip("temporary directories are where other users cannot go")
    server.start("echo", "--max-connections-per-uid", "1", "--socket-mode", "0666")
    for directory in (server.directory, server.directory.parent):
        directory.chmod(0o711)
    wait_open(server, 0)
    assert server.raw().call("echo", 1).ok
    for uid in (65533, 65534):
        os.seteuid(uid)
        try:
            raws = [server.raw(), server.raw()]
        finally:
            os.seteuid(0)
        assert raws[0].call("echo", uid).ok
        assert f"user {uid} has" in str(raws[1].receive().error)
    check_refused(server.raw())


def test_no_limit_of_their_own_by_default(start: StartServer) -> None:
    server = start("echo")
    assert server.status()["connections"]["max_per_uid"] is None
    for raw in [server.raw() for _ in range(50)]:
        assert raw.call("echo", 1).ok


@pytest.mark.parametrize(
    "option",
    [
        ["--max-queue-time", "-1"],
        ["--max-queue-time", "soon"],
        ["--max-connections-per-uid", "-1"],
        ["--max-connections-per-uid", "many"],
        ["--max-connections-per-uid", "65537"],
    ],
)
def test_bad_options(option: list[str]) -> None:
    result = run_cohabd(*option, "--socket", "s", "echo")
    assert result.returncode == 2
    assert option[0] in result.stderr
