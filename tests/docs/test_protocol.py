"""docs/protocol.md against a real server: every example byte for byte, and what its tables say."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import pytest
from docs_blocks import Block, blocks_of, rows_under
from docs_server import TIMEOUT, Server, running_server, wait_until

PAGE = "protocol.md"
HEX_BLOCKS = [block for block in blocks_of(PAGE) if block.language == "hex"]
EXAMPLES = sorted({block.words[1] for block in HEX_BLOCKS})


# ---- bytes


def bytes_of(block: Block) -> bytes:
    return bytes.fromhex("".join(line.split("#")[0] for line in block.text.splitlines()))


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = sock.recv(size - len(data))
        if not part:
            break
        data += part
    return data


def receive(sock: socket.socket) -> Any:
    size = int.from_bytes(receive_exactly(sock, 4), "big")
    return msgpack.unpackb(receive_exactly(sock, size), strict_map_key=False)


def at_end(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


def frame(*parts: Any) -> bytes:
    body: bytes = msgpack.packb(list(parts))
    return len(body).to_bytes(4, "big") + body


def frames_in(data: bytes) -> Iterator[bytes]:
    """The bodies; what claims to be longer than the data is a length alone."""
    while data:
        size = int.from_bytes(data[:4], "big")
        yield data[4 : 4 + size]
        data = data[4 + size :]


def ask(sock: socket.socket, method: str, *params: Any, meta: Any = None) -> Any:
    """Send a request; the error or the result of its response."""
    sock.sendall(frame(0, 1, method, params, *([] if meta is None else [meta])))
    _, _, error, result = receive(sock)
    return error if error is not None else result


# ---- the examples


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str, directory: Path) -> None:
    steps = [block for block in HEX_BLOCKS if block.words[1] == name]
    assert steps[0].words[0] == "request"
    admin = "admin" in steps[0].words
    with running_server(directory, "--crash-keep", "0") as server, server.connect(admin=admin) as sock:
        for block in steps:
            if block.words[0] == "request":
                send_example(server, sock, block)
            else:
                expect_example(sock, block)


def send_example(server: Server, sock: socket.socket, block: Block) -> None:
    data, words = bytes_of(block), block.words[2:]
    assert set(words) <= {"half-close", "kill", "admin"}, f"{PAGE}:{block.line}"
    sock.sendall(data)
    if "half-close" in words:
        sock.shutdown(socket.SHUT_WR)
    if "kill" in words:
        method = msgpack.unpackb(next(frames_in(data)))[2]
        os.kill(server.wait_running(method), signal.SIGKILL)


def expect_example(sock: socket.socket, block: Block) -> None:
    expected, words = bytes_of(block), block.words[2:]
    assert set(words) <= {"closed"}, f"{PAGE}:{block.line}"
    assert receive_exactly(sock, len(expected)).hex(" ") == expected.hex(" "), f"{PAGE}:{block.line}"
    if "closed" in words:
        assert at_end(sock)


@pytest.mark.parametrize("block", HEX_BLOCKS, ids=lambda block: f"{block.words[1]}-{block.words[0]}")
def test_comments_beside_the_bytes(block: Block) -> None:
    """The lengths and the strings in the comments are those in the bytes."""
    lengths = [len(body) for body in frames_in(bytes_of(block))]
    claimed = [int(text) for text in re.findall(r"length of the body: (\d+)", block.text)]
    if block.words[1] != "too-long":
        assert claimed == lengths
    for text in re.findall(r'"([^"]*)"', block.text):
        assert text.encode() in bytes_of(block), text


# ---- the minimal client


def minimal_client(path: str) -> Any:
    (block,) = (block for block in blocks_of(PAGE) if "minimal-client" in block.words)
    names: dict[str, Any] = {}
    exec(compile(block.text, f"{PAGE}:{block.line}", "exec"), names)
    client = names["Client"](path)
    client.CallFailed = names["CallFailed"]
    return client


def failure_of(client: Any, *call: Any, **options: Any) -> dict[str, Any]:
    with pytest.raises(client.CallFailed) as caught:
        client.call(*call, **options)
    error: dict[str, Any] = caught.value.args[0]
    return error


def test_minimal_client(directory: Path) -> None:
    with running_server(directory) as server:
        client = minimal_client(server.path)
        assert client.call("echo", {"a": [1, None]}) == {"a": [1, None]}
        sock = client.sock
        assert client.call("blob", 1_000_000)[:3] == b"\0\1\2"
        assert failure_of(client, "nope")["reason"] == "NO_SUCH_METHOD"
        assert client.sock is sock
        assert failure_of(client, "sleep", 30, timeout=0.1)["reason"] == "DEADLINE"
        assert client.call("echo", 5) == 5
        # The server refuses this before all of it is sent.
        assert failure_of(client, "echo", bytes(70 << 20))["reason"] == "TOO_LONG"
        assert not client.sock
        assert client.call("echo", 6) == 6
        client.sock.close()


def test_minimal_client_never_reads_a_late_reply(directory: Path) -> None:
    with running_server(directory) as server:
        client = minimal_client(server.path)
        client.call("echo", 1)
        os.kill(server.process.pid, signal.SIGSTOP)
        worker = server_worker(server)
        os.kill(worker, signal.SIGSTOP)
        try:
            with pytest.raises(TimeoutError):
                client.call("echo", "late", timeout=0.1)
        finally:
            os.kill(server.process.pid, signal.SIGCONT)
            os.kill(worker, signal.SIGCONT)
        assert client.call("echo", "mine") == "mine"
        client.sock.close()


def server_worker(server: Server) -> int:
    """The pid of its only worker, while the master cannot answer."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        is_child = f"PPid:\t{server.process.pid}\n" in _read(f"/proc/{name}/status")
        if is_child and "worker 1" in _read(f"/proc/{name}/cmdline"):
            return int(name)
    raise AssertionError("no worker")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


