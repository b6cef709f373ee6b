"""Every peer under the same load: four sizes, one and sixteen threads, no work, waiting and computing."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial

from ..bench import Bench, Result, Scenario
from ..figures import Check, ratio
from ..peers import CohabC, CohabPython, Load, Peer, RawC, RawPython, all_peers
from ..tables import Column, duration, rate

KIB, MIB = 1 << 10, 1 << 20
CORES = len(os.sched_getaffinity(0))
COLUMNS = [
    Column("p50", "p50", duration),
    Column("p99", "p99", duration),
    Column("calls/s", "rate", rate),
]
SPIN_US = 50
FASTER_THAN = {
    "requests to C++ HTTP": 15,
    "gRPC (Python server)": 7,
    "ProcessPoolExecutor": 5,
    "pyzmq REQ/REP": 3,
}


def measure_peers(
    bench: Bench, load: Load, seconds: float, slices: int = 1, more: tuple[Peer, ...] = ()
) -> Result:
    result = Result(COLUMNS, sort_by="p50", against=("cohab", "p50"))
    with ExitStack() as stack:
        opened = bench.open_peers([*all_peers(), *more], load, result, stack)
        bench.warm_up(opened, lambda peer, _: peer.measure_in_turn(load, bench.seconds(seconds) / 4), result)
        bench.take_turns(
            opened, lambda peer, _: peer.measure_in_turn(load, bench.seconds(seconds)), result, slices
        )
    return result


def run_small(bench: Bench) -> Result:
    """The first table: what a call costs when there is nothing to do."""
    result = measure_peers(bench, Load(), 0.12, slices=4, more=(CohabC(2), CohabPython(workers=2)))
    for theirs, factor in FASTER_THAN.items():
        if result.has("cohab", theirs):
            measured = ratio(result.rounds[theirs], result.rounds["cohab"], "p50")
            result.checks.append(Check(f"small call, {theirs} / cohab", measured, factor, at_most=False))
    return result


def run_pinned(bench: Bench, client_core: int, server_core: int, where: str) -> Result:
    """cohab and the limits, where the scheduler cannot choose: it makes more of a difference than they do."""
    load = Load()
    result = Result(COLUMNS)
    cores = os.sched_getaffinity(0)
    if not {client_core, server_core} <= cores:
        result.skipped["all of it"] = (
            f"cores {client_core} and {server_core} are needed, there are {sorted(cores)}"
        )
        return result
    peers = [RawC(), CohabC(), CohabC(2), RawPython(), CohabPython(), CohabPython(workers=2)]
    if client_core != server_core:  # there is a core to spare
        peers += [CohabC(spin_us=SPIN_US), CohabPython(spin_us=SPIN_US)]
    with ExitStack() as stack:
        stack.callback(os.sched_setaffinity, 0, cores)
        os.sched_setaffinity(0, {server_core})
        opened = bench.open_peers(peers, load, result, stack)
        os.sched_setaffinity(0, {client_core})
        bench.take_turns(opened, lambda peer, _: peer.measure(load, bench.seconds(0.12)), result, slices=4)
    limits = [("cohab, C", RawC.name, 1.15), ("cohab", RawPython.name, 1.25)]
    for name, raw, limit in limits:
        for ours in (name, f"{name}, 2 workers", f"{name}, --spin-us {SPIN_US}"):
            if result.has(ours, raw):
                measured = ratio(result.rounds[ours], result.rounds[raw], "p50")
                result.checks.append(Check(f"small call, {where}, p50, {ours} / {raw}", measured, limit))
    return result


def scenario(name: str, title: str, load: Load, seconds: float, slices: int = 1) -> Scenario:
    method = (
        f"{load.threads} thread{'s' if load.threads > 1 else ''}, {load.workers} "
        f"worker{'s' if load.workers > 1 else ''}. Each calls again as soon as it has its answer."
    )
    return Scenario(name, title, method, partial(measure_peers, load=load, seconds=seconds, slices=slices))


SCENARIOS = [
    Scenario(
        "small",
        "A small call: echo of 64 bytes, one thread",
        "One thread, one worker. Calls again as soon as it has its answer; four turns a round. The scheduler "
        "places client and server as it likes, and that makes a difference: see the next two.",
        run_small,
    ),
    Scenario(
        "small-apart",
        "A small call, client and server on a core each",
        "As before, but the client may run on core 0 only, all of the server on core 1 only.",
        partial(run_pinned, client_core=0, server_core=1, where="two cores"),
    ),
    Scenario(
        "small-together",
        "A small call, client and server on the same core",
        "As before, but client and server may run on core 0 only.",
        partial(run_pinned, client_core=0, server_core=0, where="one core"),
    ),
    scenario("4k", "Echo of 4 KiB, one thread", Load(payload=4 * KIB), 0.12, slices=2),
    scenario("1m", "Echo of 1 MiB, one thread", Load(payload=MIB), 0.25),
    scenario("64m", "Echo of 64 MiB, one thread", Load(payload=64 * MIB), 0.4),
    scenario("threads", "Echo of 64 bytes, sixteen threads", Load(threads=16, workers=CORES), 0.3),
    scenario("sleep", "5 ms of waiting, one thread", Load("sleep", seconds=0.005), 0.2),
    scenario(
        "sleep-threads",
        "5 ms of waiting, sixteen threads",
        Load("sleep", seconds=0.005, threads=16, workers=8),
        0.3,
    ),
    scenario("spin", "1 ms of CPU, one thread", Load("spin", seconds=0.001), 0.2),
    scenario(
        "spin-threads",
        "1 ms of CPU, sixteen threads",
        Load("spin", seconds=0.001, threads=16, workers=CORES),
        0.4,
    ),
]
