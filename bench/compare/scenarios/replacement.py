"""From the SIGKILL of a worker until another one waits for work, with the engine's data in memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, spread
from ..processes import Failed, Lines, engine, start_cohabd, status
from ..tables import Column, duration

GIB = 1 << 30
SMALL_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
NAME = "1 GiB loaded"
# What is loaded, in bytes, and what is added to the server's environment.
VARIANTS = {
    "nothing loaded": (0, {}),
    NAME: (GIB, {}),
    "1 GiB loaded, 4 KiB pages": (GIB, SMALL_PAGES),
    "4 GiB loaded": (4 * GIB, {}),
}
WORKERS = 2
KILLS = 20


def kill(path: Path, lines: Lines, number: int) -> Figures:
    time.sleep(random.uniform(0.05, 0.15))  # not in step with the master's own looks
    victim = status(path)["workers"][number % WORKERS]
    begin = time.monotonic()
    os.kill(victim["pid"], signal.SIGKILL)
    noticed = lines.wait_for(rf"worker {victim['number']}\b.* died: ")
    ready = lines.wait_for(rf"worker {victim['number']}\b.* ready$")
    return {"noticed": noticed - begin, "ready": ready - noticed, "all": ready - begin}


def measure(bench: Bench, name: str) -> list[Figures]:
    size, environment = VARIANTS[name]
    kills = KILLS if bench.pace >= 1 else 5
    figures = []
    with ExitStack() as stack:
        server, path = start_cohabd(
            stack,
            engine("work"),
            WORKERS,
            "--log-level",
            "info",
            args=[str(size)],
            stderr=subprocess.PIPE,
            env=os.environ | environment,
        )
        assert server.process.stderr is not None
        lines = Lines(server.process.stderr)
        for _ in range(WORKERS):
            lines.wait_for(r"ready$")
        for number in range(kills):
            bench.progress(name, number, kills)
            figures.append(kill(path, lines, number))
    return figures


def run(bench: Bench) -> Result:
    columns = [Column("noticed", "noticed", duration), Column("then ready", "ready", duration)]
    result = Result([*columns, Column("in all", "all", duration)])
    for name in VARIANTS:
        try:
            result.rounds[name] = measure(bench, name)
        except Failed as error:
            result.skipped[name] = str(error)
    if result.has(NAME):
        measured = spread(result.rounds[NAME], "all", 0.001)
        result.checks.append(Check("killed worker replaced, 1 GiB loaded", measured, 20, unit="ms"))
    return result


SCENARIOS = [
    Scenario(
        "replacement",
        "A killed worker is replaced",
        f"Medians of {KILLS} SIGKILLs, by when the lines of cohabd's log come: that the worker died, and "
        "that its successor is ready. The data is one malloc() filled by load, on huge pages where there are "
        "any.",
        run,
    )
]
