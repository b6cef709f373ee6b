"""What becomes of a call, and of its connection, when something goes wrong on the way."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

import cohab
from cohab.connection import Connection
from conftest import Connect, StartServer
from fakes import (
    BIG,
    FakeServer,
    Script,
    ServerConnection,
    echo,
    error_map,
    frame,
    wait_for,
    wait_until,
)


def once(answer: Any) -> Script:
    """Receive one request, send the frame `answer(request)` and expect to be left."""

    def script(connection: ServerConnection) -> None:
        connection.send_frame(answer(connection.expect_request()))
        connection.expect_close()

    return script


def hang_up(connection: ServerConnection) -> None:
    connection.expect_request()


# ---- after anything went wrong, the connection is not used again


def test_reply_with_another_msgid_is_refused(start_server: StartServer, connect: Connect) -> None:
    server = start_server(once(lambda request: [1, request.msgid + 1, None, "not yours"]), echo)
    client = connect()
    with pytest.raises(cohab.ProtocolError, match="belongs to request"):
        client.call("echo", 1)
    wait_until(lambda: server.ended == [0], "the client closes the connection")
    assert client.call("echo", 2) == [2]
    assert server.accepted == 2


def test_interrupted_call_does_not_leave_its_reply_for_the_next(
    start_server: StartServer, connect: Connect
) -> None:
    interrupted = threading.Event()

    def interrupt_then_reply(connection: ServerConnection) -> None:
        request = connection.expect_request()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        wait_for(interrupted, "KeyboardInterrupt in the caller")
        connection.expect_close()
        assert request.params == ["first"]

    server = start_server(interrupt_then_reply, echo)
    client = connect()
    with pytest.raises(KeyboardInterrupt):
        client.call("echo", "first")
    interrupted.set()
    assert client.call("echo", "second") == ["second"]
    wait_until(lambda: server.ended == [0], "the client closes the connection")


def test_interrupt_in_the_middle_of_a_reply_closes_the_connection(
    start_server: StartServer, connect: Connect
) -> None:
    def half(connection: ServerConnection) -> None:
        request = connection.expect_request()
        data = frame([1, request.msgid, None, BIG])
        connection.sock.sendall(data[: len(data) // 2])
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        connection.expect_close()

    start_server(half, echo)
    client = connect()
    with pytest.raises(KeyboardInterrupt):
        client.call("blob")
    assert client.call("echo", 1) == [1]


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n", b"\0\0\0\0", b"\0\0\0\2\xc1\xc1"])
def test_garbage_is_a_protocol_error(start_server: StartServer, connect: Connect, garbage: bytes) -> None:
    def script(connection: ServerConnection) -> None:
        connection.expect_request()
        connection.sock.sendall(garbage)
        connection.expect_close()

    start_server(script, echo)
    client = connect()
    with pytest.raises(cohab.ProtocolError) as info:
        client.call("echo", 1)
    assert info.value.method == "echo"
    assert client.call("echo", 1) == [1]


def test_connection_closed_while_waiting(start_server: StartServer, connect: Connect) -> None:
    start_server(hang_up, echo)
    client = connect()
    with pytest.raises(cohab.Unavailable, match="may have been executed") as info:
        client.call("echo", 1)
    error = info.value
    assert (error.reason, error.executed, error.retry) == ("CONNECTION_LOST", True, False)
    assert client.call("echo", 2) == [2]


def test_connection_reset_while_waiting(start_server: StartServer, connect: Connect) -> None:
    def reset(connection: ServerConnection) -> None:
        connection.receive_exactly(2)  # closing with unread data is what makes it a reset

    start_server(reset)
    with pytest.raises(cohab.Unavailable, match="may have been executed") as info:
        connect().call("echo", 1)
    assert isinstance(info.value.__cause__, ConnectionResetError)


def test_connection_closed_in_the_middle_of_a_reply(start_server: StartServer, connect: Connect) -> None:
    def half(connection: ServerConnection) -> None:
        data = frame([1, connection.expect_request().msgid, None, BIG])
        connection.sock.sendall(data[: len(data) // 2])

    start_server(half, echo)
    client = connect()
    with pytest.raises(cohab.Unavailable) as info:
        client.call("blob")
    assert (info.value.reason, info.value.executed) == ("CONNECTION_LOST", True)
    assert client.call("echo", 2) == [2]


def test_what_follows_a_reply_is_the_servers_good_bye(start_server: StartServer, connect: Connect) -> None:
    def reply_and_leave(connection: ServerConnection) -> None:
        request = connection.expect_request()
        goodbye = [1, None, error_map("UNAVAILABLE", "STOPPING"), None]
        connection.sock.sendall(frame([1, request.msgid, None, "mine"]) + frame(goodbye))
        connection.expect_close()

    server = start_server(reply_and_leave, echo)
    client = connect()
    assert client.call("echo", 1) == "mine"
    assert client.call("echo", 2) == [2]
    assert server.accepted == 2


def test_error_response_leaves_the_connection_in_use(start_server: StartServer, connect: Connect) -> None:
    def script(connection: ServerConnection) -> None:
        request = connection.expect_request()
        connection.send_frame([1, request.msgid, error_map("INTERNAL", "ENGINE_ERROR", executed=True), None])
        connection.serve()

    server = start_server(script)
    client = connect()
    with pytest.raises(cohab.EngineError, match="ENGINE_ERROR it is") as info:
        client.call("suggest", 1)
    assert (info.value.executed, info.value.method) == (True, "suggest")
    assert client.call("echo", 2) == [2]
    assert server.accepted == 1


def test_unsendable_parameter_leaves_the_connection_in_use(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server()
    client = connect()
    client.call("echo", 1)
    with pytest.raises(cohab.InvalidArgument, match=r"parameter 1 \(object\)"):
        client.call("echo", object())
    assert client.call("echo", 2) == [2]
    assert server.accepted == 1


# ---- connection errors


def hold_until_left(monkeypatch: pytest.MonkeyPatch, server: FakeServer) -> None:
    """Let each new connection send only when the server has already closed it."""
    connect = Connection.connect

    def connect_and_wait(self: Connection, *args: Any) -> None:
        connect(self, *args)
        wait_until(lambda: server.accepted == len(server.ended) > 0, "the server closes")

    monkeypatch.setattr(Connection, "connect", connect_and_wait)


@pytest.mark.parametrize(
    "expectation",
    [
        ("RESOURCE_EXHAUSTED", "TOO_MANY_CONNECTIONS", cohab.ResourceExhausted),
        ("PERMISSION_DENIED", "PEER_REFUSED", cohab.PermissionDenied),
    ],
)
def test_connection_error_is_read_although_the_send_fails(
    start_server: StartServer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    expectation: tuple[str, str, type[cohab.Error]],
) -> None:
    code, reason, expected = expectation
    server = start_server(lambda c: c.send_frame([1, None, error_map(code, reason, retry=True), None]))
    hold_until_left(monkeypatch, server)
    with pytest.raises(expected, match=f"{reason} it is") as info:
        connect().call("echo", 1)
    assert (info.value.executed, info.value.retry, info.value.method) == (False, True, "echo")
    assert server.accepted == 1


def test_fresh_connection_closed_without_a_word(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(lambda connection: None)
    hold_until_left(monkeypatch, server)
    with pytest.raises(cohab.Unavailable, match="not executed") as info:
        connect().call("echo", 1)
    assert (info.value.executed, info.value.retry) == (False, True)
    assert server.accepted == 1


def test_connection_error_in_reply_to_a_request(start_server: StartServer, connect: Connect) -> None:
    start_server(once(lambda _: [1, None, error_map("UNAVAILABLE", "STOPPING", retry=True), None]), echo)
    client = connect()
    with pytest.raises(cohab.Unavailable, match="STOPPING it is") as info:
        client.call("echo", 1)
    assert (info.value.executed, info.value.retry) == (False, True)
    assert client.call("echo", 1) == [1]


def test_too_long_request_gets_the_servers_own_words(start_server: StartServer, connect: Connect) -> None:
    def refuse(connection: ServerConnection) -> None:
        connection.receive_exactly(4)
        connection.send_frame([1, None, error_map("INVALID_ARGUMENT", "TOO_LONG"), None])

    start_server(refuse, echo)
    client = connect()
    with pytest.raises(cohab.InvalidArgument, match="TOO_LONG it is"):
        client.call("echo", BIG)
    assert client.call("echo", 1) == [1]


def test_request_sent_in_part_was_not_executed(start_server: StartServer, connect: Connect) -> None:
    start_server(lambda connection: connection.receive_exactly(100_000) and None)
    with pytest.raises(cohab.Unavailable, match="not sent completely") as info:
        connect().call("echo", BIG)
    assert (info.value.reason, info.value.executed, info.value.retry) == ("CONNECTION_LOST", False, True)
