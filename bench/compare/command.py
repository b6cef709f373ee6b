"""The command: options, one scenario after the other, tables and files."""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from demo import Screen

from . import machine, report
from .bench import Bench, Result, Scenario, failure
from .peers import PACKAGES, all_peers
from .processes import COHAB, COHABD, PROGRAMS
from .scenarios import ALL

QUICK_PACE = 0.25
QUICK_ROUNDS = 2


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="compare",
        description="Measures cohab beside what else there is: the same work, side by side, in turns.",
        epilog="--install, as the first option, installs the Debian packages of peers: redis-server, "
        "libcpp-httplib-dev.",
    )
    parser.add_argument("--rounds", type=positive, metavar="N", help="rounds of each scenario (5)")
    parser.add_argument(
        "--quick", action="store_true", help="two short rounds: shows that all works, and is no measurement"
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="SCENARIO", help="this one; can be repeated (all)"
    )
    parser.add_argument(
        "--peer",
        action="append",
        default=[],
        metavar="TEXT",
        help="of the peers only those with this in their names, and cohab and the raw sockets; "
        "can be repeated (all)",
    )
    parser.add_argument("--list", action="store_true", help="name scenarios and peers, and exit")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds to FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables to FILE")
    options = parser.parse_args()
    unknown = set(options.only) - {scenario.name for scenario in ALL}
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; see --list")
    for path in (options.json, options.markdown):
        if path and not path.resolve().parent.is_dir():
            parser.error(f"{path}: no such directory")
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def show_list() -> None:
    print("scenarios:")
    for scenario in ALL:
        print(f"  {scenario.name:<15}{scenario.title}")
    print("peers:")
    for peer in all_peers():
        print(f"  {peer.name}")


def wanted_peers(texts: list[str]) -> Callable[[str], bool]:
    always = ("cohab", "raw socket")
    return lambda name: not texts or any(text in name for text in [*always, *texts])


def prepare_environment() -> None:
    """For us and all that we start: no core dumps, and no proxy between us and 127.0.0.1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the servers are to end with us
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1"


def run_scenario(scenario: Scenario, bench: Bench, screen: Screen) -> Result:
    bench.begin(scenario)
    try:
        result = scenario.run(bench)
    except Exception as error:  # the others are measured all the same
        result = Result([], skipped={"all of it": failure(error)})
    report.show_scenario(screen, scenario, result)
    return result


def versions() -> dict[str, str]:
    found = {"cohab": machine.first_version([str(COHABD), "--version"])}
    found.update(machine.package_versions(PACKAGES))
    found["redis-server"] = machine.first_version(["redis-server", "--version"])
    found["cpp-httplib"] = machine.first_version(["pkg-config", "--modversion", "cpp-httplib"])
    return {name: version for name, version in found.items() if version}


def write_files(
    options: argparse.Namespace, results: dict[Scenario, Result], about: dict[str, str], used: dict[str, str]
) -> None:
    if options.json:
        whole = {"version": 1, "machine": about, "versions": used, "scenarios": report.as_json(results)}
        options.json.write_text(json.dumps(whole, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(report.markdown(results, about, used))


def main() -> None:
    options = parse_options()
    if options.list:
        show_list()
        return
    missing = [path for path in (COHABD, COHAB, PROGRAMS / "ping") if not path.exists()]
    if missing:
        sys.exit(f"compare: {missing[0]} does not exist: run scripts/build first, or set COHAB_BUILD_DIR")
    prepare_environment()
    screen = Screen()
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else 5)
    bench = Bench(screen, rounds, QUICK_PACE if options.quick else 1.0, wanted_peers(options.peer))
    about, used = machine.describe(), versions()
    about["rounds"] = str(rounds)
    begin = time.monotonic()
    screen.line(f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, {rounds} rounds, medians")
    wanted = [scenario for scenario in ALL if not options.only or scenario.name in options.only]
    results: dict[Scenario, Result] = {}
    ended = ""
    try:
        for scenario in wanted:
            results[scenario] = run_scenario(scenario, bench, screen)
    except KeyboardInterrupt:
        ended = f"interrupted: {len(results)} of {len(wanted)} scenarios were measured"
    checks = [check for result in results.values() for check in result.checks]
    if checks:
        report.show_targets(screen, checks)
    screen.line(f"{(time.monotonic() - begin) / 60:.1f} minutes")
    try:
        write_files(options, results, about, used)
    except OSError as error:
        sys.exit(f"compare: {error.filename}: {error.strerror}")
    if ended:
        sys.exit(f"compare: {ended}")
    if any("cohab" in name or name == "all of it" for result in results.values() for name in result.skipped):
        sys.exit(1)
