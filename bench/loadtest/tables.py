"""PURE. The figures as tables: cells for the report, aligned lines for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .results import PERCENTILES, Result, varied_dimensions
from .scenario import Point
from .units import format_seconds, format_size

# Of what tells the points apart: column, and a cell that is shorter than Point.describe.
_COLUMNS: dict[str, tuple[str, Callable[[Point], str]]] = {
    "workers": ("workers", lambda p: str(p.workers)),
    "connections": ("connections", lambda p: str(p.connections)),
    "work": ("work", lambda p: p.work.label),
    "payload": ("payload", lambda p: "-" if p.payload is None else format_size(p.payload)),
    "arrivals": ("arrivals", lambda p: p.arrivals if p.rate else "closed loop"),
    "think": ("think", lambda p: format_seconds(p.think)),
    "kill_every": ("kill every", lambda p: format_seconds(p.kill_every) if p.kill_every else "-"),
    "rate": ("offered/s", lambda p: f"{p.rate:,g}" if p.rate else "-"),
}


def _cell(point: Point, dimension: str) -> str:
    return _COLUMNS[dimension][1](point)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1e3:,.3f}"


def table_of(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of one group."""
    varied = varied_dimensions(results)
    killed = any(result.point.kill_every for result in results)
    latencies = (*PERCENTILES, "max")
    header = [_COLUMNS[name][0] for name in varied]
    header += ["calls/s", "spread", *(f"{name} ms" for name in latencies), "errors"]
    header += ["kills"] if killed else []
    header += ["generator"]
    rows = []
    for result in results:
        row = [_cell(result.point, name) for name in varied]
        row += [f"{result.throughput:,.0f}", f"{result.spread:.0%}" if len(result.rounds) > 1 else "-"]
        row += [_milliseconds(result.latency(name)) for name in latencies]
        row += [f"{result.errors.total():,}", *([f"{result.kills:,}"] if killed else [])]
        rows.append([*row, f"{result.generator_cpu:.0%}"])
    return header, rows


def align_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with every column to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    ]


EXPLANATION = (
    "Medians of the rounds. max: of all rounds. spread: between the slowest and the fastest round. "
    "errors: of all rounds. generator: CPU that the load generator used, of one core."
)
