"""Deadlines, and how waiting is limited; replies of all sizes."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from collections.abc import Iterator
from time import monotonic_ns
from typing import Any, ClassVar

import pytest

import cohab
from conftest import Connect, StartServer
from fakes import (
    BIG,
    PATIENCE_S,
    ServerConnection,
    echo,
    error_map,
    frame,
    wait_for,
    wait_until,
    wait_until_read,
)

# ---- time


def test_deadline_is_sent_and_covers_the_call(start_server: StartServer, connect: Connect) -> None:
    def script(connection: ServerConnection) -> None:
        for _ in range(2):
            request = connection.expect_request()
            connection.reply(request, request.meta)

    start_server(script)
    client = connect(timeout=7.0)
    cases: list[tuple[float, dict[str, Any]]] = [(7.0, {}), (3.5, {"timeout": 3.5})]
    for timeout_s, options in cases:
        before = monotonic_ns()
        meta = client.call("meta", **options)
        after = monotonic_ns()
        assert set(meta) == {"deadline", "sent"}
        assert before <= meta["sent"] <= after
        assert before <= meta["deadline"] - int(timeout_s * 1e9) <= after


def test_silent_server(start_server: StartServer, connect: Connect) -> None:
    def silent(connection: ServerConnection) -> None:
        connection.expect_request()
        connection.expect_close()

    server = start_server(silent, echo)
    client = connect(timeout=0.05, reply_margin=0.05)
    with pytest.raises(cohab.DeadlineExceeded, match="no reply") as info:
        client.call("echo", 1)
    assert (info.value.reason, info.value.executed, info.value.retry) == ("DEADLINE", True, False)
    wait_until(lambda: server.ended == [0], "the client closes the connection")
    assert client.call("echo", 2, timeout=PATIENCE_S) == [2]


def test_a_request_that_nobody_reads(start_server: StartServer, connect: Connect) -> None:
    """At its deadline it is certain that it will not be executed: whoever reads it later refuses it."""
    release = threading.Event()

    def busy(connection: ServerConnection) -> None:
        release.wait(PATIENCE_S)
        connection.expect_request()

    start_server(busy)
    client = connect(timeout=0.05, reply_margin=60.0)  # it is not waited for
    with pytest.raises(cohab.DeadlineExceeded, match="took the request") as info:
        client.call("echo", 1)
    assert (info.value.reason, info.value.executed, info.value.retry) == ("QUEUE_TIMEOUT", False, True)
    release.set()


def test_server_that_stops_in_the_middle_of_a_reply(start_server: StartServer, connect: Connect) -> None:
    def half(connection: ServerConnection) -> None:
        data = frame([1, connection.expect_request().msgid, None, "long" * 100])
        connection.sock.sendall(data[:100])
        connection.expect_close()

    start_server(half)
    with pytest.raises(cohab.DeadlineExceeded, match="no reply"):
        connect(timeout=0.05, reply_margin=0.05).call("echo", 1)


def test_server_that_does_not_read(start_server: StartServer, connect: Connect) -> None:
    released = threading.Event()
    start_server(lambda connection: wait_for(released, "the client gives up"))
    with pytest.raises(cohab.DeadlineExceeded) as info:
        connect(timeout=0.05, reply_margin=0.05).call("echo", BIG)
    released.set()
    assert (info.value.executed, info.value.retry) == (False, True)


def test_server_answers_for_itself_within_the_margin(start_server: StartServer, connect: Connect) -> None:
    def late(connection: ServerConnection) -> None:
        request = connection.expect_request()
        wait_until(lambda: monotonic_ns() > request.meta["deadline"], "the deadline passes")
        data = frame([1, request.msgid, error_map("DEADLINE_EXCEEDED", "DEADLINE"), None])
        connection.sock.sendall(data[:10])
        wait_until_read(connection.sock)
        connection.sock.sendall(data[10:])
        connection.serve()

    server = start_server(late)
    client = connect(reply_margin=PATIENCE_S)
    with pytest.raises(cohab.DeadlineExceeded, match="DEADLINE it is"):
        client.call("echo", 1, timeout=0.05)
    assert client.call("echo", 2) == [2]
    assert server.accepted == 1


def only_socket(client: cohab.Client) -> socket.socket:
    (connection,) = client._connections._idle
    assert connection._sock is not None
    return connection._sock


def receive_limit_s(sock: socket.socket) -> float:
    seconds, us = struct.unpack("@ll", sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))
    return float(seconds + us / 1e6)


class CountingSocket(socket.socket):
    calls: ClassVar[list[tuple[int, str]]] = []

    def setsockopt(self, *args: Any) -> None:
        self.calls.append((self.fileno(), "setsockopt"))
        super().setsockopt(*args)

    def send(self, data: Any, flags: int = 0) -> int:
        self.calls.append((self.fileno(), "send"))
        return super().send(data, flags)

    def recv(self, size: int, flags: int = 0) -> bytes:
        self.calls.append((self.fileno(), "recv"))
        return super().recv(size, flags)


def test_a_small_call_is_one_send_and_one_receive(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server()
    CountingSocket.__module__ = "socket"
    monkeypatch.setattr(socket, "socket", CountingSocket)
    client = connect(timeout=7.0)
    client.call("echo")
    assert only_socket(client).gettimeout() is None
    assert receive_limit_s(only_socket(client)) == pytest.approx(0.1)
    monkeypatch.setattr("cohab.connection.select", None)
    CountingSocket.calls.clear()
    client.call("echo")
    client.call("echo", timeout=1.5)
    own = only_socket(client).fileno()
    assert [name for fd, name in CountingSocket.calls if fd == own] == ["send", "recv"] * 2


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """A signal every 0.15 s, each an element of the list; a test that 40 do not end fails."""
    ticks: list[int] = []

    def tick(*_: Any) -> None:
        ticks.append(1)
        assert len(ticks) != 40, "the time limit begins anew with each signal"

    previous = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.15, 0.15)
    yield ticks
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize("received", [0, 2, 100])
def test_signals_do_not_prolong_waiting_for_a_reply(
    start_server: StartServer, connect: Connect, signals: list[int], received: int
) -> None:
    def stops(connection: ServerConnection) -> None:
        data = frame([1, connection.expect_request().msgid, None, "long" * 100])
        connection.sock.sendall(data[:received])
        connection.expect_close()

    start_server(stops)
    with pytest.raises(cohab.DeadlineExceeded, match="no reply"):
        connect(timeout=0.3, reply_margin=0.1).call("echo")
    assert signals


def test_signals_do_not_prolong_sending(
    start_server: StartServer, connect: Connect, signals: list[int]
) -> None:
    released = threading.Event()
    start_server(lambda connection: wait_for(released, "the client gives up"))
    with pytest.raises(cohab.DeadlineExceeded):
        connect(timeout=0.3).call("echo", BIG)
    released.set()
    assert signals


def test_a_server_that_reads_slowly_does_not_prolong_sending(
    start_server: StartServer, connect: Connect
) -> None:
    read: list[int] = []

    def slow(connection: ServerConnection) -> None:
        while data := connection.sock.recv(32 * 1024):
            read.append(len(data))
            released.wait(0.05)

    released = threading.Event()
    start_server(slow)
    with pytest.raises(cohab.DeadlineExceeded):
        connect(timeout=0.2).call("echo", BIG)
    assert sum(read) < len(BIG) // 2, "the time limit begins anew with each piece"
    released.set()


def test_default_timeout_of_the_process_means_nothing(start_server: StartServer, connect: Connect) -> None:
    def late(connection: ServerConnection) -> None:
        request = connection.expect_request()
        released.wait(0.2)
        connection.reply(request, "late")

    released = threading.Event()
    start_server(late)
    socket.setdefaulttimeout(0.01)
    try:
        client = connect(timeout=PATIENCE_S)
        assert client.call("echo") == "late"
        assert only_socket(client).gettimeout() is None
    finally:
        socket.setdefaulttimeout(None)


def test_shortest_time_limit_is_one(start_server: StartServer, connect: Connect) -> None:
    def silent(connection: ServerConnection) -> None:
        connection.reply(connection.expect_request(), 1)
        connection.expect_request()
        connection.expect_close()

    start_server(silent)
    client = connect(timeout=1e-7, reply_margin=0.05)
    client.call("echo", timeout=PATIENCE_S)
    with pytest.raises(cohab.DeadlineExceeded):
        client.call("echo")


class GreenSocket(socket.socket):
    """Stands for gevent's: not of the module `socket`."""


