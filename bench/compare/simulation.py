"""PURE. The queue that no server can beat: N servers, first come first served, at no cost."""

from __future__ import annotations

import heapq
import random
from collections.abc import Sequence


def poisson_arrivals(rate: float, duration: float, rng: random.Random) -> list[float]:
    """Times from 0 on, in seconds, `rate` a second on average."""
    times = []
    now = rng.expovariate(rate)
    while now < duration:
        times.append(now)
        now += rng.expovariate(rate)
    return times


def serve(arrivals: Sequence[float], services: Sequence[float], servers: int) -> list[float]:
    """When each arrival is done: an M/G/N queue, if arrivals are Poisson and `services` are drawn from G.

    `arrivals` are in order; `services` are the times that each takes once a server is free.
    """
    free = [0.0] * servers  # a heap: when each server is free
    ends = []
    for arrival, service in zip(arrivals, services):
        end = max(arrival, free[0]) + service
        heapq.heapreplace(free, end)
        ends.append(end)
    return ends


def assign_connections(
    arrivals: Sequence[float], ends: Sequence[float], connections: int, rng: random.Random
) -> list[int]:
    """The connection that each arrival comes over: any that is idle, as in a pool of clients.

    Idle is what has had its last answer in the simulation that gave `ends`. Where none is: the first to be.
    """
    busy_until = [0.0] * connections
    chosen = []
    for arrival, end in zip(arrivals, ends):
        idle = [number for number, until in enumerate(busy_until) if until <= arrival]
        number = rng.choice(idle) if idle else busy_until.index(min(busy_until))
        busy_until[number] = max(end, busy_until[number])
        chosen.append(number)
    return chosen
