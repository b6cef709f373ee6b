from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cohab
from cohab.protocol import (
    DEFAULT_MAX_FRAME,
    SMALL_BODY,
    Encoder,
    LargeFrame,
    decode_reply,
    error_from_map,
    frame_size,
    server_closes_after,
)


def encoder(max_frame: int = DEFAULT_MAX_FRAME) -> Encoder:
    return Encoder(max_frame)


def small(frame: bytes | LargeFrame) -> bytes:
    assert isinstance(frame, bytes)
    return frame


def test_request_byte_for_byte() -> None:
    frame = encoder().request(7, "echo", ("hi", None), 1_000_000, 999_999)
    assert frame == bytes.fromhex(
        "00000026 95 00 07 a4 6563686f 92 a2 6869 c0"
        "82 a8 646561646c696e65 ce 000f4240 a4 73656e74 ce 000f423f"
    )


def test_requests_of_one_encoder_do_not_run_together() -> None:
    codec = encoder()
    first = codec.request(1, "echo", ("a" * 1000,), 5, 4)
    assert codec.request(1, "echo", ("a" * 1000,), 5, 4) == first


def test_large_request_is_not_copied_and_next_one_is_whole() -> None:
    codec = encoder()
    payload = b"x" * SMALL_BODY
    large = codec.request(1, "echo", (payload,), 5, 4)
    after = codec.request(2, "echo", (1,), 5, 4)
    assert isinstance(large, LargeFrame)
    assert int.from_bytes(large.header, "big") == len(large.body)
    assert msgpack.unpackb(large.body) == [0, 1, "echo", [payload], {"deadline": 5, "sent": 4}]
    assert msgpack.unpackb(small(after)[4:])[:3] == [0, 2, "echo"]


class Stranger:
    pass


class Treacherous(dict):  # type: ignore[type-arg]
    def items(self) -> Iterator[Any]:  # type: ignore[override]
        raise KeyboardInterrupt


@pytest.mark.parametrize("value", [Stranger(), 2**64, -(2**63) - 1, "\ud800", {1, 2}, [[Stranger()]]])
def test_unsendable_parameter_is_named_and_leaves_no_trace(value: object) -> None:
    codec = encoder()
    clean = codec.request(1, "echo", (1,), 5, 4)
    with pytest.raises(cohab.InvalidArgument, match=rf"parameter 2 \({type(value).__name__}\)") as info:
        codec.request(1, "echo", ("fine", value), 5, 4)
    assert isinstance(info.value, ValueError)
    assert (info.value.executed, info.value.retry, info.value.method) == (False, False, "echo")
    assert codec.request(1, "echo", (1,), 5, 4) == clean


def test_interrupted_packing_leaves_no_trace() -> None:
    codec = encoder()
    with pytest.raises(KeyboardInterrupt):
        codec.request(1, "echo", ("begun", Treacherous(a=1)), 5, 4)
    assert msgpack.unpackb(small(codec.request(1, "echo", (1,), 5, 4))[4:])[3] == [1]


@pytest.mark.parametrize("max_frame", [1000, SMALL_BODY + 100])
def test_request_longer_than_max_frame_is_refused_here(max_frame: int) -> None:
    codec = encoder(max_frame)
    assert codec.request(1, "echo", (b"x" * (max_frame - 100),), 5, 4)
    with pytest.raises(cohab.InvalidArgument, match="max_frame") as info:
        codec.request(1, "echo", (b"x" * max_frame,), 5, 4)
    assert info.value.reason == "TOO_LONG"


def test_response_is_decoded() -> None:
    assert decode_reply(msgpack.packb([1, 7, None, {"a": [b"b", "c"]}]), 7) == (None, {"a": [b"b", "c"]})
    assert decode_reply(msgpack.packb([1, 7, {"code": "X"}, None]), 7) == ({"code": "X"}, None)


