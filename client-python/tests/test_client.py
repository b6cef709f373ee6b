"""What a client offers: calls, the pool of connections, threads, map, fork."""

from __future__ import annotations

import math
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic_ns
from typing import Any, Callable

import pytest

import cohab
from conftest import Connect, StartServer
from fakes import PATIENCE_S, ServerConnection, echo, wait_for, wait_until


class Gate:
    """A script that echoes, but replies to "wait" only after `open`."""

    def __init__(self) -> None:
        self.waiting = 0
        self._lock = threading.Lock()
        self._opened = threading.Event()

    def __call__(self, connection: ServerConnection) -> None:
        while True:
            request = connection.request()
            if request is None:
                return
            if request.method == "wait":
                with self._lock:
                    self.waiting += 1
                wait_for(self._opened, "the gate opens")
            connection.reply(request, [*request.params, request.meta["deadline"]])

    def open(self) -> None:
        self._opened.set()


def in_thread(function: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Run `function` in a thread; the list gets its result or the error it raised."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(function())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


# ---- making a client


def test_nothing_is_connected_before_the_first_call(start_server: StartServer, connect: Connect) -> None:
    client = connect()
    server = start_server()
    assert server.accepted == 0
    assert client.call("echo", 1, "two", None, [3.5], {"k": b"v"}) == [1, "two", None, [3.5], {"k": b"v"}]
    assert server.accepted == 1


def test_path_from_environment(
    start_server: StartServer, socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server()
    monkeypatch.setenv("COHAB_SOCKET", str(socket_path))
    with cohab.connect() as client:
        assert client.path == str(socket_path)
        assert client.call("echo", 1) == [1]


@pytest.mark.parametrize("value", [None, ""])
def test_no_path_at_all(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHAB_SOCKET", raising=False)
    if value is not None:
        monkeypatch.setenv("COHAB_SOCKET", value)
    with pytest.raises(cohab.InvalidArgument, match="COHAB_SOCKET"):
        cohab.connect()


def test_path_too_long_for_a_socket() -> None:
    assert cohab.connect("/" + "x" * 106).path == "/" + "x" * 106
    with pytest.raises(cohab.InvalidArgument, match="108 bytes"):
        cohab.connect("/" + "x" * 107)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": math.inf},
        {"timeout": math.nan},
        {"connect_timeout": -1},
        {"reply_margin": 0},
        {"max_connections": 0},
        {"max_frame": -1},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(cohab.InvalidArgument, match=next(iter(options))):
        cohab.connect("/tmp/s", **options)


def test_repr_tells_path_and_state(start_server: StartServer, connect: Connect, socket_path: Path) -> None:
    start_server()
    client = connect(max_connections=5)
    client.call("echo")
    assert repr(client) == f"<cohab.Client {socket_path}: connections: 0 in use, 1 idle, at most 5>"
    client.close()
    assert repr(client) == f"<cohab.Client {socket_path}: closed>"


# ---- calls


def test_builtin_methods(start_server: StartServer, connect: Connect) -> None:
    def script(connection: ServerConnection) -> None:
        for _ in range(2):
            request = connection.expect_request()
            connection.reply(request, [request.method, *request.params])

    start_server(script)
    client = connect()
    assert client.ping(1, "a") == ["cohab.ping", 1, "a"]
    assert client.methods() == ["cohab.methods"]


@pytest.mark.parametrize("timeout", [0, -1.5])
def test_time_that_is_already_over(connect: Connect, timeout: float) -> None:
    with pytest.raises(cohab.DeadlineExceeded, match="before the call") as info:
        connect().call("echo", timeout=timeout)
    assert (info.value.executed, info.value.retry, info.value.method) == (False, True, "echo")


@pytest.mark.parametrize("timeout", [math.inf, math.nan])
def test_time_must_be_finite(connect: Connect, timeout: float) -> None:
    with pytest.raises(cohab.InvalidArgument, match="timeout must be"):
        connect().call("echo", timeout=timeout)


# ---- the pool of connections


def test_calls_one_after_another_share_a_connection(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    client = connect()
    for number in range(20):
        assert client.call("echo", number) == [number]
    assert server.accepted == 1


def test_connection_used_last_is_used_first(start_server: StartServer, connect: Connect) -> None:
    gate = Gate()

    def tell_number(connection: ServerConnection) -> None:
        request = connection.expect_request()
        connection.reply(request, connection.number)
        tell_number(connection) if connection.number else echo(connection)

    server = start_server(gate, echo)
    client = connect()
    thread, outcome = in_thread(lambda: client.call("wait", "first"))
    wait_until(lambda: gate.waiting == 1, "the first call arrives")
    assert client.call("echo", "second") == ["second"]
    gate.open()
    thread.join(PATIENCE_S)
    assert outcome[0][0] == "first"
    # The gate's connection came back last; it alone appends the deadline.
    for _ in range(3):
        assert len(client.call("echo", "third")) == 2
    assert server.accepted == 2


def test_deadline_covers_waiting_for_a_connection(start_server: StartServer, connect: Connect) -> None:
    gate = Gate()
    server = start_server(gate)
    client = connect(max_connections=1)
    holder, _ = in_thread(lambda: client.call("wait"))
    wait_until(lambda: gate.waiting == 1, "the first call arrives")
    with pytest.raises(cohab.DeadlineExceeded, match="max_connections") as info:
        client.call("echo", timeout=0.05)
    assert (info.value.reason, info.value.executed, info.value.retry) == ("QUEUE_TIMEOUT", False, True)

    waiter, outcome = in_thread(lambda: client.call("echo", timeout=15.0))
    wait_until(lambda: len(client._connections._waiters) == 1, "the second call waits")
    opened_ns = monotonic_ns()
    gate.open()
    waiter.join(PATIENCE_S)
    holder.join(PATIENCE_S)
    (deadline_ns,) = outcome[0]
    assert deadline_ns < opened_ns + 15_000_000_000, "the wait was not counted"
    assert server.accepted == 1


def test_many_threads_each_get_their_own_answers(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    client = connect(max_connections=4)

    def work(name: int) -> int:
        return sum(client.call("echo", name, number) == [name, number] for number in range(200))

    jobs = [in_thread(lambda name=name: work(name)) for name in range(16)]  # type: ignore[misc]
    for thread, _ in jobs:
        thread.join(PATIENCE_S)
    assert [outcome for _, outcome in jobs] == [[200]] * 16
    assert server.accepted <= 4


def test_close_ends_idle_connections_now_and_others_after_their_call(
    start_server: StartServer, connect: Connect
) -> None:
    gate = Gate()
    server = start_server(gate, echo)
    client = connect()
    thread, outcome = in_thread(lambda: client.call("wait", "last"))
    wait_until(lambda: gate.waiting == 1, "the first call arrives")
    client.call("echo")
    client.close()
    wait_until(lambda: server.ended == [1], "the idle connection ends")
    gate.open()
    thread.join(PATIENCE_S)
    assert outcome[0][0] == "last"
    wait_until(lambda: server.ended == [1, 0], "the other connection ends")
    with pytest.raises(cohab.Unavailable, match="is closed") as info:
        client.call("echo")
    assert (info.value.reason, info.value.executed, info.value.retry) == ("CLIENT_CLOSED", False, False)
    client.close()


def test_close_wakes_callers_that_wait_for_a_connection(start_server: StartServer, connect: Connect) -> None:
    gate = Gate()
    start_server(gate)
    client = connect(max_connections=1)
    holder, _ = in_thread(lambda: client.call("wait"))
    wait_until(lambda: gate.waiting == 1, "the first call arrives")
    waiter, outcome = in_thread(lambda: client.call("echo"))
    wait_until(lambda: len(client._connections._waiters) == 1, "the second call waits")
    client.close()
    waiter.join(PATIENCE_S)
    gate.open()
    holder.join(PATIENCE_S)
    assert isinstance(outcome[0], cohab.Unavailable)
    assert outcome[0].reason == "CLIENT_CLOSED"


# ---- map


def test_map_yields_in_order(start_server: StartServer, connect: Connect) -> None:
    start_server()
    assert list(connect().map("echo", range(100))) == [[number] for number in range(100)]


def test_map_of_nothing(connect: Connect) -> None:
    assert list(connect().map("echo", [])) == []


def test_map_is_concurrent(start_server: StartServer, connect: Connect) -> None:
    barrier = threading.Barrier(4)

    def script(connection: ServerConnection) -> None:
        while request := connection.request():
            barrier.wait(PATIENCE_S)
            connection.reply(request, request.params)

    start_server(script)
    assert len(list(connect().map("echo", range(8), concurrency=4))) == 8


def test_map_is_lazy_and_bounded(start_server: StartServer, connect: Connect) -> None:
    start_server()
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    results = connect().map("echo", items(), concurrency=3)
    assert taken == []
    for number in range(10):
        assert next(results) == [number]
        assert len(taken) == number + 6
    del results
    wait_until(lambda: not map_threads(), "the threads end")


def map_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("cohab-map")]


def test_abandoned_map_leaves_no_threads(start_server: StartServer, connect: Connect) -> None:
    gate = Gate()
    start_server(gate)
    client = connect(timeout=PATIENCE_S)
    results = client.map("echo", range(1000), concurrency=3)
    next(results)
    assert map_threads()
    del results
    wait_until(lambda: not map_threads(), "the threads end")
    assert client._connections.counts()[1] == 0


def test_abandoned_map_does_not_begin_new_calls(start_server: StartServer, connect: Connect) -> None:
    seen: list[int] = []
    abandoned = threading.Event()

    def script(connection: ServerConnection) -> None:
        while request := connection.request():
            seen.extend(request.params)
            if request.params != [0]:
                wait_for(abandoned, "the iteration is abandoned")
            connection.reply(request, request.params)

    start_server(script)
    results = connect().map("echo", range(1000), concurrency=2)
    next(results)
    wait_until(lambda: sorted(seen) == [0, 1, 2], "both threads are busy")
    del results
    abandoned.set()
    wait_until(lambda: not map_threads(), "the threads end")
    assert sorted(seen) == [0, 1, 2]


def test_map_raises_the_error_of_a_call_in_its_place(start_server: StartServer, connect: Connect) -> None:
    start_server()
    results = connect().map("echo", [1, object(), 3])
    assert next(results) == [1]
    with pytest.raises(cohab.InvalidArgument, match="object"):
        next(results)
    assert list(results) == []
    wait_until(lambda: not map_threads(), "the threads end")


def test_map_gives_what_was_computed_before_the_iterable_failed(
    start_server: StartServer, connect: Connect
) -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise KeyError("no fourth")

    start_server()
    results = connect().map("echo", items())
    assert [next(results) for _ in range(3)] == [[1], [2], [3]]
    with pytest.raises(KeyError, match="no fourth"):
        next(results)
    wait_until(lambda: not map_threads(), "the threads end")


def test_map_passes_the_timeout_to_each_call(connect: Connect) -> None:
    with pytest.raises(cohab.DeadlineExceeded, match="before the call"):
        next(connect().map("echo", [1], timeout=-1))


def test_map_checks_its_concurrency_at_once(connect: Connect) -> None:
    with pytest.raises(cohab.InvalidArgument, match="concurrency"):
        connect().map("echo", [1], concurrency=0)


# ---- fork


def in_child(check: Callable[[], bool]) -> bool:
    """Run `check` in a forked child and return what it returned."""
    pid = os.fork()
    if pid == 0:
        status = 1
        signal.alarm(int(PATIENCE_S))
        try:
            status = 0 if check() else 1
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def test_child_makes_connections_of_its_own(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    client = connect()
    client.call("echo")
    assert in_child(lambda: bool(client.call("echo", "child") == ["child"]))
    assert server.accepted == 2
    assert client.call("echo", "parent") == ["parent"]
    assert server.accepted == 2, "the child has shut down the connection of its parent"


def test_child_that_closes_leaves_the_parent_alone(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    client = connect()
    client.call("echo")

    def close() -> bool:
        client.close()
        return True

    assert in_child(close)
    assert client.call("echo", "parent") == ["parent"]
    assert server.accepted == 1


def test_process_id_is_checked_even_if_python_did_not_see_the_fork(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server()
    client = connect()
    client.call("echo")
    monkeypatch.setattr("cohab.client.getpid", lambda: -1)
    assert client.call("echo", 2) == [2]
    assert client.call("echo", 3) == [3]
    assert server.accepted == 2


def test_locks_held_by_another_thread_do_not_stop_the_child(
    start_server: StartServer, connect: Connect
) -> None:
    start_server()
    client = connect(timeout=PATIENCE_S)
    with client._connections._lock:
        assert in_child(lambda: bool(client.call("echo", "child") == ["child"]))


def test_child_keeps_no_copy_of_a_connection_that_was_in_use(
    start_server: StartServer, connect: Connect
) -> None:
    gate = Gate()
    server = start_server(gate)
    client = connect()
    thread, _ = in_thread(lambda: client.call("wait"))
    wait_until(lambda: gate.waiting == 1, "the call arrives")
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        os.read(read_end, 1)  # live until the parent has seen enough
        os._exit(0)
    try:
        gate.open()
        thread.join(PATIENCE_S)
        client.close()
        wait_until(lambda: server.ended == [0], "the server sees the end although the child lives")
    finally:
        os.close(write_end)
        os.close(read_end)
        os.waitpid(pid, 0)


def test_closed_client_stays_closed_in_a_child(connect: Connect) -> None:
    client = connect()
    client.close()

    def refused() -> bool:
        try:
            client.call("echo")
        except cohab.Unavailable as exc:
            return exc.reason == "CLIENT_CLOSED"
        return False

    assert in_child(refused)


def test_map_begun_before_a_fork_is_refused_in_the_child(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    results = connect(max_connections=1).map("echo", range(100))
    next(results)

    def refused(results: Iterator[Any] = results) -> bool:
        with pytest.raises(RuntimeError, match="fork"):
            next(results)
        return not map_threads()

    assert in_child(refused)
    assert next(results) == [1]
    del results, refused
    wait_until(lambda: not map_threads(), "the threads end")
    assert server.accepted == 1


def test_a_client_cannot_be_pickled(start_server: StartServer, connect: Connect) -> None:
    start_server()
    with pytest.raises(TypeError, match="connect anew"):
        pickle.dumps(connect())