def test_settimeout_is_used_where_the_socket_class_was_replaced(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server(echo, lambda connection: connection.expect_request() and connection.expect_close())
    monkeypatch.setattr(socket, "socket", GreenSocket)
    client = connect(timeout=7.0)
    client.call("echo")
    client.call("echo")
    assert 6.0 < (only_socket(client).gettimeout() or 0.0) <= 7.0
    assert receive_limit_s(only_socket(client)) == 0
    connection = client._connections.take_idle()
    silent = connect(timeout=0.05, reply_margin=0.05)
    with pytest.raises(cohab.DeadlineExceeded, match="no reply"):
        silent.call("echo")
    assert connection is not None
    client._connections.put(connection)


def test_eventlet_is_refused(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server()
    client = connect()
    monkeypatch.setattr(
        socket, "socket", type("GreenSocket", (socket.socket,), {"__module__": "eventlet.greenio"})
    )
    with pytest.raises(cohab.Error, match="use gevent or threads"):
        client.call("echo")


# ---- replies of all sizes


def test_reply_in_single_bytes(start_server: StartServer, connect: Connect) -> None:
    def dribble(connection: ServerConnection) -> None:
        for byte in frame([1, connection.expect_request().msgid, None, "slowly"]):
            connection.sock.sendall(bytes([byte]))
            wait_until_read(connection.sock)
        connection.serve()

    server = start_server(dribble)
    client = connect()
    assert client.call("echo") == "slowly"
    assert client.call("echo", 1) == [1]
    assert server.accepted == 1


class ThriftySocket(socket.socket):
    """Sends a few bytes at a time, as a socket does whose buffers are full."""

    def send(self, data: Any, flags: int = 0) -> int:
        return super().send(data[:3], flags)

    def sendmsg(self, parts: Any, ancillary: Any = (), flags: int = 0, address: Any = None) -> int:
        part = parts[0]
        return super().send(part[: 3 if len(part) < 1000 else 60_000], flags)


@pytest.mark.parametrize("size", [20, 200_000])
def test_request_sent_in_pieces(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    start_server()
    payload = bytes(range(20)) * (size // 20)
    monkeypatch.setattr(socket, "socket", ThriftySocket)
    client = connect()
    assert client.call("echo", payload) == [payload]
    assert client.call("echo", payload) == [payload]


@pytest.mark.parametrize("size", [0, 1, 65_500, 65_536, 65_600, 200_000, 64 * 1024 * 1024])
def test_payloads_there_and_back(start_server: StartServer, connect: Connect, size: int) -> None:
    server = start_server()
    client = connect()
    payload = b"y" * size
    assert client.call("echo", payload) == [payload]
    assert client.call("echo", "after") == ["after"]
    assert server.accepted == 1


def test_reply_longer_than_max_frame(start_server: StartServer, connect: Connect) -> None:
    def script(connection: ServerConnection) -> None:
        connection.reply(connection.expect_request(), b"y" * 100_000)
        connection.expect_close()

    start_server(script)
    with pytest.raises(cohab.ProtocolError, match="max_frame"):
        connect(max_frame=90_000).call("echo", 1)