# ---- the table of codes and reasons


class Outcome(NamedTuple):
    code: str
    reason: str
    executed: bool
    retry: bool


def outcome(error: Any) -> Outcome:
    assert set(error) == {"code", "reason", "message", "executed", "retry", "details"}
    return Outcome(error["code"], error["reason"], error["executed"], error["retry"])


def in_table(found: Outcome, idempotent: bool = False) -> bool:
    for code, reason, executed, retry, *_ in rows_under(PAGE, "| code | reason | ex |"):
        flags = (executed == "true", idempotent if retry == "idem" else retry == "true")
        if (code, *flags) == (found.code, found.executed, found.retry) and reason.startswith(found.reason):
            return True
    return False


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("reason", "executed", "method", "params", "meta"),
    [
        ("BAD_ARGUMENT", False, "sleep", ["x"], None),
        ("BAD_ARGUMENT", False, "echo", [], None),
        ("BAD_ARGUMENT", True, "sleep", [-1], None),
        ("TOO_DEEP", False, "echo", [nested(31)], None),
        ("NO_SUCH_METHOD", False, "cohab.nothing", [], None),
        ("QUEUE_TIMEOUT", False, "echo", [1], {"deadline": 1}),
        ("QUEUE_TIMEOUT", False, "echo", [1], {"timeout": 0}),
        ("DEADLINE", True, "sleep", [30], {"timeout": 0.05}),
        ("DEADLINE", True, "sleep", [30], {"timeout": 100, "deadline": 10**9}),
        ("RESULT_TOO_LARGE", True, "blob", [1 << 20], None),
    ],
)
def test_codes(  # noqa: PLR0917 - a table
    reason: str, executed: bool, method: str, params: list[Any], meta: Any, directory: Path
) -> None:
    if meta and meta.get("deadline", 0) > 1:
        meta = {**meta, "deadline": time.monotonic_ns() + 500_000_000}
    with running_server(directory, "--max-frame", "1M") as server, server.connect() as sock:
        found = outcome(ask(sock, method, *params, meta=meta))
    assert (found.reason, found.executed) == (reason, executed)
    assert in_table(found, idempotent=True), found


@pytest.mark.parametrize(
    ("reason", "data"),
    [
        ("BAD_FRAME", bytes(4)),
        ("BAD_FRAME", b"\0"),
        ("BAD_FRAME", frame(0, 1, "echo", [1])[:-1]),
        ("TOO_LONG", b"\xff\xff\xff\xff"),
        ("BAD_REQUEST", frame(0, "id", "echo", [1])),
        ("BAD_REQUEST", frame(0, 1 << 32, "echo", [1])),
        ("BAD_REQUEST", frame(1, 1, None, 1)),
    ],
)
def test_connection_errors(reason: str, data: bytes, directory: Path) -> None:
    with running_server(directory, "--io-timeout", "0.1") as server, server.connect() as sock:
        sock.sendall(data)
        kind, msgid, error, result = receive(sock)
        assert (kind, msgid, result) == (1, None, None)
        assert outcome(error).reason == reason
        assert in_table(outcome(error))
        assert at_end(sock)


