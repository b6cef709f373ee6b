"""What all peers have in common: start, call from one or several threads, stop."""

from __future__ import annotations

import importlib.util
import shutil
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ..figures import Figures, of_latencies
from ..processes import Failed

# call("echo", b"...") gives back the bytes; call("sleep", 0.005) and call("spin", 0.001) give None.
Call = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Load:
    """What is called, from how many threads, and how many workers serve it."""

    method: str = "echo"
    payload: int = 64  # bytes, of echo
    seconds: float = 0.0  # of sleep and spin
    threads: int = 1
    workers: int = 1
    timeout: float = 30.0  # of a call, where the peer has such a thing

    @property
    def argument(self) -> bytes | float:
        return bytes(self.payload) if self.method == "echo" else self.seconds


class Peer:
    """One way to call an engine. `open` it, `measure` it as often as wanted, `close` it."""

    name = ""
    needs_packages: Sequence[str] = ()
    needs_program = ""
    methods: Sequence[str] = ("echo", "sleep", "spin")
    why_no_work = ""  # why it cannot do the methods that it lacks
    most_threads = 1000
    why_not_threads = ""
    largest = 1 << 30
    why_not_large = ""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self.calls: list[Call] = []

    # --- for each peer to define

    def start(self, load: Load) -> None:
        """Starts what serves the calls; whatever must end goes on self._stack."""
        raise NotImplementedError

    def connect(self, load: Load) -> Call:
        """What one thread calls with."""
        raise NotImplementedError

    # --- the same for all

    def unfit(self, load: Load) -> str | None:
        """Why it cannot be measured with this load, or None."""
        missing = [name for name in self.needs_packages if importlib.util.find_spec(name) is None]
        if missing:
            return f"the Python package {missing[0]} is not installed"
        if self.needs_program and not shutil.which(self.needs_program):
            return f"{self.needs_program} is not installed"
        if load.method not in self.methods:
            return self.why_no_work
        if load.threads > self.most_threads:
            return self.why_not_threads
        if load.method == "echo" and load.payload > self.largest:
            return self.why_not_large
        return None

    def open(self, load: Load) -> None:
        self.start(load)
        self.calls = [self.connect(load) for _ in range(load.threads)]
        argument = load.argument
        expected = argument if load.method == "echo" else None
        for call in self.calls:
            if call(load.method, argument) != expected:
                raise Failed(f"{load.method} gives back something else")

    def measure(self, load: Load, seconds: float) -> Figures:
        """Calls for that long, and finishes the calls that have begun by then."""
        if len(self.calls) == 1:
            begin = perf_counter()
            latencies = call_for(self.calls[0], load, begin + seconds)
            return of_latencies(latencies, perf_counter() - begin)
        return measure_threads(self.calls, lambda call, end: call_for(call, load, end), seconds)

    def measure_in_turn(self, load: Load, seconds: float) -> Figures:
        """The same, where other peers take their turns before and after."""
        return self.measure(load, seconds)

    def close(self) -> None:
        self.calls = []
        self._stack.close()


def call_for(call: Call, load: Load, end: float) -> list[float]:
    """The latencies of calls, one after the other, at least one."""
    method, argument, clock = load.method, load.argument, perf_counter
    latencies = []
    while True:
        begin = clock()
        call(method, argument)
        after = clock()
        latencies.append(after - begin)
        if after >= end:
            return latencies


def measure_threads(
    calls: Sequence[Call], run: Callable[[Call, float], list[float]], seconds: float
) -> Figures:
    """The figures of run(call, end of time) in a thread for each of `calls`, all starting at once."""
    barrier = threading.Barrier(len(calls) + 1)
    latencies: list[float] = []
    errors: list[BaseException] = []
    times = [0.0]

    def run_one(call: Call) -> None:
        barrier.wait()
        try:
            latencies.extend(run(call, times[0] + seconds))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run_one, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    times[0] = perf_counter()
    barrier.wait()
    for thread in threads:
        thread.join()
    elapsed = perf_counter() - times[0]
    if errors:
        raise errors[0]
    return of_latencies(latencies, elapsed)
