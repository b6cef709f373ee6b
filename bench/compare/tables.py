"""PURE. Tables for people, aligned for a terminal and as Markdown, and figures with units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

MISSING = "-"


def duration(seconds: float) -> str:
    """Three digits at least, rounded to nearest: 9.12 us, 45.0 us, 7.02 ms, 1.20 s."""
    for unit, size in (("us", 1e-6), ("ms", 1e-3)):
        if seconds < 999.5 * size:
            return f"{_digits(seconds / size)} {unit}"
    return f"{_digits(seconds)} s"


def rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 100 else f"{per_second:.1f}/s"


def mebibytes(per_second: float) -> str:
    return f"{per_second / 2**20:,.0f} MiB/s"


def count(number: float) -> str:
    return f"{number:,.0f}"


def percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def times(factor: float) -> str:
    return f"{factor:.2f} x" if factor < 100 else f"{factor:,.0f} x"


def size(number: float) -> str:
    return f"{number / 2**20:,.1f} MiB"


def _digits(value: float) -> str:
    return f"{value:.2f}" if value < 9.995 else f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


@dataclass(frozen=True)
class Column:
    heading: str
    key: str  # of the figures
    show: Callable[[float], str]


@dataclass
class Table:
    """The first column holds names, all others figures."""

    header: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)

    def text(self) -> list[str]:
        """Lines, first column to the left, figures to the right."""
        widths = [max(map(len, column)) for column in zip(self.header, *self.rows)]
        lines = [self._line(row, widths) for row in (self.header, *self.rows)]
        return [lines[0], "-" * len(lines[0]), *lines[1:]]

    def markdown(self) -> list[str]:
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        return [f"| {' | '.join(row)} |" for row in (self.header, rule, *self.rows)]

    @staticmethod
    def _line(row: Sequence[str], widths: Sequence[int]) -> str:
        first, *rest = zip(row, widths)
        return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)])
