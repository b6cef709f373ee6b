"""What is left of throughput and latency while one call in a hundred kills its worker."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, ratio
from ..peers import CohabPython, Deadpool, DirtyArbiter, Load, Loky, Peer, ProcessPool
from ..peers.base import Call, measure_threads
from ..processes import Failed
from ..tables import Column, count, duration, rate

WORKERS = 2
CALLERS = 8
SPIN = 0.001
ONE_IN = 100
TIMEOUT = 2.0  # of a call: some lose calls and never say so
GIVE_UP = 10.0  # how long a caller goes on with one call
RETRY_PAUSE = 0.001
RECOVERIES = 3
RECOVERY_SLEEP = 0.05
LOAD = Load("spin", seconds=SPIN, threads=CALLERS, workers=WORKERS, timeout=TIMEOUT)


@dataclass
class Callers:
    """What callers do, and what becomes of it. The numbers of crashing calls are unique in the run."""

    numbers: Iterator[int]
    one_in: int  # 0: none crashes
    turns: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    crashes: int = 0
    survived: int = 0
    failed: list[str] = field(
        default_factory=list
    )  # good calls, each time that one failed and was tried again

    def run(self, call: Call, end: float) -> list[float]:
        """One caller's calls until then; the latencies of the good ones."""
        latencies = []
        while True:
            begin = time.perf_counter()
            if self.one_in and next(self.turns) % self.one_in == 0:
                self._crash(call)
            else:
                latencies.append(self._spin(call, begin))
            if time.perf_counter() >= end:
                return latencies

    def _crash(self, call: Call) -> None:
        try:
            call("crash", next(self.numbers))
        except Exception:  # each peer has its own
            self.crashes += 1
        else:
            self.survived += 1

    def _spin(self, call: Call, begin: float) -> float:
        """From the first attempt to the one that succeeds."""
        while True:
            try:
                call("spin", SPIN)
            except Exception as error:
                self.failed.append(type(error).__name__)
            else:
                return time.perf_counter() - begin
            if time.perf_counter() - begin > GIVE_UP:
                raise Failed(f"a good call did not succeed within {GIVE_UP:g} s: {self.failed[-1]}")
            time.sleep(RETRY_PAUSE)


def recover(calls: list[Call], number: int) -> float:
    """Seconds from sending a call that crashes until all workers serve: that many sleeps run at once."""
    with ThreadPoolExecutor(WORKERS) as threads:
        begin = time.perf_counter()
        with suppress(Exception):  # each peer has its own
            calls[0]("crash", number)
        while time.perf_counter() - begin < GIVE_UP:
            start = time.perf_counter()
            pair = [threads.submit(call, "sleep", RECOVERY_SLEEP) for call in calls[:WORKERS]]
            whole = all(future.exception() is None for future in pair)
            now = time.perf_counter()
            if whole and now - start < 1.8 * RECOVERY_SLEEP:
                return now - RECOVERY_SLEEP - begin
            time.sleep(RETRY_PAUSE)
    raise Failed(f"not all workers serve {GIVE_UP:g} s after a crash")


def measure(peer: Peer, bench: Bench, numbers: Iterator[int]) -> Figures:
    calls = peer.calls
    calm = measure_threads(calls, Callers(numbers, 0).run, bench.seconds(1.2))
    callers = Callers(numbers, ONE_IN)
    stormy = measure_threads(calls, callers.run, bench.seconds(2.4))
    if callers.survived or callers.crashes == 0:
        raise Failed(f"{callers.survived} crashing calls were answered, {callers.crashes} failed")
    recoveries = [recover(calls, next(numbers)) for _ in range(RECOVERIES)]
    return {
        "calm p99": calm["p99"],
        "calm rate": calm["rate"],
        "p99": stormy["p99"],
        "max": stormy["max"],
        "rate": stormy["rate"],
        "crashes": float(callers.crashes),
        "failed": float(len(callers.failed)),
        "recovery": statistics.median(recoveries),
    }


def run(bench: Bench) -> Result:
    columns = [
        Column("calls/s, no crash", "calm rate", rate),
        Column("p99, no crash", "calm p99", duration),
        Column("calls/s", "rate", rate),
        Column("p99", "p99", duration),
        Column("max", "max", duration),
        Column("crashes", "crashes", count),
        Column("good calls failed", "failed", count),
        Column("recovery", "recovery", duration),
    ]
    result = Result(columns, sort_by="p99")
    numbers = itertools.count(1)
    peers = [CohabPython("work"), ProcessPool(), Loky(), DirtyArbiter(), Deadpool()]
    with ExitStack() as stack:
        opened = bench.open_peers(peers, LOAD, result, stack)
        bench.take_turns(opened, lambda peer, _: measure(peer, bench, numbers), result)
    add_checks(result)
    return result


def add_checks(result: Result) -> None:
    ours = result.rounds.get("cohab", [])
    if not ours:
        return
    calm = [{"p99": figures["calm p99"]} for figures in ours]
    result.checks.append(Check("p99 while 1 % of the calls crash / without", ratio(ours, calm, "p99"), 3))
    for name, theirs in result.rounds.items():
        if name != "cohab":
            measured = ratio(theirs, ours, "p99")
            result.checks.append(Check(f"p99 while 1 % crash, {name} / cohab", measured, 1, at_most=False))


SCENARIOS = [
    Scenario(
        "crashes",
        "One call in a hundred crashes the engine",
        f"{WORKERS} workers, {CALLERS} Python threads, 1 ms of CPU a call; first without crashes, then with "
        "them. Good calls that fail are tried again, and count from their first attempt; "
        f"time-out {TIMEOUT:g} s. The executors are rebuilt by whoever sees first that they are broken. "
        "Recovery: from sending a crashing call, with nothing else to do, until both workers serve.",
        run,
    )
]
