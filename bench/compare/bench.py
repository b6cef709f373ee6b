"""One run: who takes part, whose turn it is, what it came to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeVar

from demo import Screen

from .figures import Check, Figures, medians
from .peers import Load, Peer
from .tables import MISSING, Column, Table, times

CALLS_FOR_P99 = 100  # in a turn; the highest of fewer is not shown as a percentile

T = TypeVar("T")
Measure = Callable[[T, int], Figures]  # measures T once, in the round of that number


@dataclass
class Result:
    """What a scenario has found out."""

    columns: Sequence[Column]
    sort_by: str = ""  # key; empty: in the order of the turns
    against: tuple[str, str] = ("", "")  # a row and a key: adds a column that compares all rows with it
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    def has(self, *names: str) -> bool:
        return all(self.rounds.get(name) for name in names)

    def table(self) -> Table:
        rows = {name: medians(rounds) for name, rounds in self.rounds.items() if rounds}
        names = sorted(rows, key=lambda name: rows[name].get(self.sort_by, 0)) if self.sort_by else list(rows)
        other, key = self.against
        compared = other in rows
        table = Table(["", *(c.heading for c in self.columns), *([f"{key} / {other}'s"] if compared else [])])
        for name in names:
            figures = rows[name]
            cells = [self._cell(column, figures) for column in self.columns]
            ratio = [times(figures[key] / rows[other][key])] if compared else []
            table.rows.append([name, *cells, *ratio])
        return table

    @staticmethod
    def _cell(column: Column, figures: Figures) -> str:
        too_few = column.key == "p99" and figures.get("calls", CALLS_FOR_P99) < CALLS_FOR_P99
        return MISSING if too_few or column.key not in figures else column.show(figures[column.key])


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    method: str  # how it is measured, for the reader of the table
    run: Callable[[Bench], Result]


class Bench:
    """The options of the run, and the turns."""

    def __init__(self, screen: Screen, rounds: int, pace: float, wanted: Callable[[str], bool]) -> None:
        """`pace` scales how long everything is measured; `wanted` picks peers by name."""
        self.rounds = rounds
        self.pace = pace
        self._screen = screen
        self._wanted = wanted
        self._label = ""

    def begin(self, scenario: Scenario) -> None:
        self._label = scenario.name
        self._screen.progress(self._label, 0, 1)

    def progress(self, what: str, done: int, total: int) -> None:
        self._screen.progress(f"{self._label}  {what:<28}", done, total)

    def seconds(self, seconds: float) -> float:
        return seconds * self.pace

    def open_peers(
        self, peers: Iterable[Peer], load: Load, result: Result, stack: ExitStack
    ) -> dict[str, Peer]:
        """Those that can take the load, started, until the stack ends; the others are named in the result."""
        opened: dict[str, Peer] = {}
        for peer in peers:
            if not self._wanted(peer.name):
                continue
            reason = peer.unfit(load)
            if reason is None:
                stack.callback(peer.close)
                try:
                    peer.open(load)
                except Exception as error:  # whatever a peer may raise: it is named and left out
                    reason = failure(error)
            if reason is None:
                opened[peer.name] = peer
            else:
                result.skipped[peer.name] = reason
        return opened

    def warm_up(self, who: Mapping[str, T], measure: Measure[T], result: Result) -> None:
        """Everybody once, for nothing. Who fails is named in the result, and takes no turns."""
        for name, what in who.items():
            self._try(name, what, measure, 0, result)

    def take_turns(self, who: Mapping[str, T], measure: Measure[T], result: Result, slices: int = 1) -> None:
        """Everybody once a slice, each slice begun by another; a round's figures are its slices' medians.

        Who fails is named in the result, and has no figures.
        """
        names = list(who)
        total = self.rounds * slices * len(names)
        done = 0
        for round_number in range(self.rounds):
            taken: dict[str, list[Figures]] = {name: [] for name in names}
            for number in range(slices):
                shift = (round_number * slices + number) % max(1, len(names))
                for name in names[shift:] + names[:shift]:
                    done += 1
                    self.progress(name, done, total)
                    taken[name] += self._try(name, who[name], measure, round_number, result)
            for name in names:
                if taken[name]:
                    result.rounds.setdefault(name, []).append(medians(taken[name]))
        for name in result.skipped:
            result.rounds.pop(name, None)

    def _try(self, name: str, what: T, measure: Measure[T], number: int, result: Result) -> list[Figures]:
        """One turn, or nothing from who has failed."""
        if name in result.skipped:
            return []
        try:
            return [measure(what, number)]
        except Exception as error:  # whatever a peer may raise: it is named and left out
            result.skipped[name] = failure(error)
            return []


def failure(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"failed: {lines[0] if lines else type(error).__name__}"
