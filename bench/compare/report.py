"""The results for people: on the terminal, and as Markdown that is ready to be pasted."""

from __future__ import annotations

from collections.abc import Mapping

from demo import Screen

from .bench import Result, Scenario
from .figures import Check
from .tables import Table

TARGETS = ["", "target", "measured", "rounds", "verdict"]


def targets_table(checks: list[Check]) -> Table:
    table = Table(TARGETS)
    for check in checks:
        measured = check.measured
        extremes = f"{measured.low:.3g} to {measured.high:.3g}"
        table.rows.append(
            [check.what, check.target, f"{measured.median:.3f} {check.unit}", extremes, check.verdict]
        )
    return table


def show_scenario(screen: Screen, scenario: Scenario, result: Result) -> None:
    screen.line()
    screen.line(screen.bold(f"{scenario.title}  ({scenario.name})"))
    if any(result.rounds.values()):
        for line in result.table().text():
            screen.line(line)
    for name, reason in result.skipped.items():
        screen.line(f"skipped: {name}: {reason}")
    for check in result.checks:
        show_check(screen, check)


def show_check(screen: Screen, check: Check) -> None:
    verdict = screen.green(check.verdict) if check.met else screen.red(check.verdict)
    screen.line(f"{check.what}: {check.measured} {check.unit}, target {check.target}: {verdict}")


def show_targets(screen: Screen, checks: list[Check]) -> None:
    screen.line()
    screen.line(screen.bold(f"Targets: {sum(check.met for check in checks)} of {len(checks)} met"))
    header, rule, *rows = targets_table(checks).text()
    screen.line(header)
    screen.line(rule)
    for row, check in zip(rows, checks):
        screen.line(row if check.met else screen.red(row))


def markdown(
    results: Mapping[Scenario, Result], machine: Mapping[str, str], versions: Mapping[str, str]
) -> str:
    lines = [
        f"Measured on {machine['date']}: {machine['cores']} cores of {machine['cpu']}, {machine['memory']}, "
        f"Linux {machine['kernel']}, transparent huge pages: {machine['huge pages']}, "
        f"{machine['rounds']} rounds; load average before the run {machine['load before']}.",
        "",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    checks = [check for result in results.values() for check in result.checks]
    if checks:
        met = sum(check.met for check in checks)
        lines += ["", f"### Targets: {met} of {len(checks)} met", "", *targets_table(checks).markdown()]
    for scenario, result in results.items():
        lines += ["", f"### {scenario.title}", "", scenario.method, ""]
        lines += result.table().markdown() if any(result.rounds.values()) else ["Not measured."]
        if result.skipped:
            lines += ["", "Skipped: " + "; ".join(f"{n} ({why})" for n, why in result.skipped.items()) + "."]
    return "\n".join(lines) + "\n"


def as_json(results: Mapping[Scenario, Result]) -> dict[str, object]:
    return {
        scenario.name: {
            "title": scenario.title,
            "rounds": result.rounds,
            "skipped": result.skipped,
            "checks": [
                {
                    "what": check.what,
                    "measured": vars(check.measured),
                    "target": check.target,
                    "met": check.met,
                    "unit": check.unit,
                }
                for check in result.checks
            ],
        }
        for scenario, result in results.items()
    }
