"""Rounds as `cohab bench --json` and the load test leave them, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtest.results import Result
from loadtest.scenario import Point

ALL = ("min", "mean", "p50", "p90", "p99", "p99.9", "max")


def make_round(
    calls_per_second: float = 100.0,
    *,
    latency: float | None = 0.001,
    calls: int = 200,
    errors: dict[str, int] | None = None,
    kills: Sequence[float] = (),
    generator_cpu: float = 0.1,
) -> dict[str, Any]:
    """Two seconds, all calls of the same latency; None: not one call was answered."""
    second = {"calls": calls // 2, "errors": sum((errors or {}).values()) // 2}
    quantiles = {"p50": latency, "p99": latency, "max": latency}
    bench = {
        "version": 1,
        "duration": 2.0,
        "calls": calls,
        "calls_per_second": calls_per_second,
        "latency": dict.fromkeys(ALL, latency),
        "errors": errors or {},
        "reconnects": 0,
        "histogram": [] if latency is None else [[latency, calls]],
        "timeline": [{"at": 0.0, **second, **quantiles}, {"at": 1.0, **second, **quantiles}],
    }
    return {"bench": bench, "kills": list(kills), "generator_cpu": generator_cpu}


def make_result(*rounds: dict[str, Any], group: str = "g", **point: Any) -> Result:
    return Result(Point(group, **point), list(rounds) or [make_round()])
