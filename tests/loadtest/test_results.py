"""The figures that are told of what was measured."""

from __future__ import annotations

import json
import math

import pytest
from loadtest.results import (
    Result,
    describe_common,
    group_results,
    merge_histograms,
    notes,
    percentile_curve,
    timeline_intervals,
    varied_dimensions,
)
from rounds import make_result, make_round


def test_medians_of_the_rounds_and_the_highest_of_all() -> None:
    result = make_result(
        make_round(100, latency=0.001), make_round(140, latency=0.009), make_round(120, latency=0.002)
    )
    assert result.throughput == 120
    assert result.spread == pytest.approx(40 / 120)
    assert result.latency("p99") == 0.002
    assert result.latency("max") == 0.009
    assert result.calls == 600


def test_a_round_without_an_answer_has_no_latency() -> None:
    assert make_result(make_round(0, latency=None, calls=0)).latency("p50") is None
    assert make_result(make_round(0, latency=None, calls=0), make_round(latency=0.5)).latency("p50") == 0.5
    assert make_result(make_round(0, latency=None, calls=0)).spread == 0


def test_errors_and_kills_are_added_up() -> None:
    result = make_result(
        make_round(errors={"A/B": 1, "C/D": 2}, kills=[0.5]), make_round(errors={"A/B": 3}, kills=[0.5, 1.0])
    )
    assert result.errors == {"A/B": 4, "C/D": 2}
    assert result.kills == 3


def test_kept_up_is_about_open_loops() -> None:
    assert make_result(make_round(10)).kept_up
    assert make_result(make_round(96), rate=100.0, arrivals="constant").kept_up
    assert not make_result(make_round(94), rate=100.0, arrivals="constant").kept_up


def test_few_random_arrivals_are_not_a_server_that_fell_behind() -> None:
    # In 4 s 400 calls, give or take 20: two standard deviations are 10 calls/s.
    assert make_result(make_round(86), rate=100.0, duration=4.0).kept_up
    assert not make_result(make_round(85), rate=100.0, duration=4.0).kept_up


def test_results_survive_json() -> None:
    result = make_result(make_round(errors={"A/B": 1}), workers=3, engine_args=("en",))
    again = Result.from_json(json.loads(json.dumps(result.to_json())))
    assert again == result
    assert again.to_json()["summary"]["calls_per_second"] == {"median": 100.0, "min": 100.0, "max": 100.0}


def test_groups_keep_their_order() -> None:
    one, other, third = make_result(group="b"), make_result(group="a"), make_result(group="b", workers=2)
    groups = group_results([one, other, third])
    assert list(groups.items()) == [("b", [one, third]), ("a", [other])]


def test_what_differs_and_what_does_not() -> None:
    results = [make_result(workers=w, connections=8, payload=64) for w in (1, 2)]
    assert varied_dimensions(results) == ["workers"]
    assert describe_common(results) == "engine echo, 8 connections, no work, 64 B, closed loop"
    results.append(make_result(workers=2, connections=8, payload=64, kill_every=1.0))
    assert varied_dimensions(results) == ["workers", "kill_every"]


def test_histograms_are_merged_in_order() -> None:
    assert merge_histograms([[[0.2, 1], [0.1, 2]], [[0.1, 3]]]) == [(0.1, 5), (0.2, 1)]


def test_percentile_curve() -> None:
    # 90 of 100 calls take up to 1 ms, 9 more up to 2 ms, the last one up to 5 ms.
    inverse_tails, seconds = percentile_curve([(0.001, 90), (0.002, 9), (0.003, 0), (0.005, 1)])
    assert inverse_tails == pytest.approx([1, 10, 100, 100])
    assert seconds == [0.001, 0.002, 0.005, 0.005]
    assert percentile_curve([]) == ([], [])


def test_what_is_left_behind_the_last_second_counts_for_it() -> None:
    timeline = [
        {"at": 0, "calls": 100, "errors": 0, "p99": 0.1},
        {"at": 1, "calls": 90, "errors": 2, "p99": None},
        {"at": 2, "calls": 10, "errors": 1, "p99": 0.3},
    ]
    first, last = timeline_intervals(timeline, 2.25)
    assert (first.begin, first.end, first.calls_per_second, first.p99) == (0, 1, 100, 0.1)
    assert (last.begin, last.end, last.calls_per_second) == (1, 2.25, 80)
    assert last.errors_per_second == 3 / 1.25
    assert math.isnan(last.p99)
    assert [interval.end for interval in timeline_intervals(timeline, 2.75)] == [1, 2, 2.75]
    assert [interval.end for interval in timeline_intervals(timeline[:1], 0.2)] == [0.2]
    assert timeline_intervals([], 1.0) == []


def test_notes_say_what_was_not_as_it_should_be() -> None:
    results = [
        make_result(workers=1),
        make_result(make_round(50), workers=2, rate=100.0),
        make_result(make_round(generator_cpu=0.97), workers=3),
        make_result(make_round(errors={"A/B": 7}, kills=[1.0]), workers=4, kill_every=1.0),
        make_result(make_round(0, latency=None, calls=0), workers=5),
    ]
    found = notes(results)
    assert len(found) == 4
    assert found[0].startswith("g, 2 workers, ")
    assert "fell behind, at 50 calls/s" in found[0]
    assert "97% of a core" in found[1]
    assert "errors after 1 kill: 7 A/B" in found[2]
    assert "not one call" in found[3]
    assert notes([make_result()]) == []
