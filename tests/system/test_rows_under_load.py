"""Workers overwrite their rows and die while others serve: nobody else's connection is touched."""

from __future__ import annotations

import itertools
import random
import threading
from typing import Any, Callable

import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import is_alive, wait_until
from wire import ConnectionEnded, Raw

ROWS = 5_000
ROW_SIZE = 4096
ROW_USED = 512


class Stopper:
    """Threads that go on until they are told to stop, and what went wrong in them."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.wrong: list[object] = []
        self.threads: list[threading.Thread] = []

    def run(self, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:
                self.wrong.append(error)
                raise

        thread = threading.Thread(target=guarded, daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def stop(self) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        assert self.wrong == []


class Bystander:
    """Calls on a connection of its own, each of which must be answered rightly."""

    def __init__(self, raw: Raw, number: int, stopper: Stopper) -> None:
        self.raw, self.number, self.stopper = raw, number, stopper
        self.done = 0

    def run(self) -> None:
        while not self.stopper.over.is_set():
            reply = self.raw.call("echo", [self.number, self.done])
            assert reply.result == [self.number, self.done], reply
            self.done += 1


def start_bystanders(server: Server, stopper: Stopper, count: int) -> list[Bystander]:
    bystanders = [Bystander(server.raw(), number, stopper) for number in range(count)]
    for bystander in bystanders:
        stopper.run(bystander.run)
    return bystanders


def random_scribble(choose: random.Random) -> list[Any]:
    """Parameters of scribble_random(): all of the row, a part of what is in use, or one word of it. Most die
    by SIGKILL: those that die of themselves without an answer to their name are replaced ever more slowly."""
    outcome = choose.choices(["kill", "crash", "exit"], [18, 1, 1])[0]
    seed = choose.getrandbits(62)
    shape = choose.randrange(3)
    if shape == 0:
        return ["cohab-row", seed, outcome, 0, ROW_SIZE]
    offset = 8 * choose.randrange(ROW_USED // 8)
    return ["cohab-row", seed, outcome, offset, 8 if shape == 1 else choose.randrange(8, ROW_USED)]


@pytest.mark.limit(150)
def test_rows_of_random_bytes(start: StartServer, gate: Gate) -> None:
    """The caller hears something, be it the end of the connection; nobody else hears anything."""
    server = start("fault", "--crash-keep", "10", workers=6)
    held = server.raw(timeout=100.0)
    held.ask("block", gate.path, "held", meta={"timeout": 200.0})
    holder = gate.pid_of("held")
    idle = [server.raw() for _ in range(4)]
    for raw in idle:
        assert raw.call("echo", 1).ok
    victims, load = Stopper(), Stopper()
    bystanders = start_bystanders(server, load, 2)
    turns = itertools.count()
    answered = [0] * 3

    def overwrite(number: int) -> None:
        choose = random.Random(number)
        while next(turns) < ROWS:
            with Raw(server.socket, 30.0) as raw:
                raw.ask("scribble_random", *random_scribble(choose))
                try:
                    assert not raw.receive().ok
                except (ConnectionEnded, ConnectionResetError):
                    continue
                answered[number] += 1

    for number in range(len(answered)):
        victims.run(lambda n=number: overwrite(n))  # type: ignore[misc]
    for thread in victims.threads:
        thread.join(120)
    victims.stop()
    load.stop()
    assert server.exit_code() is None
    assert all(bystander.done > 100 for bystander in bystanders)
    for raw in idle:
        assert raw.is_silent()
        assert raw.call("echo", "still there").result == "still there"
    assert held.is_silent()
    assert is_alive(holder)
    gate.release("held")
    assert held.receive().result == "held"
    assert server.status()["totals"]["worker_deaths"] >= ROWS
    server.wait_full_strength()
    wait_until(
        lambda: server.status()["connections"]["open"] == len(idle) + len(bystanders) + 1,
        what="all places given back",
    )
    print(f"{sum(answered)} of {ROWS} were answered")
