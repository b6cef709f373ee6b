"""PURE: requests to bytes, bytes to replies, error maps to exceptions. No sockets, no clock, no locks.

A frame is a 4-byte big-endian length and then one msgpack value: the request
``[0, msgid, method, params, {"deadline": ns, "sent": ns}]``, the response
``[1, msgid, error, result]``, or the connection error ``[1, nil, error, nil]`` after which the server closes.
"""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple, Union

from msgpack import Packer, unpackb

from .errors import (
    Cancelled,
    DeadlineExceeded,
    EngineCrashed,
    EngineError,
    Error,
    InvalidArgument,
    MethodNotFound,
    PermissionDenied,
    ProtocolError,
    Quarantined,
    ResourceExhausted,
    Unavailable,
)

HEADER_SIZE = 4
DEFAULT_MAX_FRAME = 64 * 1024 * 1024 + 64 * 1024
LONGEST_FRAME = 2**32 - 1

# Below this a copy is cheaper than a second buffer in the system call; above it the packer is given away
# with its buffer, so that no connection keeps the memory of the largest request it ever sent.
SMALL_BODY = 64 * 1024

ErrorMap = dict[Any, Any]
Buffer = Union[bytes, bytearray, memoryview]


class LargeFrame(NamedTuple):
    """A frame whose body still lies in the packer that made it, so that 64 MiB are not copied again."""

    header: bytes
    body: memoryview
    owner: Packer  # `body` is this packer's own memory and does not keep it alive by itself


class Encoder:
    """Makes request frames. One caller at a time: it reuses its packer."""

    __slots__ = ("_max_frame", "_packer", "_small_body")

    def __init__(self, max_frame: int) -> None:
        self._max_frame = max_frame
        self._small_body = min(SMALL_BODY, max_frame)
        self._packer: Packer | None = None  # empty, or none

    def request(
        self, msgid: int, method: str, params: tuple[Any, ...], deadline_ns: int, sent_ns: int
    ) -> bytes | LargeFrame:
        """Return the frame of one request. Both times are of CLOCK_MONOTONIC.

        Raises InvalidArgument if a parameter is nothing that msgpack can carry, or all are too long.
        """
        # Taken out until it is empty again: an interrupt must not leave a request in it.
        packer, self._packer = self._packer or Packer(autoreset=False), None
        try:
            packer.pack((0, msgid, method, params, {"deadline": deadline_ns, "sent": sent_ns}))
            body = packer.getbuffer()
            size = len(body)
            if size <= self._small_body:
                frame: bytes = size.to_bytes(HEADER_SIZE, "big") + body
                body.release()
                packer.reset()
                self._packer = packer
                return frame
        except Exception as exc:
            raise _unsendable(method, params, exc) from exc
        if size > self._max_frame:
            raise InvalidArgument(
                f"the request has {size} bytes, more than max_frame ({self._max_frame}); nothing was sent",
                reason="TOO_LONG",
                method=method,
            )
        return LargeFrame(size.to_bytes(HEADER_SIZE, "big"), body, packer)


def _unsendable(method: str, params: tuple[Any, ...], cause: Exception) -> InvalidArgument:
    """The error for a request that cannot be packed; names the parameter that is to blame."""
    what = "the request"
    for number, param in enumerate(params, start=1):
        try:
            Packer().pack(param)
        except Exception as exc:
            what, cause = f"parameter {number} ({type(param).__name__})", exc
            break
    return InvalidArgument(
        f"{what} cannot be sent as msgpack: {cause}", reason="BAD_ARGUMENT", method=str(method)
    )


_CLOSING_REASONS = frozenset({"BAD_FRAME", "BAD_REQUEST", "TOO_DEEP", "TOO_LONG"})

# A worker died, and the server says that another one may run the same request: there is no reason to wait.
_DEATHS = frozenset({"ENGINE_CRASHED", "WORKER_LOST"})


