"""10,000 workers that overwrite their row with random bytes and die: nobody else's connection is touched."""

from __future__ import annotations

import contextlib
import random

import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import is_alive, wait_until
from wire import ConnectionEnded, Raw

ROWS = 10_000
WORKERS = 128
# A place whose workers die three times without having answered anything is filled again after a pause.
PER_SERVER = 3 * (WORKERS - 1)
ROW_WORDS = 64  # what a row uses of its page, in words of 8 bytes; more is never looked at


def overwrite(server: Server, chance: random.Random) -> None:
    """One worker overwrites its row, or a part of it, and dies; its caller hears something, or the end."""
    mapping = "cohab-request" if chance.random() < 0.05 else "cohab-row"
    outcome = chance.choice(["crash", "exit"])
    part = [chance.randrange(ROW_WORDS) * 8, 8 * chance.randint(1, 16)] if chance.random() < 0.5 else [0, 512]
    with server.raw(timeout=10.0) as raw:
        raw.ask("scribble_random", mapping, chance.getrandbits(62), outcome, *part)
        with contextlib.suppress(ConnectionEnded, ConnectionResetError):
            assert not raw.receive().ok


def check(raws: list[Raw]) -> None:
    for raw in raws:
        assert raw.is_silent()
        assert raw.call("echo", "mine").result == "mine"


@pytest.mark.limit(240)
def test_random_rows(start: StartServer, gate: Gate) -> None:
    chance = random.Random(4711)
    done = 0
    while done < ROWS:
        server = start("fault", "--crash-keep", "0", workers=WORKERS)
        raws = [server.raw() for _ in range(5)]
        check(raws)
        raws[-1].ask("block", gate.path, "held")
        pid = gate.pid_of("held")
        count = min(PER_SERVER, ROWS - done)
        for number in range(count):
            overwrite(server, chance)
            if number % 50 == 0:
                check(raws[:-1])
        done += count
        check(raws[:-1])
        assert is_alive(pid)
        gate.release("held")
        assert raws[-1].receive().result == "held"
        wait_until(lambda s=server: s.status()["connections"]["open"] == 5, what="no place is lost")  # type: ignore[misc]
        assert server.status()["totals"]["worker_deaths"] == count
        assert server.stop() == 0
        (gate.directory / "started").unlink()
