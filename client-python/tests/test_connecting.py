"""Connecting to a server that is not there, not ours, or has no room."""

from __future__ import annotations

import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

import cohab
from conftest import Connect, StartServer
from fakes import (
    PATIENCE_S,
    ServerConnection,
    echo,
    wait_for,
)


def test_no_socket_file(connect: Connect, socket_path: Path) -> None:
    with pytest.raises(cohab.Unavailable, match="no such socket; is cohabd running") as info:
        connect().call("echo", 1)
    error = info.value
    assert str(socket_path) in str(error)
    assert (error.reason, error.executed, error.retry, error.method) == ("NO_SERVER", False, True, "echo")


def test_socket_file_without_a_listener(connect: Connect, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(socket_path))
    with pytest.raises(cohab.Unavailable, match=r"nobody listens .* is cohabd running"):
        connect().call("echo", 1)


def test_socket_of_another_kind(connect: Connect, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(socket_path))
        with pytest.raises(cohab.Unavailable, match="another kind"):
            connect().call("echo", 1)


def test_no_permission(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    with pytest.raises(cohab.PermissionDenied, match="--socket-mode") as info:
        connect().call("echo", 1)
    assert (info.value.executed, info.value.retry) == (False, False)


def test_no_descriptor_left(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(cohab.Unavailable, match="ulimit -n") as info:
        connect().call("echo", 1)
    assert (info.value.reason, info.value.executed, info.value.retry) == ("NO_DESCRIPTOR", False, True)


class FullBacklog:
    """A listener that nobody accepts from, with its backlog full, until `drain` accepts all."""

    def __init__(self, path: Path) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(0)
        self.fillers: list[socket.socket] = []
        while True:
            filler = socket.socket(socket.AF_UNIX)
            self.fillers.append(filler)
            filler.setblocking(False)
            try:
                filler.connect(str(path))
            except BlockingIOError:
                break
        self.thread = threading.Thread(target=self._serve_last, daemon=True)

    def drain(self) -> None:
        self.thread.start()

    def _serve_last(self) -> None:
        for _ in self.fillers[:-1]:
            self.listener.accept()[0].close()
        sock, _ = self.listener.accept()
        with sock:
            echo(ServerConnection(sock, 0))

    def close(self) -> None:
        for sock in [*self.fillers, self.listener]:
            sock.close()
        if self.thread.ident is not None:
            self.thread.join(PATIENCE_S)


class WatchedSocket(socket.socket):
    """Tells when a connect begins and fails it, as a full backlog fails a socket with a time-out."""

    connecting = threading.Event()
    failures_left = 0

    def connect(self, address: Any) -> None:
        self.connecting.set()
        if WatchedSocket.failures_left > 0:
            WatchedSocket.failures_left -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        super().connect(address)


@pytest.fixture
def watched_socket(monkeypatch: pytest.MonkeyPatch) -> type[WatchedSocket]:
    WatchedSocket.connecting.clear()
    WatchedSocket.failures_left = 0
    WatchedSocket.__module__ = "socket"  # else it would be taken for gevent's
    monkeypatch.setattr(socket, "socket", WatchedSocket)
    return WatchedSocket


def test_full_backlog_is_waited_for(
    connect: Connect, socket_path: Path, watched_socket: type[WatchedSocket]
) -> None:
    backlog = FullBacklog(socket_path)
    watched_socket.connecting.clear()
    client = connect()
    result: list[Any] = []
    thread = threading.Thread(target=lambda: result.append(client.call("echo", 1)), daemon=True)
    thread.start()
    wait_for(watched_socket.connecting, "the client connects")
    backlog.drain()
    thread.join(PATIENCE_S)
    client.close()
    backlog.close()
    assert result == [[1]]


def test_eagain_is_retried(
    start_server: StartServer, connect: Connect, watched_socket: type[WatchedSocket]
) -> None:
    start_server()
    watched_socket.failures_left = 3
    assert connect().call("echo", 1) == [1]
    assert watched_socket.failures_left == 0


def test_backlog_that_stays_full(connect: Connect, socket_path: Path) -> None:
    backlog = FullBacklog(socket_path)
    try:
        with pytest.raises(cohab.Unavailable, match="backlog is full") as info:
            connect(connect_timeout=0.05).call("echo", 1)
        assert (info.value.reason, info.value.executed, info.value.retry) == ("CONNECT_TIMEOUT", False, True)
        with pytest.raises(cohab.DeadlineExceeded, match="backlog is full") as late:
            connect().call("echo", 1, timeout=0.05)
        assert (late.value.reason, late.value.executed, late.value.retry) == ("QUEUE_TIMEOUT", False, True)
    finally:
        backlog.close()


def test_signal_while_connecting(connect: Connect, socket_path: Path) -> None:
    """Python reports success when a signal handler runs during connect(2); nothing is connected then."""
    backlog = FullBacklog(socket_path)
    ticks: list[int] = []

    def tick(*_: Any) -> None:
        ticks.append(1)
        if len(ticks) == 3:
            backlog.drain()

    previous = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    client = connect()
    try:
        assert client.call("echo", 1) == [1]
        assert len(ticks) >= 3
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        client.close()
        backlog.close()