def frame_size(header: Buffer, max_frame: int) -> int:
    """Return how many bytes of body follow this header. Raises ProtocolError if it cannot be a header."""
    size = int.from_bytes(header, "big")
    if 0 < size <= max_frame:
        return size
    raise ProtocolError(
        f"the reply announces {size} bytes, allowed are 1 to {max_frame} (max_frame): give connect() the "
        "server's own --max-frame; or is this not the socket of a cohab server?",
        reason="BAD_FRAME",
        executed=True,
    )


def decode_reply(body: Buffer, msgid: int) -> tuple[ErrorMap | None, Any]:
    """Return (error map or None, result) of the response to request `msgid`.

    Raises the error of a connection error, and ProtocolError for anything that is not this response;
    after either the connection cannot be used any more.
    """
    try:
        kind, reply_id, error, result = unpackb(body, strict_map_key=False)
    except Exception as exc:
        raise _bad_reply(f"the reply cannot be decoded: {exc or type(exc).__name__}") from exc
    if kind == 1 and reply_id == msgid and (error is None or isinstance(error, dict)):
        return error, result
    if kind != 1:
        raise _bad_reply(f"the reply is of kind {reprlib.repr(kind)}, a response is of kind 1")
    if reply_id is None and isinstance(error, dict):
        raise error_from_map(error, None)
    if error is not None and not isinstance(error, dict):
        raise _bad_reply(f"the reply has a {type(error).__name__} where its error belongs")
    raise _bad_reply(f"the reply belongs to request {reprlib.repr(reply_id)}, expected was {msgid}")


def server_closes_after(error: ErrorMap | None) -> bool:
    """Whether the server closes the connection behind a response with this error: the request was not one."""
    return error is not None and _text(error, "reason") in _CLOSING_REASONS


def is_worth_a_retry(error: ErrorMap) -> bool:
    """Whether another worker may be asked the same, here and now."""
    return error.get("retry") is True and _text(error, "reason") in _DEATHS


def _text(error: ErrorMap, key: str) -> str:
    value = error.get(key)
    return value if isinstance(value, str) else ""


def _bad_reply(message: str) -> ProtocolError:
    return ProtocolError(message, reason="BAD_REPLY", executed=True)


_CLASS_BY_CODE: dict[str, type[Error]] = {
    "INVALID_ARGUMENT": InvalidArgument,
    "UNIMPLEMENTED": MethodNotFound,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "CANCELLED": Cancelled,
    "RESOURCE_EXHAUSTED": ResourceExhausted,
    "UNAVAILABLE": Unavailable,
    "PERMISSION_DENIED": PermissionDenied,
}

_CLASS_BY_CODE_AND_REASON: dict[tuple[str, str], type[Error]] = {
    ("FAILED_PRECONDITION", "QUARANTINED"): Quarantined,
    ("INTERNAL", "ENGINE_CRASHED"): EngineCrashed,
}


def error_class(code: str, reason: str) -> type[Error]:
    """Return the class of a failure that the server reports; EngineError where nothing else is said."""
    return _CLASS_BY_CODE.get(code) or _CLASS_BY_CODE_AND_REASON.get((code, reason), EngineError)


def error_from_map(error: ErrorMap, method: str | None) -> Error:
    """Return the exception for the error map of a response. What is missing is taken as the worse case."""
    code = error.get("code")
    if not isinstance(code, str):
        return ProtocolError(
            f"the server reported an error without a code: {reprlib.repr(error)}",
            reason="BAD_REPLY",
            executed=True,
            method=method,
        )
    reason = _text(error, "reason")
    details = error.get("details")
    return error_class(code, reason)(
        _text(error, "message") or "the server gave no message",
        code=code,
        reason=reason,
        details=details if isinstance(details, dict) else None,
        executed=error.get("executed") is not False,
        retry=error.get("retry") is True,
        method=method,
    )
