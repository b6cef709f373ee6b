"""A gRPC server with a thread for each worker: python -m compare.servers.grpc_server SOCKET WORKERS

The work runs without the GIL, so that threads do as well as processes.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from .. import work
from ..peers.sockets import SECONDS


class Handler(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method.rpartition("/")[2]

        def run(request: bytes, context: grpc.ServicerContext) -> bytes:
            if method == "echo":
                return request
            work.FUNCTIONS[method](SECONDS.unpack(request)[0])
            return b""

        return grpc.unary_unary_rpc_method_handler(run)


def main() -> None:
    path, workers = sys.argv[1], int(sys.argv[2])
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    server = grpc.server(ThreadPoolExecutor(workers), handlers=[Handler()], options=unlimited)
    server.add_insecure_port(f"unix:{path}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
