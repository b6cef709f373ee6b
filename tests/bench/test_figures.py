"""Percentiles, medians, ratios, and when a target counts as met."""

from __future__ import annotations

import pytest
from compare.figures import Check, Ratio, medians, of_latencies, percentile, ratio, spread


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.501, 51), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: float) -> None:
    assert percentile(range(1, 101), share) == expected


def test_percentile_of_one_and_of_none() -> None:
    assert percentile([7], 0.5) == percentile([7], 0.99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_figures_of_latencies_in_any_order() -> None:
    figures = of_latencies([0.003, 0.001, 0.002], seconds=0.5)
    assert figures == {"p50": 0.002, "p99": 0.003, "max": 0.003, "calls": 3.0, "rate": 6.0}


def test_medians_of_what_each_round_has() -> None:
    rounds = [{"a": 1.0, "b": 5.0}, {"a": 9.0}, {"a": 2.0}]
    assert medians(rounds) == {"a": 2.0, "b": 5.0}


def test_ratio_compares_round_by_round() -> None:
    """The medians' ratio would be 1; in every single round one was twice the other."""
    ours = [{"p50": value} for value in (2.0, 20.0, 200.0)]
    theirs = [{"p50": value} for value in (1.0, 10.0, 100.0)]
    assert ratio(ours, theirs, "p50") == Ratio(2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="no rounds"):
        ratio([], [], "p50")


def test_spread_in_units() -> None:
    assert spread([{"x": 1.0}, {"x": 3.0}, {"x": 2.0}], "x", scale=0.5) == Ratio(4.0, 2.0, 6.0)


@pytest.mark.parametrize(
    ("measured", "at_most", "met"),
    [(1.15, True, True), (1.1500001, True, False), (0.8, False, True), (0.7999999, False, False)],
)
def test_targets_are_judged_unrounded(measured: float, at_most: bool, met: bool) -> None:
    limit = 1.15 if at_most else 0.8
    check = Check("a thing", Ratio(measured, measured, measured), limit, at_most)
    assert check.met is met
    assert check.verdict == ("met" if met else "MISSED")
    assert check.target == ("at most 1.15 x" if at_most else "at least 0.8 x")
