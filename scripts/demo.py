"""The demo: the same misspelt words through Hunspell in-process and through cohab; then a worker is killed.

Run it by scripts/demo, which installs and builds what it needs. Exits with 1 if what it shows does not hold;
how fast things are is shown and not judged.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cohab
import hunspell

ROOT = Path(__file__).resolve().parent.parent
DICTIONARY = "en_US"
DICTIONARY_PATH = f"/usr/share/hunspell/{DICTIONARY}"
WORKERS = 2
THREADS = 4
ROUNDS = 3
TICK = 0.001
LIMIT = 100  # more suggestions than Hunspell makes: all of them
CRASH_WORDS = 400_000  # about a second of work in one call
CRASH_WAIT = 20.0

Suggest = Callable[[str], list[str]]


class Failure(Exception):
    """Something that the demo shows does not hold."""


class Screen:
    """Plain lines on stdout and, on a terminal, colours and one line that is drawn over."""

    def __init__(self) -> None:
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.colours = self.live and not os.environ.get("NO_COLOR")

    def paint(self, style: str, text: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colours else text

    def bold(self, text: str) -> str:
        return self.paint("1", text)

    def green(self, text: str) -> str:
        return self.paint("32", text)

    def red(self, text: str) -> str:
        return self.paint("31", text)

    def line(self, text: str = "") -> None:
        self.clear()
        print(text, flush=True)

    def clear(self) -> None:
        if self.live:
            print("\r\x1b[K", end="", flush=True)

    def progress(self, label: str, done: int, total: int) -> None:
        if self.live:
            width = 30
            bar = ("#" * (width * done // total)).ljust(width, ".")
            line = f"{label} [{bar}] {done}/{total}"
            print("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1], end="", flush=True)


class Ticker(threading.Thread):
    """Wants to run every millisecond, as a server's other requests do; keeps the longest gap in seconds."""

    def __init__(self) -> None:
        super().__init__(name="ticker")
        self.longest = 0.0
        self._stop_wanted = threading.Event()

    def run(self) -> None:
        last = time.perf_counter()
        while not self._stop_wanted.is_set():
            time.sleep(TICK)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now

    def __enter__(self) -> Ticker:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_wanted.set()
        self.join()


@dataclass
class Side:
    """One of the two ways to call Hunspell, and what was measured of it, round by round."""

    name: str
    suggest: Suggest
    rates: list[float] = field(default_factory=list)
    stalls: list[float] = field(default_factory=list)
    answers: list[list[str]] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def stall(self) -> float:
        return statistics.median(self.stalls)


def misspell(word: str, rng: random.Random) -> str:
    """One slip of the fingers: two letters swapped, one doubled, one left out, or a wrong one."""
    at = rng.randrange(len(word) - 1)
    before, one, two, after = word[:at], word[at], word[at + 1], word[at + 2 :]
    slips = (two + one, one + one + two, two, rng.choice("abcdefghijklmnopqrstuvwxyz") + two)
    return before + rng.choice(slips) + after


def misspelt_words(checker: Any, count: int, seed: int) -> tuple[list[str], list[str]]:
    """The dictionary's words (lower-case, 6 to 14 letters), and `count` misspelt ones made of them."""
    with open(f"{DICTIONARY_PATH}.dic", encoding="utf-8") as lines:
        words = [line.split("/")[0].strip() for line in lines]
    words = [
        word
        for word in words
        if word.isascii() and word.isalpha() and word.islower() and 6 <= len(word) <= 14
    ]
    rng = random.Random(seed)
    misspelt: list[str] = []
    while len(misspelt) < count:
        word = misspell(rng.choice(words), rng)
        if not checker.spell(word):
            misspelt.append(word)
    return words, misspelt


def run_round(side: Side, words: Sequence[str], number: int, screen: Screen) -> None:
    """Every word once, on THREADS threads, beside a ticking one."""
    answers: list[list[str]] = []
    label = f"round {number} of {ROUNDS}  {side.name:<10}"
    with ThreadPoolExecutor(THREADS) as threads, Ticker() as ticker:
        start = time.perf_counter()
        for answer in threads.map(side.suggest, words):
            answers.append(answer)
            screen.progress(label, len(answers), len(words))
        seconds = time.perf_counter() - start
    side.rates.append(len(words) / seconds)
    side.stalls.append(ticker.longest)
    side.answers = answers
    screen.line(f"{label} {side.rates[-1]:6.1f} calls/s   longest stall {side.stalls[-1] * 1000:6.1f} ms")


def compare_answers(words: Sequence[str], one: Side, other: Side) -> None:
    for word, a, b in zip(words, one.answers, other.answers):
        if a != b:
            raise Failure(f"suggestions for {word!r} differ: {one.name} {a}, {other.name} {b}")


def show_table(one: Side, other: Side, words: Sequence[str], screen: Screen) -> None:
    screen.line()
    screen.line(screen.bold(f"{'medians of ' + str(ROUNDS):<32}{'calls/s':>10}{'longest stall':>18}"))
    for side, detail in ((one, "python3-hunspell"), (other, f"{WORKERS} workers")):
        screen.line(f"{side.name + ', ' + detail:<32}{side.rate:>10.1f}{side.stall * 1000:>15.1f} ms")
    faster, calmer = f"x {other.rate / one.rate:.2f}", f"1/{one.stall / other.stall:.0f}"
    screen.line(
        f"{'cohab against in-process':<32}{screen.green(f'{faster:>10}')}{screen.green(f'{calmer:>18}')}"
    )
    screen.line(f"the same suggestions from both: {len(words)} of {len(words)} words")


