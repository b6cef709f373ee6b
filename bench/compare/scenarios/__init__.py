"""What is compared: one module for each kind, in the order in which they run."""

from __future__ import annotations

from ..bench import Scenario
from . import calls, crashes, dispatch, idle, large, master, memory, replacement, saturation, spell

ALL: list[Scenario] = [
    *calls.SCENARIOS,
    *large.SCENARIOS,
    *spell.SCENARIOS,
    *dispatch.SCENARIOS,
    *saturation.SCENARIOS,
    *idle.SCENARIOS,
    *master.SCENARIOS,
    *crashes.SCENARIOS,
    *replacement.SCENARIOS,
    *memory.SCENARIOS,
]
