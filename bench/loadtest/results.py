"""PURE. What was measured at each point, and the figures that are told of it.

A round is a dict, as it stands in the results file: `bench` (what `cohab bench --json` printed), `kills`
(seconds of the measured time) and `generator_cpu` (CPU seconds of `cohab bench` per second).
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from .scenario import DIMENSIONS, Point
from .units import format_count

PERCENTILES = ("p50", "p90", "p99", "p99.9")
KEPT_UP = 0.95  # share of the offered calls that a server answers which does not fall behind
SHORTEST_RATE = 0.5  # seconds
GENERATOR_BUSY = 0.9  # share of the one core that the load generator can use


@dataclass
class Result:
    """One point and its rounds."""

    point: Point
    rounds: list[dict[str, Any]] = field(default_factory=list)

    def _bench(self, key: str) -> list[Any]:
        return [one["bench"][key] for one in self.rounds]

    @property
    def throughputs(self) -> list[float]:
        """Calls per second of each round."""
        return self._bench("calls_per_second")

    @property
    def throughput(self) -> float:
        return statistics.median(self.throughputs)

    def latency(self, name: str) -> float | None:
        """Seconds: the median of the rounds, of `max` the highest; None where no round has one."""
        found: list[float] = [
            latency[name] for latency in self._bench("latency") if latency[name] is not None
        ]
        if not found:
            return None
        return max(found) if name == "max" else statistics.median(found)

    @property
    def spread(self) -> float:
        """Between the rounds' highest and lowest calls per second, relative to their median."""
        return (max(self.throughputs) - min(self.throughputs)) / self.throughput if self.throughput else 0.0

    @property
    def calls(self) -> int:
        return sum(self._bench("calls"))

    @property
    def errors(self) -> Counter[str]:
        return sum((Counter(errors) for errors in self._bench("errors")), Counter[str]())

    @property
    def reconnects(self) -> int:
        return sum(self._bench("reconnects"))

    @property
    def kills(self) -> int:
        return sum(len(one["kills"]) for one in self.rounds)

    @property
    def generator_cpu(self) -> float:
        return float(statistics.median(one["generator_cpu"] for one in self.rounds))

    @property
    def kept_up(self) -> bool:
        """Whether the server answered what an open loop offered. Always true of a closed loop."""
        rate = self.point.rate
        if rate is None:
            return True
        # Random arrivals: the number of calls has the standard deviation sqrt(rate * duration).
        chance = 2 * math.sqrt(rate / self.point.duration) if self.point.arrivals == "poisson" else 0.0
        return self.throughput >= KEPT_UP * (rate - chance)

    def to_json(self) -> dict[str, Any]:
        summary = {
            "calls": self.calls,
            "calls_per_second": {
                "median": self.throughput,
                "min": min(self.throughputs),
                "max": max(self.throughputs),
            },
            "latency": {name: self.latency(name) for name in (*PERCENTILES, "max")},
            "errors": dict(self.errors),
            "reconnects": self.reconnects,
            "kills": self.kills,
            "generator_cpu": self.generator_cpu,
        }
        return {**asdict(self.point), "summary": summary, "rounds": self.rounds}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        return cls(Point.from_json(data), data["rounds"])


def group_results(results: Iterable[Result]) -> dict[str, list[Result]]:
    """By their group, both in order."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.point.group, []).append(result)
    return groups


def varied_dimensions(results: Sequence[Result]) -> list[str]:
    """What tells these points apart."""
    return [name for name in DIMENSIONS if len({getattr(result.point, name) for result in results}) > 1]


def describe_point(point: Point, dimensions: Iterable[str]) -> str:
    return ", ".join(words for name in dimensions if (words := point.describe(name)))


def describe_common(results: Sequence[Result]) -> str:
    """What all these points have in common."""
    varied = varied_dimensions(results)
    point = results[0].point
    hidden = [*varied, *(["kill_every"] if not any(r.point.kill_every for r in results) else [])]
    engine = f"engine {' '.join((point.engine, *point.engine_args))}"
    return ", ".join((engine, describe_point(point, [name for name in DIMENSIONS if name not in hidden])))


def merge_histograms(histograms: Iterable[Sequence[Sequence[float]]]) -> list[tuple[float, int]]:
    """(upper bound in seconds, count) of all together, in order."""
    counts: Counter[float] = Counter()
    for histogram in histograms:
        for bound, count in histogram:
            counts[bound] += int(count)
    return sorted(counts.items())


def percentile_curve(histogram: Sequence[tuple[float, int]]) -> tuple[list[float], list[float]]:
    """The quantile function as steps: from each x = 1 / (1 - quantile) on, the latency in seconds.

    The axis is HdrHistogram's: https://hdrhistogram.github.io/HdrHistogram/plotFiles.html
    """
    total = sum(count for _, count in histogram)
    inverse_tails: list[float] = []
    bounds: list[float] = []
    below = 0
    for bound, count in histogram:
        if count:
            inverse_tails.append(total / (total - below))
            bounds.append(bound)
            below += count
    if bounds:  # the slowest call of all is one in `total`
        inverse_tails.append(float(total))
        bounds.append(bounds[-1])
    return inverse_tails, bounds


@dataclass(frozen=True)
class Interval:
    """About a second of a round. `p99` is in seconds, NaN where no call was answered."""

    begin: float
    end: float
    calls: int
    errors: int
    p99: float

    @property
    def calls_per_second(self) -> float:
        return self.calls / (self.end - self.begin)

    @property
    def errors_per_second(self) -> float:
        return self.errors / (self.end - self.begin)


def timeline_intervals(timeline: Sequence[Mapping[str, Any]], duration: float) -> list[Interval]:
    """A timeline of `cohab bench`, of so many seconds, in intervals that are long enough for rates.

    The last calls are often answered just behind the end of a second: what is left there counts for the
    interval before it.
    """
    found: list[Interval] = []
    for number, entry in enumerate(timeline):
        begin = entry["at"]
        end = timeline[number + 1]["at"] if number + 1 < len(timeline) else max(duration, begin + 1e-3)
        p99 = math.nan if entry["p99"] is None else entry["p99"]
        if found and end - begin < SHORTEST_RATE:
            last = found.pop()
            found.append(
                replace(
                    last, end=end, calls=last.calls + entry["calls"], errors=last.errors + entry["errors"]
                )
            )
        else:
            found.append(Interval(begin, end, entry["calls"], entry["errors"], p99))
    return found


def notes(results: Iterable[Result]) -> list[str]:
    """What a reader has to know before believing the figures; one sentence each."""
    found = []
    for group, members in group_results(results).items():
        varied = varied_dimensions(members)
        for result in members:
            where = ", ".join(filter(None, (group, describe_point(result.point, varied)))) or "all"
            if not result.calls:
                found.append(f"{where}: not one call went well")
            if result.errors:
                kinds = ", ".join(f"{count:,} {name}" for name, count in result.errors.most_common())
                killed = f" after {format_count(result.kills, 'kill')}" if result.kills else ""
                found.append(f"{where}: errors{killed}: {kinds}")
            if result.reconnects:
                found.append(f"{where}: {format_count(result.reconnects, 'connection')} had to be made anew")
            if not result.kept_up:
                found.append(
                    f"{where}: the server fell behind, at {result.throughput:,.0f} calls/s: "
                    "the longer the test, the longer the queue"
                )
            if result.generator_cpu > GENERATOR_BUSY:
                found.append(
                    f"{where}: the load generator used {result.generator_cpu:.0%} of a core "
                    "and may be the limit"
                )
    return found
