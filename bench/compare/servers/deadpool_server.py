"""A Deadpool behind a Unix socket: python -m compare.servers.deadpool_server SOCKET WORKERS"""

from __future__ import annotations

import signal
import sys
from functools import partial

import deadpool
from deadpool.remote import DeadpoolServer, PickleSerializer, RemoteLimits, UnixListener

# Client and server must agree. The server reserves a largest result for every call that runs.
MESSAGE = 80 << 20  # 64 MiB and what is around it
RESERVED = 64 * MESSAGE
LIMITS = RemoteLimits(
    max_message_bytes=MESSAGE,
    max_invocation_bytes=MESSAGE,
    max_result_bytes=MESSAGE,
    max_retained_outcome_bytes_per_session=RESERVED,
    max_retained_outcome_bytes_global=RESERVED,
)


def main() -> None:
    path, workers = sys.argv[1], int(sys.argv[2])
    pool = partial(deadpool.Deadpool, max_workers=workers, min_workers=workers)
    server = DeadpoolServer(
        pool, listeners=[UnixListener(path)], serializer=PickleSerializer(), limits=LIMITS
    )
    server.start()
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    server.shutdown()


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
