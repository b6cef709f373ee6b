"""Who takes a request: the shared epoll set, prefork, accept-per-request, and an ideal queue."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from .. import simulation
from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, of_latencies, ratio, spread
from ..processes import PROGRAMS, Process, directory, engine, ping, ping_figures, start_cohabd
from ..tables import Column, duration, rate

COHAB, PREFORK, PER_REQUEST = "cohab, shared epoll set", "classic prefork", "accept per request"
AT_ONCE, ONE_BY_ONE = "classic prefork, connected at once", "classic prefork, one by one"
SIMULATION = "M/G/N simulation"
ACCEPT_PER_REQUEST = "--accept-per-request"

SLEEP = 0.005
SLEEP_WORKERS = 8
SLEEP_CONNECTIONS = 32
LOAD = 0.5  # of what the workers can do

SPIN = 0.001
SPIN_CONNECTIONS = 8
CORES = min(2, len(os.sched_getaffinity(0)))


@dataclass(frozen=True)
class System:
    """A server, and the options that bench/ping needs for it."""

    path: Path
    options: Sequence[str] = ()


def start_systems(stack: ExitStack, workers: int) -> dict[str, System]:
    _, cohab = start_cohabd(stack, engine("echo"), workers)
    prefork, per_request = directory(stack) / "s", directory(stack) / "s"
    Process(stack, [PROGRAMS / "prefork", prefork, str(workers)]).wait_for_socket(prefork)
    command: list[str | Path] = [PROGRAMS / "prefork", ACCEPT_PER_REQUEST, per_request, str(workers)]
    Process(stack, command).wait_for_socket(per_request)
    return {
        COHAB: System(cohab),
        PREFORK: System(prefork),
        PER_REQUEST: System(per_request, ["--connect-each"]),
    }


class Arrivals:
    """The calls of one round: when each comes, over which connection, and how long it takes at the least."""

    def __init__(self, number: int, seconds: float, services: Sequence[float]) -> None:
        rng = random.Random(number)
        times = simulation.poisson_arrivals(LOAD * SLEEP_WORKERS / SLEEP, seconds, rng)
        ends = simulation.serve(times, rng.choices(services, k=len(times)), SLEEP_WORKERS)
        connections = simulation.assign_connections(times, ends, SLEEP_CONNECTIONS, rng)
        self.figures = of_latencies((end - time for end, time in zip(ends, times)), seconds)
        self.schedule = "".join(f"{time:.9f} {number}\n" for time, number in zip(times, connections))


def lone_calls(path: Path) -> list[float]:
    """What a call takes that never waits: G, from the plainest server, not from ours."""
    latencies: list[float] = ping(path, "--sleep", str(SLEEP), "--calls", "60", "--latencies")["latencies"]
    return latencies


def run_queue(bench: Bench) -> Result:
    columns = [Column(name, name, duration) for name in ("p50", "p99", "max")]
    result = Result([*columns, Column("calls/s", "rate", rate)])
    options = ["--sleep", str(SLEEP), "--connections", str(SLEEP_CONNECTIONS), "--schedule", "--warmup", "1"]
    arrivals: dict[int, Arrivals] = {}
    with ExitStack() as stack:
        systems = start_systems(stack, SLEEP_WORKERS)

        def arrivals_of(number: int) -> Arrivals:
            if number not in arrivals:
                services = lone_calls(systems[PREFORK].path)
                arrivals[number] = Arrivals(number, bench.seconds(3.0), services)
            return arrivals[number]

        def measure(system: System | None, number: int) -> Figures:
            if system is None:
                return arrivals_of(number).figures
            schedule = arrivals_of(number).schedule
            return ping_figures(ping(system.path, *options, *system.options, schedule=schedule))

        connected = {
            COHAB: systems[COHAB],
            AT_ONCE: systems[PREFORK],
            ONE_BY_ONE: System(systems[PREFORK].path, ["--one-by-one"]),
            PER_REQUEST: systems[PER_REQUEST],
        }
        bench.take_turns({SIMULATION: None, **connected}, measure, result)
    if result.has(COHAB, SIMULATION):
        measured = ratio(result.rounds[COHAB], result.rounds[SIMULATION], "p99")
        result.checks.append(Check("mostly idle connections, p99 / simulation's", measured, 1.1))
    for prefork in (AT_ONCE, ONE_BY_ONE):
        if result.has(COHAB, prefork):
            measured = ratio(result.rounds[prefork], result.rounds[COHAB], "p99")
            what = f"mostly idle connections, p99 of {prefork} / cohab's"
            result.checks.append(Check(what, measured, 10, at_most=False))
    return result


def run_cpu(bench: Bench) -> Result:
    columns = [Column(name, name, duration) for name in ("p50", "p99")]
    result = Result([*columns, Column("calls/s", "rate", rate)])
    options = ["--spin", str(SPIN), "--connections", str(SPIN_CONNECTIONS)]
    options += ["--duration", str(bench.seconds(1.5)), "--warmup", "1"]
    with ExitStack() as stack:
        systems = start_systems(stack, CORES)
        bench.take_turns(
            systems, lambda system, _: ping_figures(ping(system.path, *options, *system.options)), result
        )
    if result.has(COHAB):
        measured = spread(result.rounds[COHAB], "rate", CORES / SPIN)
        what = f"1 ms of CPU, {CORES} workers, throughput / {CORES / SPIN:g} a second"
        result.checks.append(Check(what, measured, 0.95, at_most=False))
    return result


SCENARIOS = [
    Scenario(
        "queue",
        f"{SLEEP_WORKERS} workers, {SLEEP_CONNECTIONS} mostly idle connections, 5 ms of waiting",
        f"Poisson arrivals at {LOAD:.0%} of what the workers can do, in each round the same for all, each "
        "over a random connection that is idle in the simulation; latencies count from the arrival. The "
        "simulation serves them first come first served, by service times drawn from lone calls of the "
        "prefork server. A prefork server is as good as its connections are spread over its workers: evenly "
        "where 32 clients connect and call at once, over few where they come one after the other and the "
        "kernel wakes the same worker again and again.",
        run_queue,
    ),
    Scenario(
        "cpu",
        f"{CORES} workers, {SPIN_CONNECTIONS} busy connections, 1 ms of CPU",
        "bench/ping on the same cores. A connection calls again as soon as it has its answer.",
        run_cpu,
    ),
]
