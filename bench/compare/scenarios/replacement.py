"""From the SIGKILL of a worker until another one waits for work, with the engine's data in memory."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, spread
from ..processes import Failed, Lines, engine, start_cohabd, status
from ..tables import Column, duration

GIB = 1 << 30
NAME = "cohab, 1 GiB loaded"
WORKERS = 2
KILLS = 20


def run(bench: Bench) -> Result:
    columns = [Column("noticed", "noticed", duration), Column("then ready", "ready", duration)]
    result = Result([*columns, Column("in all", "all", duration)])
    with ExitStack() as stack:
        server, path = start_cohabd(
            stack, engine("work"), WORKERS, "--log-level", "info", args=[str(GIB)], stderr=subprocess.PIPE
        )
        assert server.process.stderr is not None
        lines = Lines(server.process.stderr)
        for _ in range(WORKERS):
            lines.wait_for(r"ready$")

        def kill(number: int) -> Figures:
            time.sleep(random.uniform(0.05, 0.15))  # not in step with the master's own looks
            victim = status(path)["workers"][number % WORKERS]
            begin = time.monotonic()
            os.kill(victim["pid"], signal.SIGKILL)
            noticed = lines.wait_for(rf"worker {victim['number']}\b.* died: ")
            ready = lines.wait_for(rf"worker {victim['number']}\b.* ready$")
            return {"noticed": noticed - begin, "ready": ready - noticed, "all": ready - begin}

        kills = KILLS if bench.pace >= 1 else 5
        result.rounds[NAME] = []
        try:
            for number in range(kills):
                bench.progress(NAME, number, kills)
                result.rounds[NAME].append(kill(number))
        except Failed as error:
            result.skipped[NAME] = str(error)
            return result
    measured = spread(result.rounds[NAME], "all", 0.001)
    result.checks.append(Check("killed worker replaced, 1 GiB loaded", measured, 20, unit="ms"))
    return result


SCENARIOS = [
    Scenario(
        "replacement",
        "A killed worker is replaced, with 1 GiB loaded",
        f"Medians of {KILLS} SIGKILLs, by when the lines of cohabd's log come: that the worker died, and "
        "that its successor is ready. The data is one malloc() filled by load; huge pages are as the machine "
        "has them.",
        run,
    )
]
