"""64 MiB there and back, from C: what cohab adds to moving the bytes."""

from __future__ import annotations

from contextlib import ExitStack

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, ratio
from ..peers import Load, Peer
from ..peers.cohab_and_raw import CohabC, RawC
from ..tables import Column, duration, mebibytes

SIZE = 64 << 20


def run(bench: Bench) -> Result:
    result = Result(
        [
            Column("p50", "p50", duration),
            Column("p99", "p99", duration),
            Column("each way", "bytes", mebibytes),
        ]
    )
    load = Load(payload=SIZE)
    with ExitStack() as stack:
        opened = bench.open_peers([RawC(), CohabC()], load, result, stack)

        def measure(peer: Peer, _: int) -> Figures:
            figures = peer.measure(load, bench.seconds(1.0))
            return {**figures, "bytes": figures["rate"] * SIZE}

        bench.take_turns(opened, measure, result)
    if result.has("cohab, C", "raw socket, C"):
        measured = ratio(result.rounds["cohab, C"], result.rounds["raw socket, C"], "bytes")
        result.checks.append(Check("64 MiB echoed, throughput / raw socket's", measured, 0.8, at_most=False))
    return result


SCENARIOS = [
    Scenario(
        "large",
        "64 MiB echoed, from C",
        "One connection, bench/ping. The raw echo receives all, then sends all; the request is the same.",
        run,
    )
]
