"""What the master does while its workers are saturated: nothing, if it is not on the path of a request."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, spread
from ..processes import Process, engine, ping, start_cohabd
from ..tables import Column, percent, rate

NAME = "cohabd, the master"
CONNECTIONS = 8


def cpu_seconds(pid: int) -> float:
    """CPU time that the process has had. In nanoseconds, where /proc/PID/stat has hundredths of a second."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def run(bench: Bench) -> Result:
    result = Result([Column("share of a core", "share", percent), Column("calls/s", "rate", rate)])
    with ExitStack() as stack:
        master, path = start_cohabd(stack, engine("echo"), 2)

        def measure(server: Process, _: int) -> Figures:
            before, begin = cpu_seconds(server.pid), time.monotonic()
            duration = str(bench.seconds(1.5))
            answer = ping(path, "--connections", str(CONNECTIONS), "--duration", duration)
            used, elapsed = cpu_seconds(server.pid) - before, time.monotonic() - begin
            return {"share": used / elapsed, "rate": answer["calls_per_second"]}

        bench.take_turns({NAME: master}, measure, result)
    if result.has(NAME):
        measured = spread(result.rounds[NAME], "share", 0.01)
        result.checks.append(Check("CPU of the master under saturation", measured, 1, unit="% of a core"))
    return result


SCENARIOS = [
    Scenario(
        "master",
        "The master's CPU while 2 workers are saturated with small calls",
        f"{CONNECTIONS} busy connections, echo of 64 bytes; /proc/PID/schedstat before and after, with "
        f"{CONNECTIONS} new connections each time.",
        run,
    )
]
