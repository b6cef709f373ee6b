"""What a small call costs: cohab's client and a raw Python socket with msgpack, interleaved in one run.

The raw side is the least that a Python program can do: a blocking socket without time-out, packb, one
sendall, one recv, unpackb, against a C program that only echoes. It sends the very request that cohab's
client sends. One thread, a payload of 64 bytes; rounds alternate, each round's figure is the median of its
calls, and the ratio printed is the median of the rounds' ratios. Run it by scripts/bench-call, which builds
what it needs.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cohab
import msgpack

ROOT = Path(__file__).resolve().parent.parent
RAW_ECHO = ROOT / "build" / "bench" / "raw_echo"
PAYLOAD = "x" * 64
RECEIVE_SIZE = 65536


def raw_call(connection: socket.socket) -> Callable[[], None]:
    pack, unpack, header = msgpack.packb, msgpack.unpackb, struct.Struct(">I")

    def call() -> None:
        body = pack([0, 1, "echo", [PAYLOAD], {"deadline": time.monotonic_ns() + 30_000_000_000}])
        connection.sendall(header.pack(len(body)) + body)
        reply = unpack(connection.recv(RECEIVE_SIZE)[4:])
        assert reply[3] == [PAYLOAD]

    return call


def cohab_call(client: cohab.Client) -> Callable[[], None]:
    def call() -> None:
        assert client.call("echo", PAYLOAD) == PAYLOAD

    return call


def measure(call: Callable[[], None], calls: int) -> list[int]:
    """Nanoseconds of each of that many calls, sorted."""
    clock = time.perf_counter_ns
    times = []
    for _ in range(calls):
        begin = clock()
        call()
        times.append(clock() - begin)
    return sorted(times)


def percentile(times: list[int], share: float) -> float:
    """In microseconds."""
    return times[min(len(times) - 1, int(len(times) * share))] / 1000


def connect_raw(path: Path) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def run(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    sides: dict[str, list[list[int]]] = {"raw socket": [], "cohab": []}
    with (
        tempfile.TemporaryDirectory(prefix="cohab-") as directory,
        subprocess.Popen([RAW_ECHO, f"{directory}/raw"]) as echo,
        cohab.Pool("echo", workers=1, cohabd=str(ROOT / "build" / "cohabd")) as pool,
        connect_raw(Path(directory) / "raw") as connection,
    ):
        # A plain echo gives back the request: its fourth element is the list of parameters.
        callers = {"raw socket": raw_call(connection), "cohab": cohab_call(pool)}
        for call in callers.values():
            measure(call, calls // 10)
        for _ in range(rounds):
            for name, call in callers.items():
                sides[name].append(measure(call, calls))
        echo.kill()
    figures = {
        name: {
            "p50": statistics.median(percentile(times, 0.5) for times in measured),
            "p99": statistics.median(percentile(times, 0.99) for times in measured),
        }
        for name, measured in sides.items()
    }
    ratios = [
        percentile(ours, 0.5) / percentile(raw, 0.5)
        for raw, ours in zip(sides["raw socket"], sides["cohab"], strict=True)
    ]
    figures["ratio"] = {"p50": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description="A small call from Python: cohab against a raw socket with msgpack."
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each side, in turn (5)")
    parser.add_argument("--calls", type=int, default=20000, help="calls in a round (20000)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    figures = run(options.rounds, options.calls)
    if options.json:
        print(json.dumps(figures))
        return
    print(f"64-byte echo, one thread, {options.rounds} rounds of {options.calls} calls each, in turn")
    print(f"{'':12}{'p50':>10}{'p99':>10}")
    for name in ("raw socket", "cohab"):
        print(f"{name:12}{figures[name]['p50']:>7.1f} us{figures[name]['p99']:>7.1f} us")
    ratio = figures["ratio"]
    print(f"p50 ratio   {ratio['p50']:.2f} (rounds from {ratio['min']:.2f} to {ratio['max']:.2f})")


if __name__ == "__main__":
    main()
