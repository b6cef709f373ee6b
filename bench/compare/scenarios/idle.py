"""Ten thousand connections that do nothing beside a hundred that do."""

from __future__ import annotations

import random
import resource
import socket
from contextlib import ExitStack, closing
from pathlib import Path

import msgpack

from .. import simulation
from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, ratio
from ..processes import Failed, engine, ping, ping_figures, start_cohabd
from ..tables import Column, duration, rate

IDLE = 10_000
ACTIVE = 100
RATE = 2000.0
ALONE, BESIDE = f"{ACTIVE} active alone", f"{ACTIVE} active beside {IDLE:,} idle"
DESCRIPTORS = IDLE + ACTIVE + 1200  # the server's own lie between 1024 and its connections


def allow_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        raise Failed(f"the hard limit of open files is {hard:,}; {DESCRIPTORS:,} are needed (ulimit -Hn)")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))


def open_idle(stack: ExitStack, path: Path) -> None:
    """Connections that have served a call each, as keep-alive connections have."""
    body = msgpack.packb([0, 1, "cohab.ping", []])
    frame = len(body).to_bytes(4, "big") + body
    for _ in range(IDLE):
        connection = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(frame)
        if not connection.recv(4096):
            raise Failed("the server closed an idle connection")


def run(bench: Bench) -> Result:
    result = Result(
        [Column(name, name, duration) for name in ("p50", "p99")] + [Column("calls/s", "rate", rate)]
    )
    with ExitStack() as stack:
        try:
            allow_descriptors()
        except Failed as error:
            result.skipped[BESIDE] = str(error)
            return result
        room = ("--max-connections", str(IDLE + 2 * ACTIVE))
        paths = {name: start_cohabd(stack, engine("echo"), 2, *room)[1] for name in (ALONE, BESIDE)}
        open_idle(stack, paths[BESIDE])

        def measure(path: Path, number: int) -> Figures:
            rng = random.Random(number)
            times = simulation.poisson_arrivals(RATE, bench.seconds(1.0), rng)
            schedule = "".join(f"{time:.9f} {rng.randrange(ACTIVE)}\n" for time in times)
            return ping_figures(ping(path, "--connections", str(ACTIVE), "--schedule", schedule=schedule))

        bench.take_turns(paths, measure, result, slices=2)
    if result.has(ALONE, BESIDE):
        measured = ratio(result.rounds[BESIDE], result.rounds[ALONE], "p99")
        result.checks.append(Check(f"p99 beside {IDLE:,} idle connections / alone", measured, 1.2))
    return result


SCENARIOS = [
    Scenario(
        "idle",
        f"{IDLE:,} idle connections",
        f"{ACTIVE} connections, echo of 64 bytes, 2 workers, {RATE:,.0f} calls a second with Poisson "
        "arrivals. The idle connections have served a call each.",
        run,
    )
]
