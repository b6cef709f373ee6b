"""A server that was restarted, stopped or lost between two calls."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import cohab
from cohab.connection import Connection
from conftest import Connect, StartServer
from fakes import (
    BIG,
    PATIENCE_S,
    Script,
    ServerConnection,
    echo,
    error_map,
    wait_until,
)


def three_idle_connections(client: cohab.Client) -> None:
    threads = [threading.Thread(target=client.call, args=("together",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert client._connections.counts() == (3, 0)


def together(parties: int) -> Script:
    """Reply to a first request only when so many connections have sent one; then echo."""
    barrier = threading.Barrier(parties)

    def script(connection: ServerConnection) -> None:
        request = connection.request()
        if request is None:
            return
        barrier.wait(PATIENCE_S)
        connection.reply(request, request.params)
        connection.serve()

    return script


def test_restarted_server_is_reconnected_to_without_an_error(
    start_server: StartServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = start_server(together(3))
    client = connect()
    three_idle_connections(client)
    old.close()
    new = start_server()
    tried: list[Connection] = []
    request = Connection.request

    def noted_request(self: Connection, *args: Any) -> Any:
        tried.append(self)
        return request(self, *args)

    monkeypatch.setattr(Connection, "request", noted_request)
    assert client.call("echo", 1) == [1]
    assert new.accepted == 1
    assert client._connections.counts() == (1, 0)
    assert len(tried) == 2, "where one connection is stale the others are not even tried"


def test_request_of_which_a_part_was_sent_is_not_sent_again(
    start_server: StartServer, connect: Connect
) -> None:
    def leave_in_the_middle(connection: ServerConnection) -> None:
        connection.reply(connection.expect_request(), "first")
        connection.receive_exactly(100_000)

    server = start_server(leave_in_the_middle, echo)
    client = connect()
    client.call("echo")
    with pytest.raises(cohab.Unavailable, match="not sent completely") as info:
        client.call("echo", BIG)
    assert (info.value.executed, info.value.retry) == (False, True)
    assert server.accepted == 1


def test_large_request_finds_its_way_to_a_restarted_server(
    start_server: StartServer, connect: Connect
) -> None:
    old = start_server()
    client = connect()
    client.call("echo")
    old.close()
    start_server()
    assert client.call("echo", BIG) == [BIG]


def test_what_an_idle_connection_was_told_is_past(start_server: StartServer, connect: Connect) -> None:
    def serve_one_and_stop(connection: ServerConnection) -> None:
        connection.reply(connection.expect_request(), "first")
        connection.send_frame([1, None, error_map("UNAVAILABLE", "STOPPING"), None])

    server = start_server(serve_one_and_stop, echo)
    client = connect()
    assert client.call("echo", 1) == "first"
    wait_until(lambda: server.ended == [0], "the server leaves")
    assert client.call("echo", 2) == [2]


def test_server_that_is_gone(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    client = connect()
    client.call("echo", 1)
    server.close()
    with pytest.raises(cohab.Unavailable, match="is cohabd running") as info:
        client.call("echo", 1)
    assert (info.value.executed, info.value.retry) == (False, True)


def test_broken_pipe_does_not_kill_a_program_with_default_sigpipe(
    start_server: StartServer, socket_path: Path
) -> None:
    start_server(lambda connection: connection.reply(connection.expect_request(), "first"), echo)
    program = f"""
import signal, socket, sys, cohab
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
client = cohab.connect({str(socket_path)!r})
assert client.call("echo", 1) == "first"
connection = client._connections.take_idle()
assert connection._sock.recv(1) == b""  # the server has closed
client._connections.put(connection)
assert client.call("echo", 2) == [2]
assert client.call("echo", b"x" * 1000000) == [b"x" * 1000000]
client.close()
"""
    path = os.pathsep.join(sys.path)
    result = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}, check=False)
    assert result.returncode == 0
