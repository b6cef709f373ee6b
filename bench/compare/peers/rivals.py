"""The nearest things to cohab: pools of Python workers behind a Unix socket."""

from __future__ import annotations

import os
import sys
from typing import Any

from .. import work
from ..processes import Process, directory, start_module, wait_until
from .base import Call, Load, Peer

DIRTY_APP = "compare.servers.dirty_app:Work"


class DirtyArbiter(Peer):
    """Gunicorn's Dirty Arbiters, called as its own HTTP workers do; no HTTP is in the way."""

    name = "gunicorn Dirty Arbiter"
    needs_packages = ("gunicorn.dirty",)
    largest = 32 << 20
    why_not_large = "its messages are limited to 64 MiB, envelope included"

    def unfit(self, load: Load) -> str | None:
        try:
            return super().unfit(load)
        except ModuleNotFoundError:
            return "the Python package gunicorn, version 25 or newer, is not installed"

    def start(self, load: Load) -> None:
        private = directory(self._stack)
        command = [sys.executable, "-m", "gunicorn", "--bind", f"unix:{private}/http", "--workers", "1"]
        command += ["--dirty-app", DIRTY_APP, "--dirty-workers", str(load.workers), "--dirty-timeout", "30"]
        command += ["--dirty-graceful-timeout", "2", "--graceful-timeout", "2", "--no-control-socket"]
        command += ["compare.servers.dirty_app:application"]
        server = Process(self._stack, command, env={**os.environ, "TMPDIR": str(private)})

        def sockets(name: str) -> list[Any]:
            server.check()
            return list(private.glob(f"gunicorn-dirty-*/{name}"))

        wait_until(lambda: len(sockets("arbiter.sock")) == 1, "the arbiter's socket")
        wait_until(lambda: len(sockets("worker-*.sock")) == load.workers, "the sockets of its workers")
        (self._path,) = sockets("arbiter.sock")

    def connect(self, load: Load) -> Call:
        from gunicorn.dirty.client import DirtyClient  # noqa: PLC0415 - optional

        client = DirtyClient(str(self._path), timeout=load.timeout)
        self._stack.callback(client.close)
        return lambda method, argument: client.execute(DIRTY_APP, method, argument)


class Deadpool(Peer):
    """One client for all threads, as it is meant."""

    name = "deadpool.remote"
    needs_packages = ("deadpool",)

    def start(self, load: Load) -> None:
        from deadpool.remote import DeadpoolClient, PickleSerializer, UnixAddress  # noqa: PLC0415 - optional

        from ..servers.deadpool_server import LIMITS  # noqa: PLC0415

        server, path = start_module(self._stack, "deadpool_server", str(load.workers))
        server.wait_for_socket(path)
        client = DeadpoolClient(UnixAddress(str(path)), serializer=PickleSerializer(), limits=LIMITS)
        self._client = self._stack.enter_context(client)

    def connect(self, load: Load) -> Call:
        client, functions = self._client, work.FUNCTIONS
        return lambda method, argument: client.submit(functions[method], argument).result(load.timeout)
