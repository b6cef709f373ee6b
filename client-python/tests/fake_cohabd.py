"""Stands for the server program: the same command line, the same signals, and an engine that echoes.

The engine's name chooses what it does: "echo" serves; "broken" fails to load; "slow" never serves;
"stubborn" ignores SIGTERM. Its method "argv" tells the command line, and "exit" ends it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from typing import Any

from msgpack import packb, unpackb


def main() -> None:
    words = sys.argv[1:]
    rest = words[words.index("--") :] if "--" in words else []
    own = words[: len(words) - len(rest)]
    for switch in ("--remove-directory", "--core", "--quarantine-timeouts"):
        if switch in own:
            own.remove(switch)
    options = dict(zip(own[:-1:2], own[1:-1:2]))
    engine = own[-1]
    path = options["--socket"]
    print(f"fake: loading {engine}", file=sys.stderr, flush=True)
    if engine == "broken":
        print("fake: cannot load broken: no such dictionary", file=sys.stderr, flush=True)
        sys.exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if engine == "stubborn" else lambda *_: leave(path))
    threading.Thread(target=watch_lifeline, args=(int(options["--lifeline-fd"]), path), daemon=True).start()
    if engine == "slow":
        signal.pause()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(16)
    print("fake: serving", flush=True)
    print("2026-11-24 12:00:00.000 cohabd[1] warn  worker 1 died", flush=True)
    print("2026-11-24 12:00:00.000 cohabd[1] info  worker 2: a b cohabd[1] error lies", flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


def leave(path: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody reads the log of a server whose owner is dead
        print("fake: stopped", file=sys.stderr, flush=True)
    os.unlink(path)
    os.rmdir(os.path.dirname(path))
    os._exit(0)


def watch_lifeline(fd: int, path: str) -> None:
    os.read(fd, 1)
    leave(path)


def serve(connection: socket.socket) -> None:
    stream = connection.makefile("rb")
    while header := stream.read(4):
        _, msgid, method, params, _ = unpackb(stream.read(int.from_bytes(header, "big")))
        body = packb([1, msgid, None, answer(method, params)])
        connection.sendall(len(body).to_bytes(4, "big") + body)


def answer(method: str, params: list[Any]) -> Any:
    if method == "argv":
        return sys.argv[1:]
    if method == "exit":
        os._exit(3)
    return params


if __name__ == "__main__":
    main()
