from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import cohab
from fakes import FakeServer, Script


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a name that is short enough for sockets, which tmp_path's may not be."""
    with tempfile.TemporaryDirectory(prefix="cohab-test-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture
def socket_path(directory: Path) -> Path:
    return directory / "s"


StartServer = Callable[..., FakeServer]
Connect = Callable[..., cohab.Client]


@pytest.fixture
def start_server(socket_path: Path) -> Iterator[StartServer]:
    """start_server(*scripts): a FakeServer on `socket_path`; scripts that failed fail the test."""
    servers: list[FakeServer] = []

    def start(*scripts: Script, **options: Any) -> FakeServer:
        servers.append(FakeServer(socket_path, *scripts, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect(socket_path: Path, start_server: StartServer) -> Iterator[Connect]:
    """connect(**options): a client of `socket_path`, closed before the servers are."""
    clients: list[cohab.Client] = []

    def make(**options: Any) -> cohab.Client:
        clients.append(cohab.connect(socket_path, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
