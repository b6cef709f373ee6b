"""PURE. A scenario: what its file may say, and the points that its lists multiply out to."""

from __future__ import annotations

import difflib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from .units import format_count, format_seconds, format_size, parse_size

T = TypeVar("T")

ECHO_PAYLOAD = 64  # bytes, where the scenario does not say


class ScenarioError(Exception):
    """The scenario is wrong; says where and what."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)


@dataclass(frozen=True)
class Work:
    """One kind of call: a method of the engine and its arguments, as `cohab call` reads them."""

    label: str
    method: str
    arguments: tuple[str, ...] = ()


NO_WORK = Work("no work", "echo")


@dataclass(frozen=True)
class Point:
    """One combination: a server, and the load that `cohab bench` puts on it. Times are in seconds."""

    group: str  # empty where the scenario has no groups
    engine: str = "echo"
    engine_args: tuple[str, ...] = ()
    server_options: tuple[str, ...] = ()
    workers: int = 1
    connections: int = 1
    payload: int | None = None  # bytes appended as the last argument; None: nothing is appended
    work: Work = NO_WORK
    rate: float | None = None  # calls per second; None: closed loop
    arrivals: str = "poisson"
    think: float = 0.0
    timeout: float = 10.0
    warmup: float = 0.5  # before the measured time
    duration: float = 5.0  # measured, in each round
    kill_every: float = 0.0  # 0: no kills

    def server(self) -> tuple[object, ...]:
        """Points with the same one are measured on one server."""
        return (self.engine, self.engine_args, self.server_options, self.workers)

    def seconds(self) -> float:
        """Of one round."""
        return self.warmup + self.duration

    def place(self) -> str:
        """Of the group in the file, for errors."""
        return f"group '{self.group}'" if self.group else ""

    def describe(self, dimension: str) -> str:
        """This point's value of one dimension, in words; empty where there is nothing to say."""
        return _WORDS[dimension](self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Point:
        known = {field.name: data[field.name] for field in fields(cls)}
        work = known["work"]
        known["work"] = Work(work["label"], work["method"], tuple(work["arguments"]))
        for name in ("engine_args", "server_options"):
            known[name] = tuple(known[name])
        return cls(**known)


# What can be a list, in the order in which it is told, slowest first when it is multiplied out.
_WORDS: dict[str, Callable[[Point], str]] = {
    "workers": lambda p: format_count(p.workers, "worker"),
    "connections": lambda p: format_count(p.connections, "connection"),
    "work": lambda p: p.work.label,
    "payload": lambda p: "" if p.payload is None else format_size(p.payload),
    "arrivals": lambda p: f"{p.arrivals} arrivals" if p.rate else "closed loop",
    "think": lambda p: f"think {format_seconds(p.think)}" if p.think else "",
    "kill_every": lambda p: f"a kill every {format_seconds(p.kill_every)}" if p.kill_every else "no kills",
    "rate": lambda p: f"{p.rate:,g} calls/s" if p.rate else "",
}
DIMENSIONS = tuple(_WORDS)


@dataclass(frozen=True)
class Scenario:
    title: str
    description: str
    rounds: int
    seed: int
    points: tuple[Point, ...]

    def shortened(self, rounds: int | None, duration: float | None) -> Scenario:
        points = tuple(replace(point, duration=duration or point.duration) for point in self.points)
        return replace(self, rounds=rounds or self.rounds, points=points)

    def seconds(self) -> float:
        """Least time that all rounds of all points take."""
        return self.rounds * sum(point.seconds() for point in self.points)


# ---- single values: each reads one TOML value or raises ValueError with what was expected


def _number(value: object, least: float, *, above: bool = False) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < least or (above and value == least):  # type: ignore[operator]
        raise ValueError(f"expected a number {'above' if above else 'from'} {least:g}")
    return float(value)  # type: ignore[arg-type]


def _whole(value: object, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected a whole number from {least}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("expected a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError("expected a list of texts")
    return tuple(value)


def _size(value: object) -> int:
    if isinstance(value, str):
        return parse_size(value)
    return _whole(value, 0)


def _arrivals(value: object) -> str:
    if value not in ("poisson", "constant"):
        raise ValueError('expected "poisson" or "constant"')
    return str(value)


def _work(value: object) -> Work:
    if value == "none":
        return NO_WORK
    if isinstance(value, dict) and set(value) in ({"sleep"}, {"spin"}):
        ((method, seconds),) = value.items()
        seconds = _number(seconds, 0, above=True)
        return Work(f"{method} {format_seconds(seconds)}", method, (f"{seconds:g}",))
    if isinstance(value, dict) and "method" in value and set(value) <= {"method", "arguments"}:
        method, arguments = _text(value["method"]), value.get("arguments", [])
        if not isinstance(arguments, list):
            raise ValueError("arguments: expected a list")
        words = tuple(json.dumps(argument, ensure_ascii=False) for argument in arguments)
        return Work(f"{method}({', '.join(words)})", method, words)
    raise ValueError(
        'expected "none", {sleep = SECONDS}, {spin = SECONDS} or {method = NAME, arguments = [...]}'
    )


# Keys of a group. Those in DIMENSIONS may also be lists of such values.
_POINT_KEYS: dict[str, Callable[[object], Any]] = {
    "engine": _text,
    "engine_args": _texts,
    "server_options": _texts,
    "workers": lambda value: _whole(value, 1),
    "connections": lambda value: _whole(value, 1),
    "payload": _size,
    "work": _work,
    "rate": lambda value: _number(value, 0, above=True),
    "arrivals": _arrivals,
    "think": lambda value: _number(value, 0),
    "timeout": lambda value: _number(value, 0, above=True),
    "warmup": lambda value: _number(value, 0),
    "duration": lambda value: _number(value, 0, above=True),
    "kill_every": lambda value: _number(value, 0),
}
_SCENARIO_KEYS: dict[str, tuple[Callable[[object], Any], object]] = {
    "title": (_text, ""),
    "description": (_text, ""),
    "rounds": (lambda value: _whole(value, 1), 3),
    "seed": (lambda value: _whole(value, 0), 1),
}


def _show(value: object) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read(where: str, read: Callable[[object], T], value: object) -> T:
    try:
        return read(value)
    except ValueError as error:
        raise ScenarioError(where, f"{error}, not {_show(value)}") from None


def _refuse_unknown(where: str, table: Mapping[str, object], known: Iterable[str]) -> None:
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; the keys are {', '.join(sorted(known))}"
            raise ScenarioError(where, f"unknown key '{key}'{hint}")


def _read_values(where: str, table: Mapping[str, object]) -> dict[str, list[Any]]:
    """Every key of a group that is there, with its values: one, or those of the list."""
    values: dict[str, list[Any]] = {}
    for key, value in table.items():
        if key not in _POINT_KEYS:
            continue
        place, read = f"{where}{key}", _POINT_KEYS[key]
        if key not in DIMENSIONS or not isinstance(value, list):
            values[key] = [_read(place, read, value)]
            continue
        values[key] = [_read(place, read, single) for single in value]
        if not values[key]:
            raise ScenarioError(place, "the list is empty")
        if len(set(values[key])) < len(values[key]):
            raise ScenarioError(place, f"a value stands twice in {_show(value)}")
    return values


def _complete(where: str, point: Point, values: Mapping[str, list[Any]]) -> Point:
    """Fill in the payload, and refuse what does not go together."""
    if point.work.method in ("sleep", "spin") and point.engine == "echo" and point.payload is not None:
        raise ScenarioError(
            f"{where}payload", f"{point.work.method} takes no payload: give those two in different groups"
        )
    if point.rate is None and "arrivals" in values:
        raise ScenarioError(f"{where}arrivals", "needs a rate: without one the loop is closed")
    if point.rate is not None and point.think:
        raise ScenarioError(f"{where}think", "is for a closed loop, not for one with a rate")
    if point.work == NO_WORK and point.payload is None:
        return replace(point, payload=ECHO_PAYLOAD)
    return point


def _read_group(where: str, name: str, values: Mapping[str, list[Any]]) -> list[Point]:
    order = [key for key in DIMENSIONS if key in values]
    order += [key for key in values if key not in DIMENSIONS]
    combinations = itertools.product(*(values[key] for key in order))
    return [
        _complete(where, Point(name, **dict(zip(order, one, strict=True))), values) for one in combinations
    ]


def read_scenario(table: Mapping[str, Any]) -> Scenario:
    """From the content of its TOML file. Raises ScenarioError."""
    _refuse_unknown("", table, (*_SCENARIO_KEYS, *_POINT_KEYS, "group"))
    head: dict[str, Any] = {
        key: _read(key, read, table[key]) if key in table else default
        for key, (read, default) in _SCENARIO_KEYS.items()
    }
    groups = table.get("group", [{}])
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        raise ScenarioError("group", "expected tables that begin with [[group]]")
    common = _read_values("", table)
    points: list[Point] = []
    names: set[str] = set()
    if "group" not in table:
        points += _read_group("", "", common)
        groups = []
    for number, group in enumerate(groups, start=1):
        where = f"group {number}: "
        _refuse_unknown(where.rstrip(": "), group, ("name", *_POINT_KEYS))
        name = _read(f"{where}name", _text, group.get("name", f"group {number}"))
        if name in names:
            raise ScenarioError(f"{where}name", f"'{name}' is the name of another group")
        names.add(name)
        points += _read_group(where, name, {**common, **_read_values(where, group)})
    return Scenario(**head, points=tuple(points))
