"""What a scenario file may say, what it multiplies out to, and how it is refused."""

from __future__ import annotations

import re

import pytest
import tomllib
from loadtest.scenario import NO_WORK, Point, ScenarioError, Work, read_scenario


def points(text: str) -> tuple[Point, ...]:
    return read_scenario(tomllib.loads(text)).points


def test_an_empty_file_is_one_small_call() -> None:
    scenario = read_scenario({})
    assert scenario.points == (Point("", payload=64),)
    assert scenario.rounds == 3


def test_lists_are_multiplied_out_with_workers_slowest() -> None:
    found = points("connections = [1, 8]\nworkers = [4, 2]\nrate = [10, 20]")
    assert [(p.workers, p.connections, p.rate) for p in found] == [
        (4, 1, 10), (4, 1, 20), (4, 8, 10), (4, 8, 20), (2, 1, 10), (2, 1, 20), (2, 8, 10), (2, 8, 20),
    ]  # fmt: skip


def test_a_group_takes_what_it_does_not_say_from_the_top() -> None:
    one, other = points('workers = 3\nduration = 1\n[[group]]\nname = "a"\n[[group]]\nworkers = 5')
    assert (one.group, one.workers, one.duration) == ("a", 3, 1)
    assert (other.group, other.workers, other.duration) == ("group 2", 5, 1)


def test_kinds_of_work() -> None:
    found = points(
        'work = ["none", {sleep = 0.005}, {spin = 0.0005}, {method = "add", arguments = ["12", 3, [1.5]]}]'
    )
    assert [p.work for p in found] == [
        NO_WORK,
        Work("sleep 5 ms", "sleep", ("0.005",)),
        Work("spin 500 µs", "spin", ("0.0005",)),
        Work('add("12", 3, [1.5])', "add", ('"12"', "3", "[1.5]")),
    ]


def test_only_a_plain_echo_gets_a_payload_by_itself() -> None:
    assert [p.payload for p in points('work = ["none", {sleep = 1}, {method = "m"}]')] == [64, None, None]


def test_sizes() -> None:
    assert [p.payload for p in points('payload = [0, "10", "4K", "2M"]')] == [0, 10, 4096, 2 << 20]


def test_shortened_changes_every_point() -> None:
    scenario = read_scenario({"workers": [1, 2]}).shortened(1, 0.25)
    assert scenario.rounds == 1
    assert [p.duration for p in scenario.points] == [0.25, 0.25]
    assert scenario.seconds() == 2 * (0.5 + 0.25)


def test_a_point_survives_json() -> None:
    for point in points('engine_args = ["en"]\nwork = {method = "m", arguments = [1]}\nrate = 5'):
        data = {**vars(point), "work": vars(point.work), "engine_args": ["en"], "something": "new"}
        assert Point.from_json(data) == point


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("worker = 1", "unknown key 'worker'; did you mean 'workers'?"),
        ("xyz = 1", "unknown key 'xyz'; the keys are arrivals, "),
        ("[[group]]\nround = 1", "group 1: unknown key 'round'"),
        ("workers = 0", "workers: expected a whole number from 1, not 0"),
        ("workers = true", "workers: expected a whole number from 1, not true"),
        ("workers = 1.5", "workers: expected a whole number from 1, not 1.5"),
        ("workers = []", "workers: the list is empty"),
        ("workers = [2, 2]", "workers: a value stands twice in [2, 2]"),
        ('rate = "fast"', 'rate: expected a number above 0, not "fast"'),
        ("rate = inf", "rate: expected a number above 0, not Infinity"),
        ("rate = 0", "rate: expected a number above 0, not 0"),
        ("duration = [1, 2]", "duration: expected a number above 0, not [1, 2]"),
        ("kill_every = -1", "kill_every: expected a number from 0, not -1"),
        ('payload = "4X"', "payload: '4X' is not a size such as 64, 4K or 1M"),
        ("payload = -1", "payload: expected a whole number from 0, not -1"),
        ('work = "sleep"', "work: expected \"none\", {sleep = SECONDS}"),
        ("work = {sleep = -1}", "work: expected a number above 0, not {\"sleep\": -1}"),
        ("work = {sleep = 1, spin = 1}", "work: expected"),
        ('work = {method = "m", argument = []}', "work: expected"),
        ('work = {method = "m", arguments = 1}', "work: arguments: expected a list"),
        ('rate = 1\narrivals = "random"', 'arrivals: expected "poisson" or "constant", not "random"'),
        ('arrivals = "poisson"', "arrivals: needs a rate"),
        ("rate = 1\nthink = 1", "think: is for a closed loop"),
        ("work = {spin = 1}\npayload = 1", "payload: spin takes no payload"),
        ("title = 1", "title: expected a text, not 1"),
        ("engine_args = [1]", "engine_args: expected a list of texts, not [1]"),
        ("rounds = 0", "rounds: expected a whole number from 1, not 0"),
        ("group = 1", "group: expected tables that begin with [[group]]"),
        ("[[group]]\nworkers = -1", "group 1: workers: expected"),
        ('[[group]]\nname = "a"\n[[group]]\nname = "a"', "group 2: name: 'a' is the name of another group"),
    ],
)  # fmt: skip
def test_refused_with_its_key(text: str, error: str) -> None:
    with pytest.raises(ScenarioError, match=f"^{re.escape(error)}"):
        read_scenario(tomllib.loads(text))


def test_describes_its_values() -> None:
    (point,) = points("workers = 1\nconnections = 2000\npayload = 1024\nrate = 1500\nkill_every = 0.5")
    assert point.describe("workers") == "1 worker"
    assert point.describe("connections") == "2,000 connections"
    assert point.describe("payload") == "1 KiB"
    assert point.describe("rate") == "1,500 calls/s"
    assert point.describe("kill_every") == "a kill every 500 ms"
    assert point.describe("think") == ""
