"""The protocol on the wire: byte for byte, in pieces, in one go, and what hostile clients send."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cohab
import msgpack
import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import children_of, resident_memory, state_of, wait_until
from wire import HEADER, Raw, deadline_in, frame, pack, request

BLOB_PERIOD = 251
ERROR_KEYS = {"code", "message", "reason", "executed", "retry", "details"}


def blob(size: int) -> bytes:
    return (bytes(range(BLOB_PERIOD)) * (size // BLOB_PERIOD + 1))[:size]


def check_error(
    error: object, code: str, reason: str, *, executed: bool = False, retry: bool = False
) -> None:
    assert isinstance(error, dict)
    assert set(error) == ERROR_KEYS
    assert (error["code"], error["reason"], error["executed"], error["retry"]) == (
        code,
        reason,
        executed,
        retry,
    )
    assert error["message"]


def assert_serves(server: Server) -> None:
    """All workers are still there, and answer."""
    status = server.status()
    assert status["totals"]["worker_deaths"] == 0
    for _ in range(len(status["workers"])):
        assert server.client().call("echo", "still here") == "still here"


# ---- byte for byte


def test_bytes_of_an_echo(start: StartServer) -> None:
    raw = start("echo").raw()
    raw.send(bytes.fromhex("0000000f 94 00 07 a4 6563686f 91 a5 68656c6c6f".replace(" ", "")))
    expected = bytes.fromhex("0000000e 94 01 ce00000007 c0 a5 68656c6c6f".replace(" ", ""))
    assert raw.receive_exactly(len(expected)) == expected
    assert raw.is_silent()


def test_bytes_of_an_error(start: StartServer) -> None:
    raw = start("echo").raw()
    raw.send(bytes.fromhex("00000007 94 00 01 a2 6e6f 90".replace(" ", "")))
    body = raw.receive_body()
    assert body[:4] == bytes.fromhex("94010186")
    assert body[-1:] == b"\xc0"
    value = msgpack.unpackb(body)
    check_error(value[2], "UNIMPLEMENTED", "NO_SUCH_METHOD")
    assert value[2]["details"] == {}


@pytest.mark.parametrize(
    "head",
    ["94 00 07", "94 00 cc07", "94 00 cd0007", "dc0004 00 ce00000007", "dd00000004 cc00 cf0000000000000007"],
)
def test_any_form_of_a_number_will_do(start: StartServer, head: str) -> None:
    raw = start("echo").raw()
    raw.send(frame(bytes.fromhex(head.replace(" ", "")) + b"\xd9\x04echo\xdc\x00\x01\x01"))
    assert raw.receive() == (7, None, 1)


@pytest.mark.parametrize("msgid", [0, 1, 127, 128, 65536, 2**32 - 1])
def test_msgid_comes_back(start: StartServer, msgid: int) -> None:
    raw = start("echo").raw()
    raw.send(request("echo", "x", msgid=msgid))
    assert raw.receive() == (msgid, None, "x")
    raw.send(request("nothing", msgid=msgid))
    assert raw.receive().msgid == msgid


def test_meta(start: StartServer) -> None:
    raw = start("fault").raw()
    assert raw.call("deadline_left", meta={"timeout": 7.5}).result == pytest.approx(7.5, abs=2)
    assert raw.call("deadline_left", meta={"timeout": 8}).result == pytest.approx(8, abs=2)
    assert raw.call("deadline_left", meta=deadline_in(9)).result == pytest.approx(9, abs=2)
    assert raw.call("deadline_left", meta={}).result == pytest.approx(30, abs=2)
    assert raw.call("deadline_left").result == pytest.approx(30, abs=2)
    unknown: dict[Any, Any] = {"traceparent": "00-0-0-00", "sent": 1, "later": [1, {"x": None}], 7: 8}
    assert raw.call("deadline_left", meta=unknown).result == pytest.approx(30, abs=2)
    both = {**deadline_in(5), "timeout": 20.0}
    assert raw.call("deadline_left", meta=both).result == pytest.approx(5, abs=2)
    for long in ({"timeout": 1e300}, {"timeout": float("inf")}, {"deadline": 2**64 - 1}, deadline_in(9999)):
        assert raw.call("deadline_left", meta=long).result == pytest.approx(300, abs=2)


# ---- in pieces and in one go


def test_pipelined_requests(start: StartServer) -> None:
    raw = start("echo").raw()
    count = 2000
    raw.send(b"".join(request("echo", f"number {i}", msgid=i) for i in range(count)))
    for i in range(count):
        assert raw.receive() == (i, None, f"number {i}")


def test_pipelined_requests_larger_than_one_receive(start: StartServer) -> None:
    raw = start("echo").raw()
    values = [bytes([i]) * size for i, size in enumerate([10, 65536, 100, 200_000, 1, 65532, 65500, 3])]

    def send() -> None:
        raw.send(b"".join(request("echo", value, msgid=i) for i, value in enumerate(values)))

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    for i, value in enumerate(values):
        assert raw.receive() == (i, None, value)
    sender.join()


def test_split_at_every_byte(start: StartServer) -> None:
    raw = start("echo").raw()
    message = request("echo", "cut in two", msgid=5) + request("echo", [1, "two"], msgid=6)
    for cut in range(1, len(message)):
        raw.send(message[:cut])
        time.sleep(0.0005)  # no condition to wait for: whether the pieces arrive apart is up to the kernel
        raw.send(message[cut:])
        assert raw.receive() == (5, None, "cut in two")
        assert raw.receive() == (6, None, [1, "two"])


def test_byte_by_byte(start: StartServer) -> None:
    raw = start("echo").raw()
    for byte in request("echo", "slowly", msgid=9):
        raw.send(bytes([byte]))
    assert raw.receive() == (9, None, "slowly")


def test_slow_but_steady(start: StartServer) -> None:
    """Each byte comes within --io-timeout, all of them do not."""
    raw = start("echo", "--io-timeout", "0.4").raw()
    for byte in request("echo", 1)[:8]:
        raw.send(bytes([byte]))
        time.sleep(0.15)
    raw.send(request("echo", 1)[8:])
    assert raw.receive().result == 1


def test_half_closed_client_is_served_to_the_end(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.send(
        request("echo", "one", msgid=1)
        + request("block", gate.path, "held", msgid=2)
        + request("pid", msgid=3)
    )
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.receive() == (1, None, "one")
    gate.pid_of("held")
    gate.release("held")
    assert raw.receive() == (2, None, "held")
    assert raw.receive().result == server.workers()[0]
    assert raw.at_end()
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="the connection is closed")


def test_half_closed_before_anything(start: StartServer) -> None:
    server = start("echo")
    raw = server.raw()
    raw.sock.shutdown(socket.SHUT_WR)
    assert raw.at_end()
    assert_serves(server)


def test_connections_are_given_back(start: StartServer) -> None:
    server = start("echo", "--max-connections", "8")
    for i in range(200):
        with server.raw() as raw:
            if i % 3 == 0:
                assert raw.call("echo", i).result == i
            elif i % 3 == 1:
                raw.send(request("echo", i))  # and away
        wait_until(lambda: server.status()["connections"]["open"] < 8, what="a free place")
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="all places free")
    assert_serves(server)


# ---- large payloads


def test_64_mib_both_ways(start: StartServer) -> None:
    client = start("echo").client(timeout=30)
    payload = blob(64 << 20)
    assert client.call("echo", payload) == payload
    assert client.call("blob", 64 << 20) == payload
    assert client.call("echo", 1) == 1


def test_64_mib_on_all_workers_at_once(start: StartServer) -> None:
    client = start("echo", workers=2).client(timeout=40)
    wanted = hashlib.sha256(blob(64 << 20)).digest()
    with ThreadPoolExecutor(3) as threads:
        for result in threads.map(lambda _: client.call("blob", 64 << 20), range(4)):
            assert hashlib.sha256(result).digest() == wanted


def test_exactly_max_frame(start: StartServer) -> None:
    server = start("echo", "--max-frame", "100K")
    overhead = len(pack([0, 1, "echo", [b"x" * 65536]])) - 65536
    most = 100 * 1024 - overhead
    raw = server.raw()
    raw.send(request("echo", b"x" * most))
    reply = raw.receive()  # a response has more around it than a request: it may not fit any more
    assert reply.ok or reply.reason == "RESULT_TOO_LARGE"
    assert raw.call("echo", b"x" * (most - 16)).result == b"x" * (most - 16)
    raw.send(request("echo", b"x" * (most + 1)))
    reply = raw.receive()
    assert reply.msgid is None
    check_error(reply.error, "INVALID_ARGUMENT", "TOO_LONG")
    assert raw.at_end()
    assert_serves(server)


def test_a_client_that_never_reads(start: StartServer) -> None:
    """One worker: it is free again when the client took nothing for --io-timeout."""
    server = start("echo", "--io-timeout", "0.3", workers=1)
    raw = server.raw()
    raw.ask("blob", 32 << 20)
    assert server.client().call("echo", "served") == "served"
    received = len(raw.receive_exactly(40 << 20))
    assert received < 32 << 20
    assert raw.at_end()
    assert_serves(server)


def test_many_clients_that_never_read(start: StartServer) -> None:
    server = start("echo", "--io-timeout", "0.2", workers=2)
    stuck = [server.raw() for _ in range(8)]
    for raw in stuck:
        raw.ask("blob", 2 << 20)
    assert server.client().call("echo", "served") == "served"
    server.wait_all_idle()
    assert_serves(server)


def test_a_slow_reader_gets_it_all(start: StartServer) -> None:
    raw = start("echo", "--io-timeout", "0.4").raw()
    raw.ask("blob", 4 << 20)
    size = HEADER.unpack(raw.receive_exactly(HEADER.size))[0]
    body = b""
    while len(body) < size:
        part = raw.receive_exactly(min(size - len(body), 256 << 10))
        assert part, "the server closed the connection of a client that reads"
        body += part
        time.sleep(0.05)  # 0.8 s in all, and never --io-timeout without reading
    assert msgpack.unpackb(body)[3] == blob(4 << 20)


# ---- what is no request


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (HEADER.pack(0), "BAD_FRAME"),
        (HEADER.pack(2**32 - 1), "TOO_LONG"),
        (HEADER.pack(2**31), "TOO_LONG"),
        (HEADER.pack((64 << 20) + (64 << 10) + 1), "TOO_LONG"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "TOO_LONG"),
    ],
)
def test_bad_length(start: StartServer, header: bytes, reason: str) -> None:
    server = start("echo")
    raw = server.raw()
    raw.send(header)
    reply = raw.receive()
    assert (reply.msgid, reply.result) == (None, None)
    check_error(reply.error, "INVALID_ARGUMENT", reason)
    assert raw.at_end()
    assert_serves(server)


FOUR_BILLION = b"\xdd\xff\xff\xff\xff"

BAD_BODIES = {
    "nothing but garbage": (b"\xc1", None, "BAD_REQUEST"),
    "not an array": (pack({"method": "echo"}), None, "BAD_REQUEST"),
    "an integer": (pack(7), None, "BAD_REQUEST"),
    "an empty array": (pack([]), None, "BAD_REQUEST"),
    "three elements": (pack([0, 7, "echo"]), None, "BAD_REQUEST"),
    "six elements": (pack([0, 7, "echo", [], {}, 1]), None, "BAD_REQUEST"),
    "a response": (pack([1, 7, None, "x"]), None, "BAD_REQUEST"),
    "a notification": (pack([2, "echo", [1]]), None, "BAD_REQUEST"),
    "msgid negative": (pack([0, -1, "echo", [1]]), None, "BAD_REQUEST"),
    "msgid too large": (pack([0, 2**32, "echo", [1]]), None, "BAD_REQUEST"),
    "msgid a string": (pack([0, "7", "echo", [1]]), None, "BAD_REQUEST"),
    "msgid nil": (pack([0, None, "echo", [1]]), None, "BAD_REQUEST"),
    "method an integer": (pack([0, 7, 8, [1]]), 7, "BAD_REQUEST"),
    "method bytes": (pack([0, 7, b"echo", [1]]), 7, "BAD_REQUEST"),
    "method cut": (b"\x94\x00\x07\xdb\xff\xff\xff\xffecho", 7, "BAD_REQUEST"),
    "params a map": (pack([0, 7, "echo", {"x": 1}]), 7, "BAD_REQUEST"),
    "params nil": (pack([0, 7, "echo", None]), 7, "BAD_REQUEST"),
    "params missing": (b"\x94\x00\x07\xa4echo", 7, "BAD_REQUEST"),
    "meta an array": (pack([0, 7, "echo", [1], []]), 7, "BAD_REQUEST"),
    "meta a deadline that is none": (pack([0, 7, "echo", [1], {"deadline": "now"}]), 7, "BAD_REQUEST"),
    "meta a negative deadline": (pack([0, 7, "echo", [1], {"deadline": -1}]), 7, "BAD_REQUEST"),
    "meta a timeout that is none": (pack([0, 7, "echo", [1], {"timeout": "5"}]), 7, "BAD_REQUEST"),
    "meta a negative timeout": (pack([0, 7, "echo", [1], {"timeout": -1.0}]), 7, "BAD_REQUEST"),
    "meta a timeout that is no number": (
        pack([0, 7, "echo", [1], {"timeout": float("nan")}]),
        7,
        "BAD_REQUEST",
    ),
    "trailing garbage": (pack([0, 7, "echo", [1]]) + b"\x00", 7, "BAD_FRAME"),
    "a second request": (pack([0, 7, "echo", [1]]) * 2, 7, "BAD_FRAME"),
    "params cut": (pack([0, 7, "echo", ["four"]])[:-1], 7, "BAD_FRAME"),
    "params with a byte that is never used": (b"\x94\x00\x07\xa4echo\x91\xc1", 7, "BAD_FRAME"),
    "four billion elements": (b"\x94\x00\x07\xa4echo" + FOUR_BILLION, 7, "BAD_FRAME"),
    "four billion elements within": (
        b"\x94\x00\x07\xa4echo\x91" + FOUR_BILLION + b"\x01\x02",
        7,
        "BAD_FRAME",
    ),
    "four billion entries": (b"\x94\x00\x07\xa4echo\x91\xdf\xff\xff\xff\xff", 7, "BAD_FRAME"),
    "four billion entries of meta": (b"\x95\x00\x07\xa4echo\x90\xdf\xff\xff\xff\xff", 7, "BAD_FRAME"),
    "a string of four billion bytes": (b"\x94\x00\x07\xa4echo\x91\xdb\xff\xff\xff\xff", 7, "BAD_FRAME"),
    "arrays of four billion in one another": (b"\x94\x00\x07\xa4echo" + FOUR_BILLION * 20, 7, "BAD_FRAME"),
    "10,000 levels": (b"\x94\x00\x07\xa4echo" + b"\x91" * 10000 + b"\xc0", 7, "TOO_DEEP"),
    "10,000 levels of maps": (b"\x94\x00\x07\xa4echo\x91" + b"\x81\xc0" * 10000 + b"\xc0", 7, "TOO_DEEP"),
    "32 levels": (b"\x94\x00\x07\xa4echo" + b"\x91" * 32 + b"\xc0", 7, "TOO_DEEP"),
    "10,000 levels in meta": (
        b"\x95\x00\x07\xa4echo\x90\x81\xa1x" + b"\x91" * 10000 + b"\xc0",
        7,
        "TOO_DEEP",
    ),
    "four billion elements as the request": (FOUR_BILLION, None, "BAD_REQUEST"),
    "10,000 levels as the request": (b"\x91" * 10000, None, "BAD_REQUEST"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_bad_body(start: StartServer, name: str) -> None:
    """INVALID_ARGUMENT, with the msgid where it can be read, and the end of the connection."""
    body, msgid, reason = BAD_BODIES[name]
    server = start("echo", workers=1)
    raw = server.raw()
    raw.send(frame(body))
    reply = raw.receive()
    assert reply.msgid == msgid
    check_error(reply.error, "INVALID_ARGUMENT", reason)
    assert raw.at_end()
    assert_serves(server)


def test_what_follows_a_bad_request_is_not_served(start: StartServer) -> None:
    server = start("echo")
    raw = server.raw()
    raw.send(request("echo", 1, msgid=1) + frame(b"\xc1") + request("echo", 2, msgid=2))
    assert raw.receive() == (1, None, 1)
    assert raw.receive().msgid is None
    assert raw.at_end()


def test_many_hostile_connections(start: StartServer) -> None:
    """Hundreds of bad frames from several threads, and good calls beside them."""
    server = start("echo", workers=2)
    bodies = [body for body, _, _ in BAD_BODIES.values()]

    def attack(number: int) -> None:
        for i in range(60):
            with Raw(server.socket) as raw:
                raw.send(frame(bodies[(i * 7 + number) % len(bodies)]))
                assert raw.receive().error is not None

    client = server.client()
    with ThreadPoolExecutor(4) as threads:
        attacks = [threads.submit(attack, number) for number in range(4)]
        while not all(a.done() for a in attacks):
            assert client.call("echo", "beside") == "beside"
        for a in attacks:
            a.result()
    wait_until(lambda: server.status()["connections"]["open"] == 1, what="their connections closed")
    assert_serves(server)


# ---- clients that stop


@pytest.mark.parametrize("sent", [1, 3, 4, 5, 20])
def test_silence_in_the_middle_of_a_frame(start: StartServer, sent: int) -> None:
    server = start("echo", "--io-timeout", "0.2")
    raw = server.raw()
    raw.send(request("echo", "never complete")[:sent])
    reply = raw.receive()
    assert reply.msgid is None
    check_error(reply.error, "INVALID_ARGUMENT", "BAD_FRAME")
    assert reply.error is not None
    assert "--io-timeout" in reply.error["message"]
    assert raw.at_end()
    assert_serves(server)


def test_silence_after_a_complete_frame(start: StartServer) -> None:
    server = start("echo", "--io-timeout", "0.2")
    raw = server.raw()
    raw.send(request("echo", 1, msgid=1) + request("echo", 2, msgid=2)[:6])
    assert raw.receive() == (1, None, 1)
    check_error(raw.receive().error, "INVALID_ARGUMENT", "BAD_FRAME")
    assert raw.at_end()


def test_silence_between_frames_is_no_fault(start: StartServer) -> None:
    raw = start("echo", "--io-timeout", "0.1").raw()
    assert raw.call("echo", 1).result == 1
    assert raw.is_silent(0.5)
    assert raw.call("echo", 2).result == 2


def test_end_in_the_middle_of_a_frame(start: StartServer) -> None:
    server = start("echo")
    for sent in (1, 4, 8):
        raw = server.raw()
        raw.send(request("echo", "never complete")[:sent])
        raw.sock.shutdown(socket.SHUT_WR)
        assert raw.at_end()
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="they are closed")
    assert_serves(server)


def test_eight_clients_that_stop_half_way_delay_others_less_than_3_s(start: StartServer) -> None:
    server = start("echo", workers=2)
    client = server.client()
    client.ping()
    half = request("echo", "never complete")[:10]
    stuck = [server.raw() for _ in range(8)]
    for raw in stuck:
        raw.send(half)
    begin = time.monotonic()
    assert client.call("echo", "others") == "others"
    assert time.monotonic() - begin < 3
    for raw in stuck:
        assert raw.receive().reason == "BAD_FRAME"
        assert raw.at_end()
    assert_serves(server)


# ---- too many


def test_too_many_connections(start: StartServer) -> None:
    server = start("echo", "--max-connections", "3")
    taken = [server.raw() for _ in range(3)]
    for raw in taken:
        assert raw.call("echo", 1).result == 1
    over = server.raw()
    reply = over.receive()
    assert reply.msgid is None
    check_error(reply.error, "RESOURCE_EXHAUSTED", "TOO_MANY_CONNECTIONS", retry=True)
    assert over.at_end()
    with pytest.raises(cohab.ResourceExhausted) as caught:
        server.client().call("echo", 1)
    assert caught.value.reason == "TOO_MANY_CONNECTIONS"
    assert not caught.value.executed
    assert caught.value.retry
    taken[0].close()
    wait_until(lambda: server.status()["connections"]["open"] == 2, what="a free place")
    assert server.client().call("echo", 1) == 1
    assert server.status()["connections"]["refused"] == 2


def test_a_thousand_connections(start: StartServer) -> None:
    server = start("echo", workers=2)
    raws = [server.raw() for _ in range(1000)]
    wait_until(lambda: server.status()["connections"]["open"] == 1000, what="all are accepted")
    for i, raw in enumerate(raws):
        raw.send(request("echo", i, msgid=i))
    for i, raw in enumerate(raws):
        assert raw.receive() == (i, None, i)
    for raw in raws:
        raw.close()
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="all are closed")
    assert_serves(server)


def test_connections_that_end_while_the_master_is_stopped(start: StartServer) -> None:
    """The workers have more to tell than their control sockets hold: nothing of it is forgotten."""
    server = start("echo", workers=2)
    raws = [server.raw() for _ in range(1000)]
    for i, raw in enumerate(raws):
        raw.send(request("echo", i, msgid=i))
    for i, raw in enumerate(raws):
        assert raw.receive() == (i, None, i)
    server.send_signal(signal.SIGSTOP)
    for raw in raws:
        raw.close()
    wait_until(lambda: all(state_of(pid) in "SZ" for pid in children_of(server.pid)), what="all is still")
    time.sleep(0.2)
    server.send_signal(signal.SIGCONT)
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="all are closed")
    assert_serves(server)


@pytest.mark.parametrize(("large", "small"), [(1, 0), (3, 1)])
def test_memory_of_large_frames_is_given_back(start: StartServer, large: int, small: int) -> None:
    """At once after one that stands alone; with the next small one after several in a row."""
    server = start("echo", workers=1)
    (worker,) = server.workers()
    client = server.client()
    client.call("echo", 1)
    before = resident_memory(worker)
    for _ in range(large):
        assert len(client.call("echo", b"x" * (32 << 20))) == 32 << 20
    for _ in range(small):
        client.call("echo", 1)
    server.wait_all_idle()
    wait_until(lambda: resident_memory(worker) < before + (4 << 20), what="the memory is given back")


# ---- clients that would keep a worker


def test_a_client_that_pipelines_without_end(start: StartServer) -> None:
    """However its frames lie in what is read at once, others are served by the same worker."""
    server = start("echo", workers=1)
    raw = server.raw()
    stop = threading.Event()
    one = request("echo", b"x" * 120)
    stream = one * 8192  # whose frames do not end where a worker's first read does

    def send() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set():
                raw.send(stream)

    def receive() -> None:
        with contextlib.suppress(OSError):
            while not stop.is_set() and raw.sock.recv(1 << 20):
                pass

    threads = [threading.Thread(target=work, daemon=True) for work in (send, receive)]
    for thread in threads:
        thread.start()
    client = server.client(timeout=10.0)
    for i in range(20):
        assert client.call("echo", i) == i
    stop.set()
    raw.sock.shutdown(socket.SHUT_RDWR)
    for thread in threads:
        thread.join(10)


@pytest.mark.parametrize("victim", ["sends half", "never reads"])
def test_an_engine_s_timer_prolongs_no_wait(start: StartServer, victim: str) -> None:
    """Signals interrupt the worker's waits for a client again and again: they end all the same."""
    server = start("fault", "--io-timeout", "0.2", workers=1)
    assert server.raw().call("timer", 0.02).ok
    raw = server.raw()
    if victim == "sends half":
        raw.send(request("echo", 1)[:-1])
    else:
        raw.send(request("echo", b"x" * (8 << 20)))
    assert server.client(timeout=10.0).call("echo", 1) == 1
