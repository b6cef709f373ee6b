"""PURE. What was measured, and what it comes to: percentiles, medians of rounds, ratios, targets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Of one peer in one round: "p50" and "p99" in seconds, "rate" in calls per second, or what else a scenario
# measures.
Figures = dict[str, float]
Rounds = Sequence[Figures]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least this share of all do not exceed, as in bench/ping.c."""
    if not ordered:
        raise ValueError("no values to take a percentile of")
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def of_latencies(latencies: Iterable[float], seconds: float) -> Figures:
    """The figures of calls that took that long each, all of them made within so many seconds."""
    ordered = sorted(latencies)
    return {
        "p50": percentile(ordered, 0.5),
        "p99": percentile(ordered, 0.99),
        "max": ordered[-1],
        "calls": float(len(ordered)),
        "rate": len(ordered) / seconds,
    }


def medians(rounds: Rounds) -> Figures:
    """Each figure's median over the rounds that have it."""
    keys = {key: None for figures in rounds for key in figures}
    return {key: statistics.median(figures[key] for figures in rounds if key in figures) for key in keys}


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and their extremes."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} (rounds {self.low:.2f} to {self.high:.2f})"


def ratio(ours: Rounds, theirs: Rounds, key: str) -> Ratio:
    """Ours by theirs, round by round: what was measured at nearly the same time is compared."""
    ratios = [a[key] / b[key] for a, b in zip(ours, theirs)]
    if not ratios:
        raise ValueError("no rounds to compare")
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def spread(rounds: Rounds, key: str, scale: float = 1.0) -> Ratio:
    """One figure's median and extremes, in units of `scale`."""
    values = [figures[key] / scale for figures in rounds]
    return Ratio(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Check:
    """A target and what was measured of it."""

    what: str
    measured: Ratio
    limit: float
    at_most: bool = True  # else at least
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Judged unrounded, so that nothing is rounded in our favour."""
        return self.measured.median <= self.limit if self.at_most else self.measured.median >= self.limit

    @property
    def target(self) -> str:
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g} {self.unit}"

    @property
    def verdict(self) -> str:
        return "met" if self.met else "MISSED"
