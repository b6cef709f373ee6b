"""What callers notice when workers are replaced: latencies during reloads, and the time a dead worker costs.

Reload: an open loop of sleep(5 ms) calls over 32 connections to 8 workers; rounds with a reload every half
second alternate with rounds without, and the figure is the median of the rounds' ratios of p99.

Spare: a worker that shares 1 GiB that load() has built is killed by SIGKILL, and at once a call is made; its
answer is capacity that is back. Servers with and without --spare alternate, one worker each; medians.

Run it by scripts/bench-life, which builds what it needs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cohab

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
FAULT = BUILD / "engine" / "libfault.so"


class Server:
    def __init__(self, directory: Path, *arguments: str) -> None:
        self.socket = str(directory / "s")
        command = [str(BUILD / "cohabd"), "--socket", self.socket, "--log-level", "error", *arguments]
        self.process = subprocess.Popen(command)
        self.cli("ping", "--wait", "60")

    def cli(self, *arguments: str) -> str:
        command = [str(BUILD / "cohab"), "--socket", self.socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def workers(self, *states: str) -> list[int]:
        workers = json.loads(self.cli("status", "--json"))["workers"]
        return [w["pid"] for w in workers if w["state"] in states]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def bench(server: Server, seconds: float, rate: float) -> dict[str, Any]:
    words = ["bench", "sleep", "0.005", "-c", "32", "--rate", str(rate), "--duration", str(seconds)]
    report: dict[str, Any] = json.loads(server.cli(*words, "--warmup", "0.5", "--json"))
    return report


def reload_until(server: Server, end: threading.Event, counts: list[int]) -> None:
    while not end.wait(0.5):
        server.cli("reload")
        counts.append(1)


def measure_reloads(rounds: int, seconds: float, rate: float) -> None:
    ratios = []
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--workers", "8", "echo")
        for number in range(rounds):
            before = bench(server, seconds, rate)
            end, counts = threading.Event(), []
            thread = threading.Thread(target=reload_until, args=(server, end, counts))
            thread.start()
            during = bench(server, seconds, rate)
            end.set()
            thread.join()
            p99 = [report["latency"]["p99"] * 1e3 for report in (before, during)]
            errors = [report["errors"] for report in (before, during)]
            ratios.append(p99[1] / p99[0])
            print(
                f"round {number + 1}: p99 {p99[0]:.2f} ms, with {len(counts)} reloads {p99[1]:.2f} ms: "
                f"{ratios[-1]:.2f}; errors {errors}"
            )
        server.stop()
    print(f"reload: median ratio of p99 {statistics.median(ratios):.2f} of {rounds} rounds")


def time_to_capacity(server: Server, spare: bool) -> float:
    while spare and not server.workers("spare"):
        time.sleep(0.01)
    with cohab.connect(server.socket, retries=0) as client:
        pid = client.call("pid")
        begin = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        while client.call("pid") == pid:
            pass
        return time.perf_counter() - begin


def measure_spares(times: int, size: str) -> None:
    figures: dict[bool, list[float]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        engine = ["--workers", "1", str(FAULT), "--", "load-memory", size]
        servers = {False: Server(Path(one), *engine), True: Server(Path(other), "--spare", "1", *engine)}
        for _ in range(times):
            for spare, server in servers.items():
                figures[spare].append(time_to_capacity(server, spare))
        for server in servers.values():
            server.stop()
    for spare, name in ((False, "no spare"), (True, "a spare")):
        ordered = sorted(figures[spare])
        print(
            f"{name}: capacity back in {statistics.median(ordered) * 1e3:.2f} ms (median of {times}; "
            f"{ordered[0] * 1e3:.2f} to {ordered[-1] * 1e3:.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the reload part (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement (5)")
    parser.add_argument("--rate", type=float, default=800.0, help="calls per second (800)")
    parser.add_argument("--kills", type=int, default=20, help="of each server (20)")
    parser.add_argument("--memory", default=str(1 << 30), help="bytes that load() builds (1 GiB)")
    arguments = parser.parse_args()
    measure_reloads(arguments.rounds, arguments.seconds, arguments.rate)
    measure_spares(arguments.kills, arguments.memory)


if __name__ == "__main__":
    main()
