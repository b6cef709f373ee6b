"""Servers behind sockets: ZeroMQ, Redis, gRPC, and HTTP as most people have it today."""

from __future__ import annotations

import http.client
import signal
import struct
import subprocess
from pathlib import Path
from typing import Any

from ..figures import Figures
from ..processes import PROGRAMS, Process, directory, start_module
from .base import Call, Load, Peer

SECONDS = struct.Struct("d")


def encode(method: str, argument: Any) -> bytes:
    return argument if method == "echo" else SECONDS.pack(argument)


class Zmq(Peer):
    name = "pyzmq REQ/REP"
    needs_packages = ("zmq",)

    def start(self, load: Load) -> None:
        import zmq  # noqa: PLC0415 - optional

        server, self._path = start_module(self._stack, "zmq_server", str(load.workers))
        server.wait_for_socket(self._path)
        self._context = zmq.Context()
        self._stack.callback(self._context.destroy, 0)

    def connect(self, load: Load) -> Call:
        import zmq  # noqa: PLC0415

        requester = self._context.socket(zmq.REQ)
        requester.rcvtimeo = int(load.timeout * 1000)
        requester.connect(f"ipc://{self._path}")

        def call(method: str, argument: Any) -> Any:
            requester.send_multipart((method.encode(), encode(method, argument)))
            return requester.recv() or None

        return call


class Redis(Peer):
    name = "redis-py ECHO"
    needs_packages = ("redis",)
    needs_program = "redis-server"
    methods = ("echo",)
    why_no_work = "redis has no such work to do"

    def start(self, load: Load) -> None:
        import redis  # noqa: PLC0415 - optional

        path = directory(self._stack) / "s"
        settings = ["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"]
        Process(
            self._stack, ["redis-server", "--unixsocket", path, *settings], cwd=path.parent
        ).wait_for_socket(path)
        self._client = redis.Redis(unix_socket_path=str(path), socket_timeout=load.timeout)
        self._stack.callback(self._client.close)

    def connect(self, load: Load) -> Call:
        return lambda _, argument: self._client.echo(argument)


class Grpc(Peer):
    """Both sides are grpcio; messages are bytes, so that no Protocol Buffers take time."""

    name = "gRPC (Python server)"
    needs_packages = ("grpc",)

    def start(self, load: Load) -> None:
        import grpc  # noqa: PLC0415 - optional

        server, path = start_module(self._stack, "grpc_server", str(load.workers))
        server.wait_for_socket(path)
        unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        channel = self._stack.enter_context(grpc.insecure_channel(f"unix:{path}", options=unlimited))
        self._methods = {name: channel.unary_unary(f"/work/{name}") for name in self.methods}

    def connect(self, load: Load) -> Call:
        methods = self._methods
        return lambda method, argument: (
            methods[method](encode(method, argument), timeout=load.timeout) or None
        )


class Http(Peer):
    """bench/http_echo.cpp: cpp-httplib, over TCP on the loopback interface, keep-alive, TCP_NODELAY."""

    def start(self, load: Load) -> None:
        program = PROGRAMS / "http_echo"
        self._server = Process(self._stack, [program, str(load.workers)], stdout=subprocess.PIPE)
        assert self._server.process.stdout is not None
        self.port = int(self._server.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def unfit(self, load: Load) -> str | None:
        if not Path(PROGRAMS / "http_echo").exists():
            return "its server was not built: libcpp-httplib-dev is not installed"
        return super().unfit(load)

    def measure_in_turn(self, load: Load, seconds: float) -> Figures:
        """Stopped between its turns: while it waits, cpp-httplib looks at each connection every 10 ms."""
        self._server.process.send_signal(signal.SIGCONT)
        try:
            return self.measure(load, seconds)
        finally:
            self._server.process.send_signal(signal.SIGSTOP)

    @staticmethod
    def body(method: str, argument: Any) -> bytes:
        return argument if method == "echo" else repr(argument).encode()


class HttpClient(Http):
    name = "http.client to C++ HTTP"

    def connect(self, load: Load) -> Call:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=load.timeout)
        self._stack.callback(connection.close)

        def call(method: str, argument: Any) -> Any:
            connection.request("POST", f"/{method}", self.body(method, argument))
            return connection.getresponse().read() or None

        return call


class Requests(Http):
    name = "requests to C++ HTTP"
    needs_packages = ("requests",)

    def connect(self, load: Load) -> Call:
        import requests  # noqa: PLC0415 - optional

        session = self._stack.enter_context(requests.Session())

        def call(method: str, argument: Any) -> Any:
            body = self.body(method, argument)
            response = session.post(f"{self.url}/{method}", data=body, timeout=load.timeout)
            response.raise_for_status()
            return response.content or None

        return call


class Httpx(Http):
    name = "httpx to C++ HTTP"
    needs_packages = ("httpx",)

    def connect(self, load: Load) -> Call:
        import httpx  # noqa: PLC0415 - optional

        client = self._stack.enter_context(httpx.Client(timeout=load.timeout))

        def call(method: str, argument: Any) -> Any:
            response = client.post(f"{self.url}/{method}", content=self.body(method, argument))
            response.raise_for_status()
            return response.content or None

        return call
