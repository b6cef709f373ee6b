"""The error classes of cohab: one class for each way in which a call can fail.

Every error is below `Error`, can be pickled and copied, and tells by `executed` and `retry` whether the
engine may have seen the request and whether sending it again is safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


def _texts(value: object) -> tuple[str, ...]:
    """The strings in what should be an array of them; details are not checked on their way."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()


class Error(Exception):
    """Anything that keeps a call from returning its result.

    Attributes:
        code: canonical name of the kind of failure, such as ``"UNAVAILABLE"``.
        reason: stable upper-case word that says more, such as ``"STOPPING"``; empty if there is none.
        message: one line for people, without method and reason; `str()` adds those.
        details: further facts by name; which ones depends on the reason.
        executed: False if the engine certainly never saw the request, True if it may have.
        retry: True if sending the request again is safe and may help.
        method: the method that was called; None if the failure belongs to no call.
    """

    default_code: ClassVar[str] = "UNKNOWN"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        reason: str = "",
        details: Mapping[str, Any] | None = None,
        executed: bool = False,
        retry: bool = False,
        method: str | None = None,
    ) -> None:
        # Pickling and copying call the class with `args` and then restore the attributes; so `args` is
        # the message alone, and everything else has a default.
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.reason = reason
        self.details: dict[str, Any] = dict(details or {})
        self.executed = executed
        self.retry = retry
        self.method = method

    def __str__(self) -> str:
        text = self.message or "failed"
        if self.method is not None and f"{self.method}()" not in text:
            text = f"{self.method}: {text}"
        return f"{text} [{self.reason or self.code}]"


class InvalidArgument(Error, ValueError):
    """The request is wrong: sending it again cannot help."""

    default_code = "INVALID_ARGUMENT"


class MethodNotFound(Error, LookupError):
    """The engine has no method of this name."""

    default_code = "UNIMPLEMENTED"


class _Reported(Error):
    """What there may be a report of, in the server's ``--crash-dir``: `cohab crash show ID` shows it.

    `str()` is made to be read: what happened, where, and in which report all of it stands; then the native
    stack, and what the engine wrote last.
    """

    @property
    def signal(self) -> str | None:
        """Name of the signal that killed the worker, such as ``"SIGSEGV"``; None if it was none."""
        return self._text_of("signal")

    @property
    def report(self) -> str | None:
        """Id of the report that the server keeps; None if there is none."""
        return self._text_of("report")

    @property
    def frames(self) -> tuple[str, ...]:
        """The native stack, innermost first, as far as it is known."""
        return _texts(self.details.get("frames"))

    @property
    def stderr(self) -> str:
        """The last lines that the engine wrote to its standard error; empty if there are none."""
        return self._text_of("stderr") or ""

    def _text_of(self, name: str) -> str | None:
        value = self.details.get(name)
        return value if isinstance(value, str) else None

    def _headline(self) -> str:
        """With the report's id, and without the reason where that is there: it says more."""
        if self.report is None:
            return super().__str__()
        return self.message if self.report in self.message else f"{self.message} (report {self.report})"

    def __str__(self) -> str:
        lines = [self._headline()]
        if self.signal is not None and self.signal not in self.message:
            lines.append(f"  signal: {self.signal}")
        if self.frames:
            lines.append("  native stack, innermost first:")
            lines.extend(f"    {frame}" for frame in self.frames)
        if self.stderr:
            lines.append("  the engine's last words:")
            lines.extend(f"    {line}" for line in self.stderr.splitlines())
        return "\n".join(lines)


class DeadlineExceeded(_Reported, TimeoutError):
    """The call's time-out passed: while waiting for a connection, in the queue, or while it ran.

    Where the server had to end the worker, there is a report of what it was doing.
    """

    default_code = "DEADLINE_EXCEEDED"


class Cancelled(Error):
    """The call was cancelled or killed by someone on purpose."""

    default_code = "CANCELLED"


class ResourceExhausted(Error):
    """A limit was reached: of connections, of the time in the queue (OVERLOADED), or of the result."""

    default_code = "RESOURCE_EXHAUSTED"


class Unavailable(Error, ConnectionError):
    """There is no server, it is stopping, or the connection to it was lost."""

    default_code = "UNAVAILABLE"


class StartError(Unavailable):
    """The server of a `Pool` did not come up; the message holds the server's own words."""


class PermissionDenied(Error, PermissionError):
    """The server does not serve this user, or its socket may not be opened."""

    default_code = "PERMISSION_DENIED"


class Quarantined(Error):
    """Requests like this one have killed workers, so the server refuses them."""

    default_code = "FAILED_PRECONDITION"

    @property
    def reports(self) -> tuple[str, ...]:
        """Ids of the reports of what such requests have done."""
        return _texts(self.details.get("reports"))


class EngineError(Error):
    """The engine ran and reported a failure of its own."""

    default_code = "INTERNAL"


class EngineCrashed(_Reported):
    """The worker died while it ran this request. Other requests are not affected."""

    default_code = "INTERNAL"


class ProtocolError(Error):
    """The peer does not speak this protocol, or a reply is not the one that was asked for."""

    default_code = "INTERNAL"