def find_busy_worker(pool: cohab.Pool, method: str) -> int:
    """The pid of the worker that runs `method`, from `cohab status --json`."""
    tool = Path(os.environ.get("COHABD", ROOT / "build" / "cohabd")).with_name("cohab")
    command = [str(tool), "--socket", pool.path, "status", "--json"]
    end = time.monotonic() + CRASH_WAIT
    while time.monotonic() < end:
        status = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for worker in status["workers"]:
            if worker.get("method") == method:
                return int(worker["pid"])
    raise Failure(f"no worker was seen running {method} within {CRASH_WAIT:g} s")


class Bystanders:
    """Threads that go on calling while a worker is killed, and count what becomes of their calls."""

    def __init__(self, suggest: Suggest, words: Sequence[str], count: int) -> None:
        self.answered = 0
        self.failed: list[Exception] = []
        self._suggest = suggest
        self._words = words
        self._lock = threading.Lock()
        self._stop_wanted = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(count)]

    def _run(self, at: int) -> None:
        while not self._stop_wanted.is_set():
            try:
                self._suggest(self._words[at % len(self._words)])
            except Exception as error:
                with self._lock:
                    self.failed.append(error)
            else:
                with self._lock:
                    self.answered += 1
            at += len(self._threads)

    def __enter__(self) -> Bystanders:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_wanted.set()
        for thread in self._threads:
            thread.join()


def kill_a_worker(
    pool: cohab.Pool, words: Sequence[str], misspelt: Sequence[str], screen: Screen
) -> dict[str, Any]:
    """One worker dies in mid-call: that call fails and says why, no other does, and the next one works."""
    screen.line()
    screen.line(screen.bold("A worker is killed in mid-call"))
    victim_words = [words[i % len(words)] for i in range(CRASH_WORDS)]
    with (
        ThreadPoolExecutor(1) as thread,
        Bystanders(lambda w: pool.call("suggest", w), misspelt, THREADS - 1) as others,
    ):
        # By itself the client would try again: check_all() may be called twice.
        call = thread.submit(pool.call, "check_all", victim_words, retries=0)
        pid = find_busy_worker(pool, "check_all")
        screen.line(f"check_all() of {CRASH_WORDS:,} words runs in worker {pid}: kill -SEGV {pid}")
        os.kill(pid, signal.SIGSEGV)
        error = call.exception(timeout=CRASH_WAIT)
        if error is None:
            raise Failure("the killed call returned a result")
        if not isinstance(error, cohab.EngineCrashed):
            raise Failure(f"the killed call failed with {error!r}, not with EngineCrashed")
        screen.line(f"that call       {screen.red(type(error).__name__)}: {str(error).splitlines()[0]}")
        for frame in error.frames[:3]:
            screen.line(f"                  {frame}")
        screen.line(f"                  the rest: cohab crash show {error.report}")
        next_word = misspelt[0]
        next_answer = pool.call("suggest", next_word)
        screen.line(f"the next call   suggest({next_word!r}) -> {next_answer[:3]}")
    if others.failed:
        raise Failure(f"{len(others.failed)} other calls failed too, the first with {others.failed[0]!r}")
    screen.line(f"other threads   {others.answered} calls meanwhile, {len(others.failed)} failed")
    return {
        "error": type(error).__name__,
        "message": str(error),
        "other_calls": others.answered,
        "other_failures": 0,
    }


def figures(sides: Sequence[Side], crash: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    one, other = sides
    measured = {s.name: {"calls_per_s": s.rates, "longest_stall_s": s.stalls} for s in sides}
    return {
        "words": options.words,
        "seed": options.seed,
        "threads": THREADS,
        "workers": WORKERS,
        "cores": os.cpu_count(),
        "sides": measured,
        "speed_ratio": other.rate / one.rate,
        "stall_ratio": other.stall / one.stall,
        "crash": crash,
    }


def show(options: argparse.Namespace, screen: Screen) -> dict[str, Any]:
    # One object for all threads: each of its methods holds the GIL to its end, so that is safe; and it is as
    # fast as one for each thread.
    checker = hunspell.HunSpell(f"{DICTIONARY_PATH}.dic", f"{DICTIONARY_PATH}.aff")
    words, misspelt = misspelt_words(checker, options.words, options.seed)
    with cohab.Pool("spell", workers=WORKERS, args=[DICTIONARY]) as pool:
        sides = [
            Side("in-process", checker.suggest),
            Side("cohab", lambda word: list(pool.call("suggest", word, LIMIT))),
        ]
        screen.line(
            screen.bold(f"{len(misspelt)} misspelt words of {DICTIONARY}")
            + f" through suggest() on {THREADS} threads, {os.cpu_count()} cores, beside a thread that ticks"
        )
        for side in sides:
            for word in misspelt[:THREADS]:
                side.suggest(word)
        for number in range(1, ROUNDS + 1):
            for side in sides:
                run_round(side, misspelt, number, screen)
            compare_answers(misspelt, *sides)
        show_table(sides[0], sides[1], misspelt, screen)
        crash = kill_a_worker(pool, words, misspelt, screen)
    return figures(sides, crash, options)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="demo", description="Hunspell in-process and through cohab, side by side."
    )
    parser.add_argument(
        "--words", type=int, default=160, help="how many misspelt words a round (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the misspellings (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    screen = Screen()
    try:
        measured = show(options, screen)
    except (Failure, cohab.Error) as error:
        screen.clear()
        print(f"demo: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(json.dumps(measured, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
