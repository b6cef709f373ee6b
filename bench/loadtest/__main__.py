"""scripts/loadtest: reads the scenario, has it measured, and writes and shows what came out."""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import cohab
import tomllib

from .charts import draw_charts
from .machine import ROOT, describe_machine
from .measure import run_scenario
from .report import Picture, build_report
from .results import Result, describe_common, group_results, notes
from .scenario import Scenario, ScenarioError, read_scenario
from .server import RunError, find_programs
from .tables import EXPLANATION, align_table, table_of
from .units import format_count, format_duration

SCENARIOS = ROOT / "bench" / "scenarios"
RESULTS = "results.json"
DOCUMENT_VERSION = 1
_FAILED, _BAD_SCENARIO, _INTERRUPTED = 1, 2, 130


class UsageError(Exception):
    """A file or directory that cannot be used; exit status 2."""


Number = TypeVar("Number", int, float)


def _above_0(kind: Callable[[str], Number], text: str) -> Number:
    try:
        value = kind(text)
    except ValueError:
        value = kind("0")
    if not 0 < value < math.inf:
        whole = " whole" if isinstance(value, int) else ""
        raise argparse.ArgumentTypeError(f"expected a{whole} number above 0, not '{text}'")
    return value


def ready_scenarios() -> str:
    return ", ".join(sorted(path.stem for path in SCENARIOS.glob("*.toml")))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="loadtest",
        description="Runs a scenario against servers of its own; writes figures, pictures and a report.",
        epilog=f"Ready scenarios, which need no path: {ready_scenarios()}. All about them: docs/loadtest.md.",
    )
    parser.add_argument(
        "file", metavar="SCENARIO", help="a scenario, or the results.json of a run, to draw it anew"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: build/loadtest/NAME-DATE-TIME")
    parser.add_argument(
        "--rounds", type=partial(_above_0, int), metavar="N", help="instead of the scenario's"
    )
    parser.add_argument(
        "--duration", type=partial(_above_0, float), metavar="S", help="instead of the scenario's"
    )
    parser.add_argument("--list", action="store_true", help="only show the points, and how long they take")
    return parser.parse_args(arguments)


def find_file(name: str) -> Path:
    ready = SCENARIOS / f"{name}.toml"
    return ready if "/" not in name and ready.exists() and not Path(name).exists() else Path(name)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        hint = "" if "/" in str(path) else f"; ready scenarios: {ready_scenarios()}"
        raise UsageError(f"{path}: {reason}{hint}") from None


def load_scenario(path: Path, text: str, options: argparse.Namespace) -> Scenario:
    try:
        return read_scenario(tomllib.loads(text)).shortened(options.rounds, options.duration)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None


def prepare_output(directory: Path) -> None:
    """Find out now, not after the measurement, whether it can be written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".probe"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UsageError(
            f"cannot write to {directory}: {error.strerror}; name another with --output"
        ) from None


def print_points(scenario: Scenario) -> None:
    results = [Result(point) for point in scenario.points]
    for name, members in group_results(results).items():
        print(f"{heading(name)}{format_count(len(members), 'point')}; {describe_common(members)}")
    print(describe_effort(scenario))


def describe_effort(scenario: Scenario) -> str:
    points = format_count(len(scenario.points), "point")
    return (
        f"{points}, {format_count(scenario.rounds, 'round')}: at least {format_duration(scenario.seconds())}"
    )


def heading(group: str) -> str:
    return f"{group}: " if group else ""


def print_tables(results: Sequence[Result]) -> None:
    for name, members in group_results(results).items():
        print(f"\n{heading(name)}{describe_common(members)}")
        print("\n".join(align_table(*table_of(members))))
    print("\n" + textwrap.fill(EXPLANATION, 100))
    for note in notes(results):
        print(f"note: {note}")


def write_outputs(directory: Path, document: dict[str, Any], results: Sequence[Result]) -> None:
    pictures = []
    for group, members in group_results(results).items():
        for chart in draw_charts(group, members, int(document["machine"]["cores"])):
            for path in chart.save(directory):
                if path.suffix == ".svg":
                    pictures.append(Picture(group, chart.title, path.read_bytes()))
    (directory / "report.html").write_text(build_report(document, results, pictures), encoding="utf-8")


def describe_changes(options: argparse.Namespace) -> str:
    """The options that had their way over the file."""
    given = (("--rounds", options.rounds), ("--duration", options.duration))
    return " ".join(f"{name} {value:g}" for name, value in given if value)


def measure(scenario: Scenario, path: Path, text: str, directory: Path, changes: str) -> int:
    """Runs it and writes everything, also when it ends early. Exit status."""
    results: list[Result] = []
    document = {
        "version": DOCUMENT_VERSION,
        "began": datetime.now().astimezone().isoformat(sep=" ", timespec="seconds"),
        "scenario": {
            "name": path.stem,
            "title": scenario.title or path.stem,
            "description": scenario.description,
            "text": text,
            "changes": changes,
            "rounds": scenario.rounds,
            "seed": scenario.seed,
        },
        "machine": describe_machine(find_programs()[0]),
        "complete": False,
    }
    status, failure = 0, ""
    print(describe_effort(scenario), flush=True)
    try:
        run_scenario(scenario, results)
        document["complete"] = True
    except KeyboardInterrupt:
        status, failure = _INTERRUPTED, "interrupted"
    except ScenarioError as error:
        status, failure = _BAD_SCENARIO, f"{path}: {error}"
    except (RunError, cohab.StartError) as error:
        status, failure = _FAILED, str(error)
    measured = [result for result in results if result.rounds]
    if measured:
        document["points"] = [result.to_json() for result in measured]
        (directory / RESULTS).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        print_tables(measured)
        write_outputs(directory, document, measured)
        print(f"\n{directory}/: report.html, {RESULTS}, pictures as PNG and SVG")
    if failure:
        sys.stdout.flush()
        print(f"loadtest: {failure}", file=sys.stderr)
    return status


def draw_anew(path: Path, text: str, directory: Path) -> None:
    try:
        document = json.loads(text)
        if document["version"] != DOCUMENT_VERSION:
            raise UsageError(f"{path}: results of version {document['version']}, not {DOCUMENT_VERSION}")
        results = [Result.from_json(point) for point in document["points"]]
        prepare_output(directory)
        print_tables(results)
        write_outputs(directory, document, results)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not the results of a load test: {error!r}") from None


def run(options: argparse.Namespace) -> int:
    path = find_file(options.file)
    text = read_text(path)
    try:
        if path.suffix == ".json":
            draw_anew(path, text, options.output or path.parent)
            return 0
        scenario = load_scenario(path, text, options)
        if options.list:
            print_points(scenario)
            return 0
        name = f"{path.stem}-{datetime.now():%Y%m%d-%H%M%S}"
        directory = options.output or ROOT / "build" / "loadtest" / name
        prepare_output(directory)
        status = measure(scenario, path, text, directory, describe_changes(options))
        if options.output is None:
            with suppress(OSError):
                directory.rmdir()  # which only an empty one lets happen
        return status
    except ScenarioError as error:
        raise UsageError(f"{path}: {error}") from None


def main() -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does: no server is left behind
    try:
        return run(parse_arguments(sys.argv[1:]))
    except UsageError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return _BAD_SCENARIO
    except (RunError, cohab.StartError) as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return _FAILED
    except OSError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
