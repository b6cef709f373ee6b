"""The simulated queue, by cases that can be worked out on paper and by queueing theory."""

from __future__ import annotations

import random
import statistics

import pytest
from compare.simulation import assign_connections, poisson_arrivals, serve


def test_nobody_waits_while_a_server_is_free() -> None:
    assert serve([0, 1, 2], [5, 5, 5], servers=3) == [5, 6, 7]


def test_first_come_first_served() -> None:
    """Two servers: the third waits for the first to be free, the fourth for the second."""
    assert serve([0, 1, 2, 3], [10, 2, 4, 1], servers=2) == [10, 3, 7, 8]


def test_a_queue_empties() -> None:
    assert serve([0, 0, 100], [10, 10, 1], servers=1) == [10, 20, 101]


def test_mean_wait_is_that_of_theory() -> None:
    """M/M/1 at half load: the mean wait is one service time. M/D/1: half of that (Pollaczek, Khinchine)."""
    rng = random.Random(1)
    arrivals = poisson_arrivals(0.5, 200_000, rng)
    for services, expected in (
        ([rng.expovariate(1.0) for _ in arrivals], 1.0),
        ([1.0] * len(arrivals), 0.5),
    ):
        ends = serve(arrivals, services, servers=1)
        waits = [end - arrival - service for end, arrival, service in zip(ends, arrivals, services)]
        assert statistics.mean(waits) == pytest.approx(expected, rel=0.05)


def test_arrivals_are_poisson() -> None:
    arrivals = poisson_arrivals(100, 1000, random.Random(2))
    assert arrivals == sorted(arrivals)
    assert min(arrivals) > 0
    assert max(arrivals) < 1000
    assert len(arrivals) == pytest.approx(100_000, rel=0.01)
    gaps = [after - before for before, after in zip(arrivals, arrivals[1:])]
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.02)


def test_the_same_seed_gives_the_same_arrivals() -> None:
    assert poisson_arrivals(10, 10, random.Random(3)) == poisson_arrivals(10, 10, random.Random(3))


def test_a_call_comes_over_an_idle_connection() -> None:
    rng = random.Random(4)
    arrivals = poisson_arrivals(800, 10, rng)
    ends = serve(arrivals, [0.005] * len(arrivals), servers=8)
    chosen = assign_connections(arrivals, ends, 32, rng)
    busy_until = [0.0] * 32
    for arrival, end, number in zip(arrivals, ends, chosen):
        assert busy_until[number] <= arrival
        busy_until[number] = end
    assert set(chosen) == set(range(32))


def test_with_no_connection_idle_the_first_to_be() -> None:
    assert assign_connections([0, 1, 2], [10, 8, 12], 2, random.Random(5)) in ([0, 1, 1], [1, 0, 0])
