"""Real work: Hunspell's suggestions, from python3-hunspell in-process and from cohab's engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cohab
import hunspell
from demo import DICTIONARY, DICTIONARY_PATH, LIMIT, THREADS, WORKERS, Ticker, misspelt_words

from ..bench import Bench, Result, Scenario
from ..figures import Figures, of_latencies
from ..processes import COHABD, engine
from ..tables import Column, duration, rate

WORDS = 48


def measure(suggest: Callable[[str], Any], words: Sequence[str]) -> Figures:
    def timed(word: str) -> float:
        begin = time.perf_counter()
        suggest(word)
        return time.perf_counter() - begin

    with ThreadPoolExecutor(THREADS) as threads, Ticker() as ticker:
        begin = time.perf_counter()
        latencies = list(threads.map(timed, words))
        elapsed = time.perf_counter() - begin
    return {**of_latencies(latencies, elapsed), "stall": ticker.longest}


def run(bench: Bench) -> Result:
    columns = [Column("p50", "p50", duration), Column("calls/s", "rate", rate)]
    result = Result([*columns, Column("longest stall", "stall", duration)])
    checker = hunspell.HunSpell(f"{DICTIONARY_PATH}.dic", f"{DICTIONARY_PATH}.aff")
    _, words = misspelt_words(checker, max(THREADS, int(WORDS * bench.pace)), seed=1)
    with cohab.Pool(engine("spell"), workers=WORKERS, args=[DICTIONARY], cohabd=str(COHABD)) as pool:
        ways: dict[str, Callable[[str], Any]] = {
            "python3-hunspell, in-process": checker.suggest,
            "cohab": lambda word: pool.call("suggest", word, LIMIT),
        }
        for suggest in ways.values():
            measure(suggest, words[:THREADS])  # warms up
        bench.take_turns(ways, lambda suggest, _: measure(suggest, words), result)
    return result


SCENARIOS = [
    Scenario(
        "spell",
        "Hunspell's suggest() of misspelt words",
        f"The same words on {THREADS} threads, {WORKERS} workers. The longest stall is that of a thread "
        "beside them that wants to run every millisecond.",
        run,
    )
]
