"""The pictures of one group of points: which ones there are to draw, and each of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    StrMethodFormatter,
)

from .results import (
    Result,
    describe_common,
    describe_point,
    merge_histograms,
    percentile_curve,
    timeline_intervals,
    varied_dimensions,
)
from .style import (
    DPI,
    FAULT,
    MOST_SERIES,
    MOST_SERIES_IN_ORDER,
    MUTED,
    PANEL_HEIGHT,
    PERCENTILE_STYLES,
    new_figure,
    place_legend,
    series_style,
    set_count_axis,
    set_latency_axis,
)
from .units import format_count, format_size

DASHES = (0, (4, 4))

Lines = list[tuple[str, list[Result]]]


@dataclass
class Chart:
    """A picture, and the words that stand for it where it cannot be seen."""

    name: str
    title: str
    figure: Figure

    def save(self, directory: Path) -> list[Path]:
        paths = [directory / f"{self.name}.{kind}" for kind in ("png", "svg")]
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            self.figure.savefig(path, dpi=DPI, facecolor="white", metadata=metadata)
        return paths


def arrange(results: Sequence[Result], along: Sequence[str] = ()) -> list[tuple[str, Lines]]:
    """Panels with a name, and lines few enough to tell them apart; `along` are the dimensions of a line."""
    left = [name for name in varied_dimensions(results) if name not in along]
    lines = _split(results, left)
    if len(lines) <= MOST_SERIES:
        return [("", lines)]
    counts = {name: len({getattr(result.point, name) for result in results}) for name in left}
    within = max(left, key=lambda name: min(MOST_SERIES_IN_ORDER, counts[name]))
    panels = []
    for title, members in _split(results, [name for name in left if name != within]):
        lines = _split(members, [within])
        for at in range(0, len(lines), MOST_SERIES_IN_ORDER):
            panels.append((title, lines[at : at + MOST_SERIES_IN_ORDER]))
    return panels


def _split(results: Sequence[Result], dimensions: Sequence[str]) -> Lines:
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(describe_point(result.point, dimensions), []).append(result)
    return list(found.items())


def _subtitle(results: Sequence[Result]) -> str:
    rounds = len(results[0].rounds)
    return f"{describe_common(results)}; {format_count(rounds, 'round')} of {results[0].point.duration:g} s"


def _new_panels(
    title: str, results: Sequence[Result], along: Sequence[str] = ()
) -> tuple[Figure, list[tuple[Axes, Lines]]]:
    panels = arrange(results, along)
    names = [name for name, _ in panels]
    figure, grid = new_figure(title, _subtitle(results), names, PANEL_HEIGHT * len(panels))
    return figure, [(axes, lines) for axes, (_, lines) in zip(grid, panels, strict=True)]


# ---- distribution of latency


def draw_distribution(results: Sequence[Result]) -> Figure:
    figure, panels = _new_panels("Latency by percentile", results)
    bounds: list[float] = []
    longest = 1.0
    for axes, lines in panels:
        for number, (label, (result,)) in enumerate(lines):
            curve = percentile_curve(merge_histograms(one["bench"]["histogram"] for one in result.rounds))
            if not curve[0]:
                continue
            axes.step(*curve, where="post", color=series_style(number, len(lines))["color"], label=label)
            bounds += curve[1]
            longest = max(longest, curve[0][-1])
        axes.set_ylabel("latency (log scale)")
        if len(lines) > 1:
            place_legend(axes)
    _set_percentile_axis(axes, longest)
    set_latency_axis(axes, bounds)
    axes.set_xlabel("percentile of calls")
    return figure


def _set_percentile_axis(axes: Axes, longest: float) -> None:
    """x = 1 / (1 - quantile), logarithmic, labelled with percentiles."""
    labels = {1: "0", 2: "50 %", 10: "90 %", 100: "99 %", 1000: "99.9 %", 10**4: "99.99 %", 10**5: "99.999 %"}
    labels |= {10**6: "99.9999 %", 10**7: "99.99999 %"}
    axes.set_xscale("log")
    axes.set_xlim(1, max(10.0, longest * 1.1))
    axes.xaxis.set_major_locator(FixedLocator(list(labels)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: labels.get(round(value), "")))
    axes.xaxis.set_minor_locator(NullLocator())


# ---- throughput against workers, connections or payload


def draw_throughput(results: Sequence[Result], dimension: str, cores: int | None) -> Figure:
    figure, panels = _new_panels(f"Throughput against {dimension}", results, (dimension,))
    cores_label = format_count(cores or 0, "core")
    for axes, lines in panels:
        for number, (label, members) in enumerate(lines):
            _draw_throughputs(axes, members, dimension, label or "measured", series_style(number, len(lines)))
        axes.set_ylabel("calls per second")
        if dimension == "workers":
            axes.plot([], [], color=MUTED, linewidth=1, linestyle=DASHES, label="in proportion to the first")
            if cores and cores in range(*_reach(results, "workers")):
                axes.axvline(cores, color="black", linewidth=1.6, linestyle=":", label=cores_label, zorder=1)
        if len(lines) > 1 or dimension == "workers":
            place_legend(axes)
    _set_value_axis(axes, dimension, results)
    set_count_axis(axes, 1.5 * max(max(result.throughputs) for result in results))
    axes.set_xlabel({"payload": "payload (log scale)"}.get(dimension, dimension))
    return figure


def _reach(results: Sequence[Result], dimension: str) -> tuple[int, int]:
    values = [getattr(result.point, dimension) for result in results]
    return min(values), max(values) + 1


def _draw_throughputs(
    axes: Axes, members: Sequence[Result], dimension: str, label: str, style: dict[str, Any]
) -> None:
    """One line, with bars from the slowest to the fastest round."""
    members = sorted(members, key=lambda result: int(getattr(result.point, dimension)))
    x = [getattr(result.point, dimension) for result in members]
    y = [result.throughput for result in members]
    down = [result.throughput - min(result.throughputs) for result in members]
    up = [max(result.throughputs) - result.throughput for result in members]
    axes.plot(x, y, label=label, **style)
    axes.errorbar(x, y, yerr=[down, up], fmt="none", ecolor=style["color"], elinewidth=1.2, capsize=4)
    if dimension == "workers":
        workers = range(x[0], x[-1] + 1)  # all of them, as the axis may be logarithmic
        proportion = [y[0] * count / x[0] for count in workers]
        axes.plot(workers, proportion, color=style["color"], linewidth=1, linestyle=DASHES, zorder=1)


def _set_value_axis(axes: Axes, dimension: str, results: Sequence[Result]) -> None:
    values = sorted({getattr(result.point, dimension) for result in results})
    if values[0] > 0 and values[-1] / values[0] > 16:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_minor_formatter(NullFormatter())
    elif dimension == "payload":
        axes.set_xscale("symlog", base=2, linthresh=64)
    axes.xaxis.set_major_locator(FixedLocator(values))
    axes.xaxis.set_minor_locator(NullLocator())
    show = format_size if dimension == "payload" else str
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show(round(value))))


# ---- latency against offered load


def draw_load(results: Sequence[Result]) -> Figure:
    panels = _split(results, [name for name in varied_dimensions(results) if name != "rate"])
    names = [name for name, _ in panels]
    figure, grid = new_figure(
        "Latency against offered load", _subtitle(results), names, PANEL_HEIGHT * len(panels)
    )
    for axes, (_, members) in zip(grid, panels, strict=True):
        _draw_percentiles(axes, members)
        axes.set_ylabel("latency (log scale)")
        place_legend(axes)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlabel("offered load, calls per second")
    found = [result.latency(name) for result in results for name in PERCENTILE_STYLES]
    set_latency_axis(axes, [seconds for seconds in found if seconds])
    return figure


def _draw_percentiles(axes: Axes, results: Sequence[Result]) -> None:
    """Hollow marks where the server fell behind."""
    for percentile, style in PERCENTILE_STYLES.items():
        found = sorted(
            (r.point.rate or 0.0, seconds, r.kept_up) for r in results if (seconds := r.latency(percentile))
        )
        axes.plot([x for x, _, _ in found], [y for _, y, _ in found], label=percentile, **style)
        late = [(x, y) for x, y, kept_up in found if not kept_up]
        axes.plot([x for x, _ in late], [y for _, y in late], **style, markerfacecolor="white", linestyle="")
    if not all(result.kept_up for result in results):
        axes.plot([], [], "o", color=MUTED, markerfacecolor="white", label="fell behind")


# ---- the course of time, with kills


def draw_time(results: Sequence[Result], name: str) -> Figure:
    """Points that differ in their kills alone."""
    title = "Over time, while workers are killed"
    figure, panels = new_figure(title, _subtitle(results), [name, "", ""], 1.75 * PANEL_HEIGHT, share_y=False)
    for number, result in enumerate(results):
        colour = series_style(number, len(results))["color"]
        label = result.point.describe("kill_every")
        width = 2.0 if number else 4.5  # so that the first is still to be seen below the others
        for axes, values in zip(panels, _courses(result), strict=True):
            for edges, heights in values:
                axes.stairs(heights, edges, baseline=None, color=colour, linewidth=width, label=label)
                label = "_" + label.lstrip("_")
    _mark_kills(panels, results)
    panels[0].set_ylabel("calls per second")
    panels[1].set_ylabel("p99 latency\n(log scale)")
    panels[2].set_ylabel("errors per second")
    seen = [
        y for result in results for _, heights in _courses(result)[1] for y in heights if not math.isnan(y)
    ]
    set_latency_axis(panels[1], seen)
    set_count_axis(panels[0])
    set_count_axis(panels[2])
    panels[2].yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    panels[2].set_ylim(top=max(2.0, panels[2].get_ylim()[1]))
    for axes in panels:
        axes.grid(visible=False, axis="x")  # upright lines are kills here
    place_legend(panels[0])
    rounds = len(results[0].rounds)
    panels[2].set_xlabel("seconds measured" + (", one round after the other" if rounds > 1 else ""))
    return figure


Course = tuple[list[float], list[float]]


def _courses(result: Result) -> tuple[list[Course], list[Course], list[Course]]:
    """Calls per second, p99, errors per second: of each round the edges of its intervals and the values."""
    courses: tuple[list[Course], list[Course], list[Course]] = ([], [], [])
    before = 0.0
    for one in result.rounds:
        intervals = timeline_intervals(one["bench"]["timeline"], one["bench"]["duration"])
        edges = [before + interval.begin for interval in intervals]
        edges += [before + interval.end for interval in intervals[-1:]]
        courses[0].append((edges, [interval.calls_per_second for interval in intervals]))
        courses[1].append((edges, [interval.p99 for interval in intervals]))
        courses[2].append((edges, [interval.errors_per_second for interval in intervals]))
        before += one["bench"]["duration"]
    return courses


def _mark_kills(panels: Sequence[Axes], results: Sequence[Result]) -> None:
    label: str | None = "worker killed"
    for result in results:
        before = 0.0
        for number, one in enumerate(result.rounds):
            for axes in panels:
                if number:
                    axes.axvline(before, color=MUTED, linewidth=1, linestyle=":", zorder=0)
                for at in one["kills"]:
                    axes.axvline(before + at, color=FAULT, linewidth=1, alpha=0.7, zorder=0, label=label)
                    label = None
            before += one["bench"]["duration"]


# ---- all of a group


def draw_charts(group: str, results: Sequence[Result], cores: int | None) -> Iterator[Chart]:
    """Every picture that these points have the figures for."""
    prefix = re.sub(r"[^a-z0-9]+", "-", group.lower()).strip("-")
    prefix += "-" if prefix else ""
    answered = [result for result in results if result.calls]
    if not answered:
        return
    closed = [result for result in answered if result.point.rate is None]
    for dimension in ("workers", "connections", "payload"):
        several = [result for result in closed if getattr(result.point, dimension) is not None]
        if dimension in varied_dimensions(several):
            figure = draw_throughput(several, dimension, cores)
            yield Chart(f"{prefix}throughput-{dimension}", f"Throughput against {dimension}", figure)
    offered = [result for result in answered if result.point.rate is not None]
    if "rate" in varied_dimensions(offered):
        yield Chart(f"{prefix}load", "Latency against offered load", draw_load(offered))
    yield Chart(f"{prefix}distribution", "Latency by percentile", draw_distribution(answered))
    alike = _split(answered, [name for name in varied_dimensions(answered) if name != "kill_every"])
    killed = [(name, members) for name, members in alike if any(r.point.kill_every for r in members)]
    for number, (name, members) in enumerate(killed, start=1):
        suffix = f"-{number}" if len(killed) > 1 else ""
        title = f"Over time, while workers are killed{f': {name}' if name else ''}"
        yield Chart(f"{prefix}time{suffix}", title, draw_time(members, name))
