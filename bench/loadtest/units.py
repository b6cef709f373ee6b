"""PURE. How sizes, times and counts are read and written."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+)([KMG]?)")
_FACTORS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes, from a number with K, M or G behind it, as cohabd reads sizes. Raises ValueError."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"'{text}' is not a size such as 64, 4K or 1M")
    return int(match[1]) * _FACTORS[match[2]]


def format_size(size: int) -> str:
    for unit in "GMK":
        if size and size % _FACTORS[unit] == 0:
            return f"{size // _FACTORS[unit]} {unit}iB"
    return f"{size} B"


def format_seconds(seconds: float) -> str:
    """With the unit that makes it readable: 250 µs, 5 ms, 1.5 s."""
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        if 0 < seconds * factor < 1000:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:g} s"


def format_duration(seconds: float) -> str:
    """Whole seconds, with minutes where there are some: 45 s, 2 min 5 s."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
