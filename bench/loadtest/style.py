"""How the pictures look: size, colours, axes. Colours are of Okabe and Ito, "Color Universal Design" (2008),
which people with any of the common kinds of colour blindness tell apart; markers say the same once more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, StrMethodFormatter

from .units import format_seconds

mpl.use("Agg")

WIDTH = 10.0  # inches: 1000 pixels
DPI = 100
PANEL_HEIGHT = 4.4

SERIES_COLOURS = ("#0072B2", "#CC79A7", "#009E73", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_SERIES = len(SERIES_COLOURS)
MOST_SERIES_IN_ORDER = 12
PERCENTILE_STYLES: dict[str, dict[str, Any]] = {  # in the order in which their lines lie
    "p99.9": {"color": "#00263D", "marker": "^"},
    "p99": {"color": "#0072B2", "marker": "s"},
    "p50": {"color": "#56B4E9", "marker": "o"},
}
FAULT = "#D55E00"  # kills and errors, everywhere
MUTED = "#6B6B6B"
GRID = "#DDDDDD"

mpl.rcParams.update(
    {
        "font.size": 12,
        "axes.titlesize": 12,
        "axes.labelsize": 12,
        "xtick.labelsize": 11,
        "ytick.labelsize": 11,
        "legend.fontsize": 11,
        "legend.title_fontsize": 11,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": MUTED,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "lines.linewidth": 2.0,
        "lines.markersize": 7.0,
        "svg.hashsalt": "cohab",  # the same figures give the same file
    }
)


def new_figure(
    title: str, subtitle: str, panels: Sequence[str], height: float, *, share_y: bool = True
) -> tuple[Figure, list[Axes]]:
    """A picture, `height` inches high below its title, of panels with these names one under the other."""
    total = height + 0.9
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.98 - 0.8 / total))
    figure = Figure(figsize=(WIDTH, total), dpi=DPI, layout=layout)
    figure.text(0.015, 1 - 0.16 / total, title, fontsize=15, fontweight="bold", va="top")
    figure.text(0.015, 1 - 0.5 / total, _shorten(subtitle, 130), fontsize=10.5, color=MUTED, va="top")
    grid = figure.subplots(len(panels), 1, squeeze=False, sharex=True, sharey=share_y)
    for axes, name in zip(grid[:, 0], panels, strict=True):
        axes.set_title(name, loc="left", fontweight="bold")
    return figure, list(grid[:, 0])


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def series_style(number: int, count: int) -> dict[str, Any]:
    """Of one among `count` lines: colours of their own, or, where they are too many, those of a scale."""
    if count <= MOST_SERIES:
        return {"color": SERIES_COLOURS[number], "marker": MARKERS[number]}
    return {
        "color": mpl.colormaps["viridis"](0.92 * number / (count - 1)),
        "marker": MARKERS[number % MOST_SERIES],
    }


def set_latency_axis(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic y axis of seconds that always has a few labels, however little the values differ."""
    axes.set_yscale("log")
    low, high = min(values) / 1.25, max(values) * 1.25
    middle = math.sqrt(low * high)
    low, high = min(low, middle / 2), max(high, middle * 2)  # so that noise does not fill the picture
    axes.set_ylim(low, high)
    decades = math.log10(high / low)
    subs: tuple[float, ...] = (1.0, 2.0, 5.0) if decades < 3 else (1.0, 3.0) if decades < 4 else (1.0,)
    if decades < 1:
        subs = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_seconds(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def set_count_axis(axes: Axes, most: float = math.inf) -> None:
    """From 0 to a little above what is drawn, or to `most`."""
    axes.set_ylim(0, min(1.03 * axes.get_ylim()[1], most))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def place_legend(axes: Axes) -> None:
    """To the right of the axes, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, alignment="left")
