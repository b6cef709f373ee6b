"""A request whose worker died is sent again where the server says that this is safe."""

from __future__ import annotations

from time import monotonic_ns
from typing import Any

import pytest

import cohab
from conftest import Connect, StartServer
from fakes import Request, ServerConnection, error_map

CRASHED = error_map("INTERNAL", "ENGINE_CRASHED", executed=True, retry=True)
LOST = error_map("UNAVAILABLE", "WORKER_LOST", retry=True)


class Script:
    """Answers the n-th request with the n-th error; when there are no more, with how many requests came."""

    def __init__(self, *errors: dict[str, Any]) -> None:
        self.errors = list(errors)
        self.requests: list[Request] = []

    def __call__(self, connection: ServerConnection) -> None:
        while (request := connection.request()) is not None:
            self.requests.append(request)
            error = self.errors.pop(0) if self.errors else None
            connection.send_frame([1, request.msgid, error, None if error else len(self.requests)])


@pytest.mark.parametrize("error", [CRASHED, LOST])
def test_retried_once(start_server: StartServer, connect: Connect, error: dict[str, Any]) -> None:
    script = Script(error)
    start_server(script)
    assert connect().call("check", "word") == 2
    first, second = script.requests
    assert (first.method, first.params) == (second.method, second.params)
    assert first.meta["deadline"] == second.meta["deadline"]
    assert first.meta["sent"] < second.meta["sent"]


def test_the_second_crash_is_raised(start_server: StartServer, connect: Connect) -> None:
    script = Script(CRASHED, CRASHED, CRASHED)
    start_server(script)
    with pytest.raises(cohab.EngineCrashed) as info:
        connect().call("check")
    assert len(script.requests) == 2
    assert isinstance(info.value.__cause__, cohab.EngineCrashed)
    assert info.value.method == "check"


@pytest.mark.parametrize(
    "error",
    [
        error_map("INTERNAL", "ENGINE_CRASHED", executed=True, retry=False),
        error_map("UNAVAILABLE", "STOPPING", retry=True),
        error_map("RESOURCE_EXHAUSTED", "NO_MEMORY", retry=True),
        error_map("FAILED_PRECONDITION", "QUARANTINED"),
    ],
)
def test_not_retried(start_server: StartServer, connect: Connect, error: dict[str, Any]) -> None:
    script = Script(error)
    start_server(script)
    with pytest.raises(cohab.Error) as info:
        connect().call("check")
    assert info.value.reason == error["reason"]
    assert info.value.__cause__ is None
    assert len(script.requests) == 1


def test_told_not_to(start_server: StartServer, connect: Connect) -> None:
    script = Script(CRASHED, CRASHED)
    start_server(script)
    with pytest.raises(cohab.EngineCrashed):
        connect(retries=0).call("check")
    with pytest.raises(cohab.EngineCrashed):
        connect().call("check", retries=0)
    assert len(script.requests) == 2


def test_told_to_go_on(start_server: StartServer, connect: Connect) -> None:
    script = Script(CRASHED, CRASHED, CRASHED)
    start_server(script)
    assert connect().call("check", retries=3) == 4


def test_no_time_left(start_server: StartServer, connect: Connect) -> None:
    """The crash takes all of the call's time."""
    requests = []

    def script(connection: ServerConnection) -> None:
        while (request := connection.request()) is not None:
            requests.append(request)
            while monotonic_ns() < request.meta["deadline"]:
                pass
            connection.send_frame([1, request.msgid, CRASHED, None])

    start_server(script)
    with pytest.raises(cohab.EngineCrashed):
        connect(timeout=0.05).call("check")
    assert len(requests) == 1


@pytest.mark.parametrize("retries", [-1, 1.5, "1", None])
def test_bad_number(retries: Any) -> None:
    with pytest.raises(cohab.InvalidArgument, match="retries"):
        cohab.connect("/nowhere", retries=retries)
