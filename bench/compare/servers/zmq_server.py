"""REP workers: python -m compare.servers.zmq_server SOCKET WORKERS

One answers at the socket by itself; several stand behind a proxy, as ZeroMQ's guide has it.
"""

from __future__ import annotations

import multiprocessing
import sys

import zmq

from .. import work
from ..peers.sockets import SECONDS


def serve(address: str, bind: bool) -> None:
    replier = zmq.Context().socket(zmq.REP)
    (replier.bind if bind else replier.connect)(address)
    while True:
        method, argument = replier.recv_multipart()
        if method == b"echo":
            replier.send(argument)
        else:
            work.FUNCTIONS[method.decode()](SECONDS.unpack(argument)[0])
            replier.send(b"")


def main() -> None:
    path, workers = sys.argv[1], int(sys.argv[2])
    if workers == 1:
        serve(f"ipc://{path}", bind=True)
    inner = f"ipc://{path}.workers"
    for _ in range(workers):
        multiprocessing.Process(target=serve, args=(inner, False), daemon=True).start()
    context = zmq.Context()
    back, front = context.socket(zmq.DEALER), context.socket(zmq.ROUTER)
    back.bind(inner)
    front.bind(f"ipc://{path}")
    zmq.proxy(front, back)


if __name__ == "__main__":
    main()
