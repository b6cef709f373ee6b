"""Figures with units, aligned tables, and Markdown; and that a missed target is shown as missed."""

from __future__ import annotations

import pytest
from compare import report, tables
from compare.bench import Result, Scenario
from compare.figures import Check, Ratio
from compare.tables import Column, Table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00000912, "9.12 us"),
        (0.0000450, "45.0 us"),
        (0.000999, "999 us"),
        (0.0009996, "1.00 ms"),
        (0.00702, "7.02 ms"),
        (0.1, "100 ms"),
        (1.2, "1.20 s"),
        (120, "120 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert tables.duration(seconds) == text


def test_other_figures() -> None:
    assert tables.rate(12345.6) == "12,346/s"
    assert tables.rate(4.56) == "4.6/s"
    assert tables.mebibytes(3 * 2**20) == "3 MiB/s"
    assert tables.percent(0.0021) == "0.21 %"
    assert tables.times(28.625) == "28.62 x"


def test_columns_line_up() -> None:
    lines = Table(["", "p50"], [["cohab", "9.1 us"], ["a long name", "123 us"]]).text()
    assert lines == ["                p50", "-" * 19, "cohab        9.1 us", "a long name  123 us"]


def test_markdown_aligns_figures_to_the_right() -> None:
    assert Table(["", "p50"], [["cohab", "9 us"]]).markdown() == [
        "|  | p50 |",
        "| --- | ---: |",
        "| cohab | 9 us |",
    ]


def result() -> Result:
    found = Result(
        [Column("p50", "p50", tables.duration), Column("p99", "p99", tables.duration)], sort_by="p50"
    )
    found.against = ("cohab", "p50")
    found.rounds = {
        "slow": [{"p50": 0.004, "p99": 0.005, "calls": 99.0}],
        "cohab": [{"p50": 0.001, "p99": 0.002, "calls": 100.0}],
    }
    found.skipped = {"absent": "it is not installed"}
    found.checks = [Check("speed", Ratio(1.2, 1.0, 1.4), 1.15), Check("calm", Ratio(1.0, 1.0, 1.0), 3)]
    return found


def test_rows_are_sorted_compared_and_without_percentiles_of_a_few_calls() -> None:
    assert result().table().rows == [
        ["cohab", "1.00 ms", "2.00 ms", "1.00 x"],
        ["slow", "4.00 ms", "-", "4.00 x"],
    ]


def test_the_page_names_what_was_missed_and_who_was_skipped() -> None:
    scenario = Scenario("s", "A title", "How it is done.", lambda _: result())
    machine = dict.fromkeys(
        ["date", "cores", "cpu", "memory", "kernel", "huge pages", "rounds", "load before"], "?"
    )
    page = report.markdown({scenario: result()}, machine, {"cohab": "1.0"})
    assert "### Targets: 1 of 2 met" in page
    assert "| speed | at most 1.15 x | 1.200 x | 1 to 1.4 | MISSED |" in page
    assert "| calm | at most 3 x | 1.000 x | 1 to 1 | met |" in page
    assert "### A title\n\nHow it is done.\n\n|  | p50 | p99 | p50 / cohab's |" in page
    assert "Skipped: absent (it is not installed)." in page
