"""Fixtures: a private directory, servers that are torn down and looked over, a limit for each test."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Callable

import pytest
from harness import COHAB, COHABD, Gate, Server

DEFAULT_LIMIT = 60.0

StartServer = Callable[..., Server]
MakeServer = Callable[[], Server]


def pytest_configure() -> None:
    for program in (COHABD, COHAB):
        if not program.exists():
            raise pytest.UsageError(f"{program} does not exist: build first, or set COHAB_BUILD_DIR")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends the run does not end its servers


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.stash[FAILED] = True


FAILED = pytest.StashKey[bool]()


class Hung(BaseException):
    """The test's time is over. No Exception: nothing in a test may mistake it for an error of a call."""


@pytest.fixture(autouse=True)
def limit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Ends a test that hangs."""
    marker = request.node.get_closest_marker("limit")
    seconds = float(marker.args[0]) if marker else DEFAULT_LIMIT

    def on_alarm(number: int, frame: FrameType | None) -> None:
        raise Hung(f"the test has not ended within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A private directory with a short name; it is kept when the test fails."""
    path = Path(tempfile.mkdtemp(prefix="cohab-sys-", dir="/tmp"))
    yield path
    if request.node.stash.get(FAILED, False):
        print(f"kept: {path}", file=sys.stderr)
    else:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def make_server(request: pytest.FixtureRequest, directory: Path) -> Iterator[MakeServer]:
    """make_server(): a server that is not yet started. Each has a directory of its own."""
    servers: list[Server] = []

    def make() -> Server:
        place = directory / f"{len(servers)}"
        place.mkdir()
        servers.append(Server(place))
        return servers[-1]

    yield make
    complaints = [complaint for server in servers for complaint in server.tear_down()]
    if complaints or request.node.stash.get(FAILED, False):
        request.node.stash[FAILED] = True
        for server in servers:
            print(f"---- {server.log_path}\n{server.log()}", file=sys.stderr)
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)


@pytest.fixture
def start(make_server: MakeServer) -> StartServer:
    """start(engine, *options, args=, workers=): a server that serves."""

    def start_server(engine: str = "echo", *options: str, **how: Any) -> Server:
        return make_server().start(engine, *options, **how)

    return start_server


@pytest.fixture
def gate(directory: Path) -> Gate:
    return Gate(directory / "gate")
