"""cohab, from C and from Python, and the raw sockets that it is measured against."""

from __future__ import annotations

import socket
import struct
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import cohab
import msgpack

from ..figures import Figures
from ..processes import COHABD, PROGRAMS, Process, directory, engine, ping, ping_figures, start_cohabd
from .base import Call, Load, Peer

# What comes in one recv() from a Unix socket that sent it by one send().
ONE_RECEIVE = 16 * 1024
HEADER = struct.Struct(">I")


def start_raw_echo(peer: Peer, load: Load) -> Path:
    path = directory(peer._stack) / "s"
    Process(peer._stack, [PROGRAMS / "raw_echo", path, str(load.threads)]).wait_for_socket(path)
    return path


class FromC(Peer):
    """Called by bench/ping instead of Python threads."""

    raw = False
    _path: Path

    def connect(self, load: Load) -> Call:
        def call(method: str, argument: Any) -> Any:
            self._ping(load, "--calls", "1")
            return argument if method == "echo" else None  # ping has checked it

        return call

    def open(self, load: Load) -> None:
        self.start(load)
        self.connect(load)(load.method, load.argument)

    def measure(self, load: Load, seconds: float) -> Figures:
        return ping_figures(self._ping(load, "--duration", str(seconds)))

    def _ping(self, load: Load, *options: str) -> dict[str, Any]:
        work = (
            ["--payload", str(load.payload)]
            if load.method == "echo"
            else [f"--{load.method}", str(load.seconds)]
        )
        warmup = "1" if load.payload > 1 << 20 or load.method != "echo" else "100"
        raw = ["--raw"] if self.raw else []
        threads = str(load.threads)
        return ping(self._path, "--connections", threads, "--warmup", warmup, *work, *raw, *options)


class RawC(FromC):
    name = "raw socket, C"
    raw = True
    methods = ("echo",)
    why_no_work = "a raw echo does no work"

    def start(self, load: Load) -> None:
        self._path = start_raw_echo(self, load)


def variant(workers: int | None, spin_us: int) -> str:
    """What a peer's name says of how it differs from cohab as it is."""
    return (f", {workers} workers" if workers else "") + (f", --spin-us {spin_us}" if spin_us else "")


class CohabC(FromC):
    name = "cohab, C"

    def __init__(self, workers: int | None = None, spin_us: int = 0) -> None:
        """`workers` instead of the load's."""
        super().__init__()
        self._workers = workers
        self._spin_us = spin_us
        self.name += variant(workers, spin_us)

    def start(self, load: Load) -> None:
        options = ["--spin-us", str(self._spin_us)]
        _, self._path = start_cohabd(self._stack, engine("echo"), self._workers or load.workers, *options)


class RawPython(Peer):
    """The least that Python can do: packb, one sendall, one recv (more for large replies), unpackb."""

    name = "raw socket + msgpack"
    methods = ("echo",)
    why_no_work = "a raw echo does no work"

    def start(self, load: Load) -> None:
        self._path = start_raw_echo(self, load)

    def connect(self, load: Load) -> Call:
        connection = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        connection.connect(str(self._path))
        return small_raw_call(connection) if load.payload < ONE_RECEIVE else large_raw_call(connection)


def small_raw_call(connection: socket.socket) -> Call:
    pack, unpack, header = msgpack.packb, msgpack.unpackb, HEADER.pack

    def call(method: str, argument: Any) -> Any:
        body = pack([0, 1, method, [argument], {"deadline": time.monotonic_ns() + 30_000_000_000}])
        connection.sendall(header(len(body)) + body)
        return unpack(connection.recv(65536)[4:])[3][0]  # the request, echoed

    return call


def large_raw_call(connection: socket.socket) -> Call:
    pack, unpack = msgpack.packb, msgpack.unpackb

    def call(method: str, argument: Any) -> Any:
        body = pack([0, 1, method, [argument], {"deadline": time.monotonic_ns() + 30_000_000_000}])
        connection.sendall(HEADER.pack(len(body)))
        connection.sendall(body)
        (size,) = HEADER.unpack(connection.recv(4, socket.MSG_WAITALL))
        reply = bytearray(size)
        rest = memoryview(reply)
        while rest:
            rest = rest[connection.recv_into(rest) :]
        return unpack(reply, max_bin_len=size)[3][0]

    return call


class CohabPython(Peer):
    """The client package; one client for all threads."""

    name = "cohab"

    def __init__(self, engine_name: str = "echo", workers: int | None = None, spin_us: int = 0) -> None:
        """`workers` instead of the load's."""
        super().__init__()
        self._engine = engine(engine_name)
        self._workers = workers
        self._spin_us = spin_us
        self.name += variant(workers, spin_us)

    def start(self, load: Load) -> None:
        pool = cohab.Pool(
            self._engine,
            workers=self._workers or load.workers,
            cohabd=str(COHABD),
            timeout=load.timeout,
            spin_us=self._spin_us,
            log_level="error",
        )
        self.client = self._stack.enter_context(closing(pool))

    def connect(self, load: Load) -> Call:
        return self.client.call
