"""100,000 calls from 16 threads while workers are killed with SIGKILL ten times a second."""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import cohab
import pytest
from conftest import StartServer
from harness import Server
from processes import (
    children_of,
    descriptors_of,
    private_memory,
    settled_descriptors,
    title_of,
    wait_until,
)

CALLS = 100_000
THREADS = 16
WORKERS = 4
KILLS_PER_SECOND = 10
KILLS_WANTED = 50
SLOW_EVERY = 40  # one call in so many runs long enough to be hit
SLOW_SECONDS = 0.01
MEMORY_MARGIN = 1 << 20


class Caller(threading.Thread):
    """Calls until its share is done, checks each answer, keeps each error."""

    def __init__(self, client: cohab.Client, number: int, calls: int) -> None:
        super().__init__(name=f"caller {number}")
        self.client, self.number, self.calls = client, number, calls
        self.done = 0
        self.errors: list[cohab.Error] = []
        self.wrong: list[object] = []

    def run(self) -> None:
        for i in range(self.calls):
            try:
                if i % SLOW_EVERY == 0:
                    answer = self.client.call("sleep", SLOW_SECONDS) is None
                else:
                    answer = self.client.call("echo", [self.number, i]) == [self.number, i]
                if not answer:
                    self.wrong.append((self.number, i))
            except (cohab.EngineCrashed, cohab.Unavailable) as error:
                self.errors.append(error)
            except BaseException as error:
                self.wrong.append(error)
            self.done = i + 1


class Killer(threading.Thread):
    """SIGKILL to a worker at random, so many times a second, until it is told to stop."""

    def __init__(self, server: Server) -> None:
        super().__init__(name="killer")
        self.server = server
        self.kills = 0
        self.over = threading.Event()
        self.choose = random.Random(1)

    def run(self) -> None:
        while not self.over.wait(1 / KILLS_PER_SECOND):
            workers = [p for p in children_of(self.server.pid) if title_of(p).startswith("cohab: worker")]
            if not workers:
                continue
            try:
                os.kill(self.choose.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                continue
            self.kills += 1


def settle(server: Server, client: cohab.Client) -> None:
    """Nothing is under way, and no connection is open."""
    client.close()
    server.wait_all_idle()
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="no connection")
    wait_until(lambda: len(server.children()) == WORKERS + 1, what="forkserver and workers, and no more")


def run_callers(client: cohab.Client, calls: int) -> list[Caller]:
    callers = [Caller(client, number, calls) for number in range(THREADS)]
    for caller in callers:
        caller.start()
    return callers


def run_to_end(client: cohab.Client, calls: int) -> list[Caller]:
    callers = run_callers(client, calls)
    for caller in callers:
        caller.join()
    return callers


def new_client(server: Server) -> cohab.Client:
    return server.client(timeout=30.0, max_connections=THREADS)


@pytest.mark.limit(120)
def test_storm(start: StartServer) -> None:
    server = start("fault", workers=WORKERS)
    server.expect_error("could not start: killed by SIGKILL|before it had introduced itself|cannot fork")
    client = new_client(server)
    run_to_end(client, 200)
    for _ in range(10):  # deaths belong to the warm-up, too
        with pytest.raises(cohab.EngineCrashed):
            client.call("crash")
    settle(server, client)
    descriptors, memory = settled_descriptors(server.pid), private_memory(server.pid)

    client = new_client(server)
    killer = Killer(server)
    begin = time.monotonic()
    killer.start()
    callers = run_to_end(client, CALLS // THREADS)
    while killer.kills < KILLS_WANTED:  # a fast machine is through too early
        callers += run_to_end(client, 200)
    killer.over.set()
    killer.join()
    seconds = time.monotonic() - begin

    errors = [error for caller in callers for error in caller.errors]
    calls = sum(caller.done for caller in callers)
    print(f"{calls} calls, {killer.kills} kills, {len(errors)} errors, {seconds:.1f} s")
    assert [wrong for caller in callers for wrong in caller.wrong] == []
    assert calls >= CALLS
    assert len(errors) <= killer.kills
    assert any(isinstance(error, cohab.EngineCrashed) for error in errors)
    settle(server, client)
    assert server.is_full_strength()
    assert len(server.workers()) == WORKERS
    wait_until(lambda: descriptors_of(server.pid) == descriptors, what="the descriptors that it had")
    assert private_memory(server.pid) - memory <= MEMORY_MARGIN