def test_maps_may_have_keys_of_any_kind() -> None:
    assert decode_reply(msgpack.packb([1, 7, None, {1: 2, None: 3}]), 7) == (None, {1: 2, None: 3})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (msgpack.packb([1, 8, None, 1]), "request 8, expected was 7"),
        (msgpack.packb([1, None, None, 1]), "request None"),
        (msgpack.packb([0, 7, None, 1]), "kind 0"),
        (msgpack.packb([1, 7, "text", 1]), "str where its error belongs"),
        (msgpack.packb([1, 7, None]), "cannot be decoded"),
        (msgpack.packb(5), "cannot be decoded"),
        (b"", "cannot be decoded"),
        (b"\x94\x01", "cannot be decoded"),
        (b"\xc1", "cannot be decoded"),
        (msgpack.packb([1, 7, None, 1]) + b"x", "cannot be decoded"),
        (b"\x94\x01\x07\xc0\xa1\xff", "cannot be decoded.*utf-8"),
        (b"\x91" * 10000, "cannot be decoded"),
    ],
)
def test_anything_else_is_a_protocol_error(body: bytes, text: str) -> None:
    with pytest.raises(cohab.ProtocolError, match=text) as info:
        decode_reply(body, 7)
    assert (info.value.executed, info.value.retry) == (True, False)


def test_connection_error_is_raised_as_what_it_says() -> None:
    body = msgpack.packb(
        [1, None, {"code": "RESOURCE_EXHAUSTED", "reason": "TOO_MANY_CONNECTIONS", "executed": False}, None]
    )
    with pytest.raises(cohab.ResourceExhausted) as info:
        decode_reply(body, 7)
    assert (info.value.reason, info.value.executed) == ("TOO_MANY_CONNECTIONS", False)


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: b"\x94\x01\x07" + tail))
def test_no_bytes_raise_anything_but_our_errors(body: bytes) -> None:
    try:
        error, _ = decode_reply(body, 7)
        assert error is None or isinstance(error, dict)
    except cohab.Error:
        pass


def test_frame_size() -> None:
    assert frame_size(b"\x00\x00\x01\x02", 1000) == 258
    assert frame_size((1000).to_bytes(4, "big"), 1000) == 1000


@pytest.mark.parametrize(
    "header", [b"\x00\x00\x00\x00", (1001).to_bytes(4, "big"), b"HTTP", b"\xff\xff\xff\xff"]
)
def test_impossible_frame_size(header: bytes) -> None:
    with pytest.raises(cohab.ProtocolError, match="max_frame"):
        frame_size(header, 1000)


def deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\xc0"


@pytest.mark.parametrize(
    "body",
    [
        b"\x94\x01" + deep(1000) + b"\xc0\xc0",
        b"\x94" + deep(1000) + b"\x07\xc0\xc0",
        b"\x94\x01\x07\x81\xa1x" + deep(1000) + b"\xc0",
        b"\x94\x01\x07\x82\xa4code\xa1X\xa7message" + deep(1000) + b"\xc0",
        msgpack.packb([1, 7, {"code": "INTERNAL", "reason": ["x"], "message": {}}, None]),
        b"\x94\x01\x07\x83\xa4code\xa8INTERNAL\xa6reason\xaeENGINE_CRASHED\xa7details\x83\xa6signal"
        + deep(900)
        + b"\xa6frames\x91"
        + deep(900)
        + b"\xa6stderr"
        + deep(900)
        + b"\xc0",
    ],
    ids=[
        "deep msgid",
        "deep kind",
        "deep error without code",
        "deep message",
        "reason a list",
        "deep details",
    ],
)
def test_hostile_replies_raise_our_errors_only(body: bytes) -> None:
    with pytest.raises(cohab.Error) as info:  # noqa: PT012 - each of these may raise it
        error, _ = decode_reply(body, 7)
        server_closes_after(error)
        assert error is not None
        raise error_from_map(error, None)
    assert len(str(info.value)) < 1000


@pytest.mark.parametrize("size", [10, SMALL_BODY + 1])
def test_interrupt_leaves_no_request_behind(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    class Interrupted(msgpack.Packer):  # type: ignore[misc]
        def getbuffer(self) -> memoryview:
            raise KeyboardInterrupt

    codec = encoder()
    clean = codec.request(1, "echo", (1,), 5, 4)
    codec._packer = Interrupted(autoreset=False)
    with pytest.raises(KeyboardInterrupt):
        codec.request(1, "echo", (b"x" * size,), 5, 4)
    assert codec.request(1, "echo", (1,), 5, 4) == clean


def test_packer_is_taken_out_while_it_holds_a_request() -> None:
    """An interrupt can come between any two instructions."""
    codec = encoder()
    codec.request(1, "echo", (1,), 5, 4)
    seen: list[object] = []

    class Watcher(dict[str, int]):
        def items(self) -> Any:
            seen.append(codec._packer)
            return super().items()

    codec.request(1, "echo", (Watcher(a=1),), 5, 4)
    assert seen == [None]
