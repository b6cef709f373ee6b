"""Who takes a turn when, what becomes of those who fail, and how calls beside crashes are counted."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from typing import Any

import pytest
from compare.bench import Bench, Result
from compare.figures import Figures
from compare.peers import Load
from compare.peers.base import Call, Peer, measure_threads
from compare.scenarios.crashes import Callers
from demo import Screen


def make_bench(rounds: int = 2) -> Bench:
    return Bench(Screen(), rounds, 1.0, lambda _: True)


def test_everybody_takes_turns_and_nobody_is_always_first() -> None:
    turns: list[str] = []

    def measure(name: str, _: int) -> Figures:
        turns.append(name)
        return {"p50": float(len(turns))}

    result = Result([])
    make_bench().take_turns({"a": "a", "b": "b"}, measure, result, slices=2)
    assert turns == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert result.rounds == {"a": [{"p50": 2.5}, {"p50": 6.5}], "b": [{"p50": 2.5}, {"p50": 6.5}]}


def test_who_fails_is_named_and_has_no_figures() -> None:
    def measure(name: str, number: int) -> Figures:
        if name == "b" and number == 1:
            raise RuntimeError("it broke\nin many lines")
        return {"p50": 1.0}

    result = Result([])
    make_bench(rounds=3).take_turns({"a": "a", "b": "b"}, measure, result)
    assert len(result.rounds["a"]) == 3
    assert "b" not in result.rounds
    assert result.skipped == {"b": "failed: it broke"}


class Fake(Peer):
    name = "fake"

    def __init__(self, answer: bytes) -> None:
        super().__init__()
        self.answer = answer
        self.closed = False

    def start(self, load: Load) -> None:
        self._stack.callback(setattr, self, "closed", True)

    def connect(self, load: Load) -> Call:
        return lambda method, argument: self.answer


def test_a_peer_that_echoes_something_else_is_left_out_and_closed() -> None:
    wrong, right = Fake(b"no"), Fake(bytes(64))
    right.name = "right"
    result = Result([])
    with ExitStack() as stack:
        opened = make_bench().open_peers([wrong, right], Load(), result, stack)
        assert opened == {"right": right}
        assert right.measure(Load(), 0.01)["calls"] >= 1
    assert result.skipped == {"fake": "failed: echo gives back something else"}
    assert wrong.closed
    assert right.closed


@pytest.mark.parametrize(
    ("load", "reason"),
    [(Load(payload=11), "too large"), (Load("spin", seconds=1), "no work"), (Load(threads=2), "one thread")],
)
def test_what_a_peer_cannot_do_is_said(load: Load, reason: str) -> None:
    class Limited(Fake):
        methods = ("echo",)
        why_no_work = "no work"
        largest = 10
        why_not_large = "too large"
        most_threads = 1
        why_not_threads = "one thread"

    assert Limited(b"").unfit(load) == reason
    assert Limited(b"").unfit(Load(payload=10)) is None


def test_a_missing_package_is_named() -> None:
    class Missing(Fake):
        needs_packages = ("no_such_package",)

    assert Missing(b"").unfit(Load()) == "the Python package no_such_package is not installed"


def test_an_error_in_a_thread_is_an_error_of_the_measurement() -> None:
    def run(call: Call, end: float) -> list[float]:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        measure_threads([lambda *_: None] * 2, run, 0.01)


def test_callers_count_crashes_and_try_good_calls_again() -> None:
    seen: list[tuple[str, Any]] = []

    def call(method: str, argument: Any) -> None:
        seen.append((method, argument))
        if method == "crash" or len(seen) in (3, 4):
            raise RuntimeError

    callers = Callers(itertools.count(1), one_in=5)
    latencies: list[float] = []
    while callers.crashes < 2:
        latencies += callers.run(call, end=time.perf_counter())
    crashes = [argument for method, argument in seen if method == "crash"]
    assert crashes == [1, 2]
    assert len(latencies) == 8  # one in five crashes, two in ten
    assert callers.failed == ["RuntimeError"] * 2
    assert len(seen) == 12
    assert callers.survived == 0
