"""A request whose worker died is sent again where the server says that this is safe."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from time import monotonic_ns, sleep
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
    assert info.value.__cause__.__cause__ is None


def test_all_crashes_are_chained(start_server: StartServer, connect: Connect) -> None:
    start_server(Script(CRASHED, CRASHED, CRASHED))
    with pytest.raises(cohab.EngineCrashed) as info:
        connect().call("check", retries=2)
    assert info.value.__cause__ is not None
    assert isinstance(info.value.__cause__.__cause__, cohab.EngineCrashed)


@pytest.mark.parametrize(
    "error",
    [
        error_map("INTERNAL", "ENGINE_CRASHED", executed=True, retry=False),
        error_map("UNAVAILABLE", "STOPPING", retry=True),
        error_map("RESOURCE_EXHAUSTED", "NO_MEMORY", retry=True),
        error_map("RESOURCE_EXHAUSTED", "OVERLOADED", retry=True),
        error_map("DEADLINE_EXCEEDED", "QUEUE_TIMEOUT", retry=True),
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


def test_map_retries(start_server: StartServer, connect: Connect) -> None:
    start_server(Script(CRASHED))
    assert list(connect().map("check", [1], concurrency=1)) == [2]


def test_map_is_told_not_to(start_server: StartServer, connect: Connect) -> None:
    start_server(Script(CRASHED))
    with pytest.raises(cohab.EngineCrashed):
        list(connect().map("check", [1], concurrency=1, retries=0))


# ---- which error is raised


def crash_and_close(connection: ServerConnection) -> None:
    connection.send_frame([1, connection.expect_request().msgid, CRASHED, None])
    connection.expect_request()


def lose_and_close(connection: ServerConnection) -> None:
    connection.send_frame([1, connection.expect_request().msgid, LOST, None])
    connection.expect_request()


def test_a_lost_connection_does_not_hide_the_crash(start_server: StartServer, connect: Connect) -> None:
    start_server(crash_and_close)
    with pytest.raises(cohab.EngineCrashed) as info:
        connect().call("check")
    assert info.value.executed
    assert info.value.__cause__ is None
    assert isinstance(info.value.__context__, cohab.Unavailable)
    assert info.value.__context__.reason == "CONNECTION_LOST"


def test_what_may_have_been_executed_after_all_is_said(start_server: StartServer, connect: Connect) -> None:
    """The first try was not executed, and is safe to repeat; the second may have been."""
    start_server(lose_and_close)
    with pytest.raises(cohab.Unavailable) as info:
        connect().call("check")
    assert (info.value.reason, info.value.executed, info.value.retry) == ("CONNECTION_LOST", True, False)
    assert isinstance(info.value.__cause__, cohab.Unavailable)
    assert info.value.__cause__.reason == "WORKER_LOST"


def test_no_time_for_the_second_try_does_not_hide_the_crash(
    start_server: StartServer, connect: Connect
) -> None:
    late = error_map("DEADLINE_EXCEEDED", "QUEUE_TIMEOUT", retry=True)
    start_server(Script(CRASHED, late))
    with pytest.raises(cohab.EngineCrashed) as info:
        connect().call("check")
    assert isinstance(info.value.__context__, cohab.DeadlineExceeded)


def test_nobody_reads_the_second_try(start_server: StartServer, connect: Connect) -> None:
    """It is given up at the call's own deadline, which the first try has used a part of."""

    def script(connection: ServerConnection) -> None:
        request = connection.expect_request()
        sleep(0.1)
        connection.send_frame([1, request.msgid, CRASHED, None])
        while monotonic_ns() < request.meta["deadline"] + 50_000_000:
            sleep(0.01)

    start_server(script)
    begin = monotonic_ns()
    with pytest.raises(cohab.EngineCrashed):
        connect().call("check", timeout=0.3)
    assert 0.3e9 <= monotonic_ns() - begin < 0.8e9


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (error_map("FAILED_PRECONDITION", "QUARANTINED", details={"reports": ["a"]}), cohab.Quarantined),
        (error_map("INVALID_ARGUMENT", "BAD_ARGUMENT"), cohab.InvalidArgument),
        (error_map("DEADLINE_EXCEEDED", "DEADLINE", executed=True), cohab.DeadlineExceeded),
        (error_map("UNAVAILABLE", "WORD_OF_THE_ENGINE", executed=True), cohab.Unavailable),
    ],
)
def test_the_second_answer_is_raised(
    start_server: StartServer, connect: Connect, second: dict[str, Any], expected: type[cohab.Error]
) -> None:
    start_server(Script(CRASHED, second))
    with pytest.raises(expected) as info:
        connect().call("check")
    assert info.value.executed  # by the first try, if not by the second
    assert isinstance(info.value.__cause__, cohab.EngineCrashed)


@pytest.mark.parametrize("reason", [["ENGINE_CRASHED"], {}, None, 7])
def test_a_reason_of_another_type(start_server: StartServer, connect: Connect, reason: Any) -> None:
    start_server(Script(error_map("INTERNAL", reason, retry=True)))
    with pytest.raises(cohab.EngineError):
        connect().call("check")


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize(
    ("script", "retries"),
    [(Script(CRASHED), 0), (Script(CRASHED, CRASHED), 1), (crash_and_close, 1)],
    ids=["not retried", "crashed again", "lost"],
)
def test_an_error_keeps_nothing_alive(
    start_server: StartServer, connect: Connect, script: Any, retries: int
) -> None:
    """No frame that an error refers to refers to it: all of it goes when the caller lets go of the error."""
    start_server(script)
    client = connect()
    try:
        client.call("check", retries=retries)
    except cohab.Error as error:
        gone = weakref.ref(error)
    assert gone() is None
