"""What eight workers take that share 1 GiB of loaded data."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import cohab

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, spread
from ..processes import engine, start_cohabd, status
from ..tables import Column, size

GIB = 1 << 30
WORKERS = 8
NAME = f"cohab, {WORKERS} workers, 1 GiB loaded"


def pss(pid: int) -> int:
    """Bytes; what is shared counts by its share."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def run(bench: Bench) -> Result:
    result = Result([Column("PSS in all", "all", size), Column("a worker", "worker", size)])

    def measure(workers_wanted: int, _: int) -> Figures:
        with ExitStack() as stack:
            server, path = start_cohabd(stack, engine("work"), workers_wanted, args=[str(GIB)])
            with cohab.connect(path) as client:
                for _answer in client.map("sleep", [0.02] * 4 * WORKERS, concurrency=WORKERS):
                    pass  # every worker has served calls
            workers = [worker["pid"] for worker in status(path)["workers"]]
            return {
                "all": float(sum(map(pss, family(server.pid)))),
                "worker": sum(map(pss, workers)) / len(workers),
            }

    bench.take_turns({NAME: WORKERS}, measure, result)
    if result.has(NAME):
        measured = spread(result.rounds[NAME], "all", GIB)
        result.checks.append(
            Check(f"memory of {WORKERS} workers, 1 GiB loaded", measured, 1.05, unit="GiB PSS")
        )
    return result


SCENARIOS = [
    Scenario(
        "memory",
        "Memory of 8 workers with 1 GiB loaded",
        "Pss of /proc/PID/smaps_rollup, added up over master, forkserver and workers, after 32 calls.",
        run,
    )
]