@pytest.mark.parametrize("meta", [None, [], {"timeout": -1}, {"timeout": math.nan}, {"deadline": 1.5}])
def test_bad_meta_closes(meta: Any, directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        sock.sendall(frame(0, 9, "echo", [1], meta))
        _, msgid, error, _ = receive(sock)
        assert (msgid, error["reason"]) == (9, "BAD_REQUEST")
        assert at_end(sock)


@pytest.mark.parametrize(
    "meta", [{}, {"timeout": math.inf}, {"timeout": 5}, {"sent": "x", "new": [1], 7: 8, "traceparent": None}]
)
def test_good_meta(meta: Any, directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        assert ask(sock, "echo", "x", meta=meta) == "x"


def test_too_many_connections(directory: Path) -> None:
    with running_server(directory, "--max-connections", "1") as server:
        wait_until(lambda: server.status()["connections"]["open"] == 0, "the first ping's connection is gone")
        with server.connect() as sock, server.connect() as second:
            assert ask(sock, "echo", 1) == 1
            _, msgid, error, _ = receive(second)
            assert msgid is None
            assert in_table(outcome(error)), error
            assert error["reason"] == "TOO_MANY_CONNECTIONS"
            assert at_end(second)


def test_stopping(directory: Path) -> None:
    """New requests are refused, the running call may finish, then everything is closed."""
    with running_server(directory, workers=2) as server, server.connect() as busy, server.connect() as sock:
        assert ask(sock, "echo", 1) == 1
        busy.sendall(frame(0, 1, "sleep", [1.0]))
        server.wait_running("sleep")
        server.process.terminate()
        wait_until(lambda: server.status()["server"]["state"] == "stopping", "the server is stopping")
        found = outcome(ask(sock, "echo", 2))
        assert found == ("UNAVAILABLE", "STOPPING", False, True)
        assert in_table(found)
        assert receive(busy)[1:] == [1, None, None]
        assert at_end(busy)
        assert at_end(sock)


def test_stopped_in_mid_call(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        sock.sendall(frame(0, 1, "sleep", [30]))
        server.wait_running("sleep")
        server.process.send_signal(signal.SIGQUIT)
        _, msgid, error, _ = receive(sock)
        assert msgid == 1
        assert outcome(error) == ("UNAVAILABLE", "STOPPING", True, True)
        assert in_table(outcome(error), idempotent=True)
        assert at_end(sock)


def test_death_with_pipelined_requests(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        sock.sendall(frame(0, 1, "sleep", [30]) + frame(0, 2, "echo", [2]) + frame(0, 3, "echo", [3]))
        os.kill(server.wait_running("sleep"), signal.SIGKILL)
        _, msgid, error, _ = receive(sock)
        assert (msgid, error["reason"]) == (1, "ENGINE_CRASHED")
        assert in_table(outcome(error), idempotent=True)
        assert at_end(sock)


def test_death_with_a_request_still_in_the_socket(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        sock.sendall(frame(0, 1, "sleep", [30]))
        pid = server.wait_running("sleep")
        sock.sendall(frame(0, 2, "echo", [2]))
        os.kill(pid, signal.SIGKILL)
        assert receive(sock)[2]["reason"] == "ENGINE_CRASHED"
        assert receive(sock) == [1, 2, None, 2]


def test_closing_cancels(directory: Path) -> None:
    """What runs is told so, and what waits is not run at all."""
    with running_server(directory) as server:
        with server.connect() as sock, server.connect() as other:
            sock.sendall(frame(0, 1, "sleep", [30]))
            server.wait_running("sleep")
            other.sendall(frame(0, 1, "spin", [30]))
        wait_until(lambda: server.status()["workers"][0]["state"] == "idle", "the call has ended")
        assert server.status()["totals"]["worker_deaths"] == 0


# ---- limits and types


@pytest.mark.parametrize("depth", [0, 1, 30])
def test_nesting_that_is_allowed(depth: int, directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        assert ask(sock, "echo", nested(depth)) == nested(depth)


@pytest.mark.parametrize("room", [0, -1])
def test_max_frame_is_about_the_body(room: int, directory: Path) -> None:
    request = frame(0, 1, "echo", [bytes(1000)])
    limit = len(request) - 4 + room
    with running_server(directory, "--max-frame", str(limit)) as server, server.connect() as sock:
        sock.sendall(request)
        error = receive(sock)[2]
    assert (error is None) == (room == 0)
    assert error is None or error["reason"] == "TOO_LONG"


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -(2**63),
        2**64 - 1,
        1.5,
        math.inf,
        "žluťoučký",
        b"\0\xff",
        [1, [2, []]],
        {"a": 1, 2: None, b"k": True},
        msgpack.ExtType(5, b"abc"),
        msgpack.Timestamp(1, 2),
    ],
    ids=repr,
)
def test_values_that_travel(value: Any, directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        back = ask(sock, "echo", value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", [True, "1", b"1", None, [1.0]], ids=repr)
def test_values_that_are_no_float(value: Any, directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        assert ask(sock, "sleep", value)["reason"] == "BAD_ARGUMENT"


def test_any_encoding_of_a_number(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        for seven in ("07", "cc07", "cd0007", "ce00000007", "cf0000000000000007"):
            body = bytes.fromhex(f"94 00 {seven} d904 6563686f dc0001 {seven}")
            sock.sendall(len(body).to_bytes(4, "big") + body)
            assert receive(sock) == [1, 7, None, 7]


def test_a_str_is_not_checked(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        body = bytes.fromhex("94 00 01 a4 6563686f 91 a1 ff")
        sock.sendall(len(body).to_bytes(4, "big") + body)
        size = int.from_bytes(receive_exactly(sock, 4), "big")
        assert receive_exactly(sock, size).endswith(b"\xa1\xff")


# ---- built-in methods and the admin socket


def test_builtin_methods(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as sock:
        assert ask(sock, "cohab.ping") == []
        methods = ask(sock, "cohab.methods")
        assert [method["name"] for method in methods] == ["echo", "sleep", "spin", "blob"]
        for method in methods:
            assert set(method) == {"name", "signature", "doc", "flags"}
            assert method["flags"] == ["idempotent"]
        version = ask(sock, "cohab.version")
        assert set(version) == {"cohab", "protocol", "engine", "engine_version"}
        assert version["protocol"] == 1


def paths_in(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All keys of the status, as the page writes them."""
    if isinstance(value, list):
        for item in value:
            yield from paths_in(item, f"{path}[]")
    elif isinstance(value, dict):
        for key, item in value.items():
            inner = f"{path}.{key}" if path else key
            yield inner, item
            yield from paths_in(item, inner)


def type_of(value: Any) -> str:
    names = {int: "int", float: "float, s", str: "str", dict: "map", list: "array of map", type(None): "nil"}
    return names[type(value)]


def test_status_has_the_documented_fields(directory: Path) -> None:
    documented: dict[str, str] = {}
    for keys, kind, *_ in rows_under(PAGE, "| key | type | meaning |"):
        for key in re.findall(r"`([^`]+)`", keys):
            documented[key] = kind
    with running_server(directory) as server, server.connect() as busy, server.connect(admin=True) as admin:
        busy.sendall(frame(0, 1, "sleep", [30]))
        os.kill(server.wait_running("sleep"), signal.SIGKILL)
        receive(busy)
        busy.sendall(frame(0, 1, "sleep", [30]))
        server.wait_running("sleep")
        status = ask(admin, "status")
    found = list(paths_in(status))
    assert status["version"] == 1
    status_keys = {key for key in documented if key.split(".")[0].split("[")[0] in status}
    assert {key for key, _ in found} == status_keys
    for key, value in found:
        allowed = re.sub(r",? or nil$", "|nil", documented[key]).split("|")
        assert type_of(value) in allowed, (key, value, documented[key])


def test_status_answers_while_all_workers_are_busy(directory: Path) -> None:
    with running_server(directory) as server, server.connect() as busy, server.connect(admin=True) as admin:
        busy.sendall(frame(0, 1, "sleep", [30]))
        server.wait_running("sleep")
        (worker,) = ask(admin, "status")["workers"]
        assert (worker["state"], worker["method"]) == ("busy", "sleep")


@pytest.mark.parametrize("params", [[], [False], [True]], ids=repr)
def test_stop(params: list[bool], directory: Path) -> None:
    with running_server(directory) as server, server.connect(admin=True) as admin:
        assert ask(admin, "stop", *params) is None
        assert at_end(admin)
        assert server.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("method", "params", "reason"), [("stop", [1], "BAD_ARGUMENT"), ("cohab.ping", [], "NO_SUCH_METHOD")]
)
def test_admin_errors(method: str, params: list[Any], reason: str, directory: Path) -> None:
    with running_server(directory) as server, server.connect(admin=True) as admin:
        assert in_table(outcome(ask(admin, method, *params)))
        assert ask(admin, method, *params)["reason"] == reason
        assert oct(os.stat(server.path + ".ctl").st_mode & 0o777) == "0o600"


@pytest.mark.parametrize("data", [bytes(4), b"\0\0\x10\x01", frame(1, 2, 3)], ids=["empty", "long", "other"])
def test_admin_closes_without_a_word(data: bytes, directory: Path) -> None:
    with running_server(directory) as server, server.connect(admin=True) as admin:
        admin.sendall(data)
        assert at_end(admin)


def test_admin_connections_are_few(directory: Path) -> None:
    with running_server(directory) as server:
        admins = [server.connect(admin=True) for _ in range(16)]
        try:
            for admin in admins:
                assert ask(admin, "status")["version"] == 1
            with server.connect(admin=True) as one_more:
                assert at_end(one_more)
        finally:
            for admin in admins:
                admin.close()
