"""All peers, in the order in which they take their turns."""

from __future__ import annotations

from .base import Load, Peer
from .cohab_and_raw import CohabC, CohabPython, RawC, RawPython
from .python_pools import InProcess, InProcessWithGil, Loky, Pipe, ProcessPool
from .rivals import Deadpool, DirtyArbiter
from .sockets import Grpc, HttpClient, Httpx, Redis, Requests, Zmq

__all__ = [
    "PACKAGES",
    "CohabC",
    "CohabPython",
    "Deadpool",
    "DirtyArbiter",
    "Load",
    "Loky",
    "Peer",
    "ProcessPool",
    "RawC",
    "RawPython",
    "all_peers",
]

PACKAGES = [
    "msgpack",
    "pyzmq",
    "redis",
    "grpcio",
    "requests",
    "httpx",
    "loky",
    "gunicorn",
    "deadpool-executor",
]


def all_peers() -> list[Peer]:
    return [
        RawC(),
        CohabC(),
        RawPython(),
        CohabPython(),
        InProcess(),
        InProcessWithGil(),
        Pipe(),
        Redis(),
        HttpClient(),
        Zmq(),
        ProcessPool(),
        Loky(),
        Grpc(),
        Requests(),
        Httpx(),
        DirtyArbiter(),
        Deadpool(),
    ]
