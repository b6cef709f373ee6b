"""As many small calls as there can be, against a raw echo under the same load generator, `cohab bench`."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from pathlib import Path

from ..bench import Bench, Result, Scenario
from ..figures import Check, Figures, ratio
from ..processes import COHAB, PROGRAMS, Failed, Process, directory, engine, start_cohabd
from ..tables import Column, duration, rate

CONNECTIONS = 8
WORKERS = 2
PAYLOAD = 64
RAW, OURS = "raw echo", "cohab"


def generate(path: Path, seconds: float, *options: str) -> Figures:
    command: list[str | Path] = [
        COHAB,
        "--socket",
        path,
        "bench",
        "--json",
        "--connections",
        str(CONNECTIONS),
    ]
    command += ["--duration", str(seconds), "--warmup", "0.2", "--payload", str(PAYLOAD), *options, "echo"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode == 2:
        raise Failed("this cohab has no bench command")
    if result.returncode != 0:
        raise Failed(result.stderr.strip())
    answer = json.loads(result.stdout)
    if answer["errors"]:
        raise Failed(f"calls got errors: {answer['errors']}")
    latency = answer["latency"]
    return {"p50": latency["p50"], "p99": latency["p99"], "rate": answer["calls_per_second"]}


def run(bench: Bench) -> Result:
    columns = [Column("p50", "p50", duration), Column("p99", "p99", duration)]
    result = Result([*columns, Column("calls/s", "rate", rate)])
    with ExitStack() as stack:
        _, ours = start_cohabd(stack, engine("echo"), WORKERS)
        raw = directory(stack) / "s"
        command: list[str | Path] = [PROGRAMS / "raw_echo", raw, str(WORKERS), str(CONNECTIONS // WORKERS)]
        Process(stack, command).wait_for_socket(raw)
        seconds = bench.seconds(1.5)
        servers: dict[str, tuple[Path, list[str]]] = {RAW: (raw, ["--echo"]), OURS: (ours, [])}
        bench.take_turns(servers, lambda server, _: generate(server[0], seconds, *server[1]), result)
    if result.has(RAW, OURS):
        measured = ratio(result.rounds[OURS], result.rounds[RAW], "rate")
        result.checks.append(Check("saturation, calls a second / raw echo's", measured, 0.8, at_most=False))
    return result


SCENARIOS = [
    Scenario(
        "saturation",
        f"Saturation: {CONNECTIONS} connections, {WORKERS} workers, echo of {PAYLOAD} bytes",
        f"`cohab bench` loads both. The raw echo accepts once: {CONNECTIONS // WORKERS} connections stay "
        f"with each of its {WORKERS} processes, which do epoll_wait(), recv() and send().",
        run,
    )
]
