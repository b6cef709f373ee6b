from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import cohab
from cohab.protocol import error_from_map

TABLE = [
    ("INVALID_ARGUMENT", "BAD_ARGUMENT", cohab.InvalidArgument, ValueError),
    ("INVALID_ARGUMENT", "BAD_FRAME", cohab.InvalidArgument, ValueError),
    ("INVALID_ARGUMENT", "WORD_TOO_ODD", cohab.InvalidArgument, ValueError),
    ("UNIMPLEMENTED", "NO_SUCH_METHOD", cohab.MethodNotFound, LookupError),
    ("DEADLINE_EXCEEDED", "DEADLINE", cohab.DeadlineExceeded, TimeoutError),
    ("DEADLINE_EXCEEDED", "QUEUE_TIMEOUT", cohab.DeadlineExceeded, TimeoutError),
    ("CANCELLED", "KILLED", cohab.Cancelled, cohab.Error),
    ("RESOURCE_EXHAUSTED", "TOO_MANY_CONNECTIONS", cohab.ResourceExhausted, cohab.Error),
    ("UNAVAILABLE", "STOPPING", cohab.Unavailable, ConnectionError),
    ("PERMISSION_DENIED", "PEER_REFUSED", cohab.PermissionDenied, PermissionError),
    ("FAILED_PRECONDITION", "QUARANTINED", cohab.Quarantined, cohab.Error),
    ("FAILED_PRECONDITION", "NOT_LOADED", cohab.EngineError, cohab.Error),
    ("INTERNAL", "ENGINE_CRASHED", cohab.EngineCrashed, cohab.Error),
    ("INTERNAL", "ENGINE_ERROR", cohab.EngineError, cohab.Error),
    ("NOT_FOUND", "ENGINE_CRASHED", cohab.EngineError, cohab.Error),
    ("NOT_FOUND", "", cohab.EngineError, cohab.Error),
]


@pytest.mark.parametrize(("code", "reason", "expected", "also"), TABLE)
def test_each_code_and_reason_has_its_class(
    code: str, reason: str, expected: type[cohab.Error], also: type[Exception]
) -> None:
    error = error_from_map({"code": code, "reason": reason, "message": "m"}, "suggest")
    assert type(error) is expected
    assert isinstance(error, also)
    assert isinstance(error, cohab.Error)
    assert (error.code, error.reason, error.method) == (code, reason, "suggest")


ALL_CLASSES = [
    value for value in vars(cohab).values() if isinstance(value, type) and issubclass(value, cohab.Error)
]


def test_every_error_class_is_found_here() -> None:
    assert len(ALL_CLASSES) == 13


@pytest.mark.parametrize("error_class", ALL_CLASSES)
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_errors_survive_pickle_and_copy(error_class: type[cohab.Error], duplicate: object) -> None:
    assert callable(duplicate)
    error = error_class(
        "it broke",
        code="SOME_CODE",
        reason="SOME_REASON",
        details={"signal": "SIGSEGV", "report": "17"},
        executed=True,
        retry=True,
        method="suggest",
    )
    twin = duplicate(error)
    assert type(twin) is error_class
    assert vars(twin) == vars(error)
    assert twin.args == error.args == ("it broke",)
    assert str(twin) == str(error)


def test_text_names_method_message_and_reason() -> None:
    error = cohab.InvalidArgument("limit: expected int, got str", reason="BAD_ARGUMENT", method="suggest")
    assert str(error) == "suggest: limit: expected int, got str [BAD_ARGUMENT]"
    assert str(cohab.Unavailable("nobody listens")) == "nobody listens [UNAVAILABLE]"


def test_crash_text_shows_signal_report_frames_and_last_words() -> None:
    error = error_from_map(
        {
            "code": "INTERNAL",
            "reason": "ENGINE_CRASHED",
            "message": "the worker died",
            "executed": True,
            "details": {
                "signal": "SIGSEGV",
                "report": "17",
                "frames": ["suggest at spell.cc:12", "main"],
                "stderr": "oh no\n",
            },
        },
        "suggest",
    )
    assert isinstance(error, cohab.EngineCrashed)
    assert (error.signal, error.report) == ("SIGSEGV", "17")
    assert str(error).splitlines() == [
        "the worker died (report 17)",
        "  signal: SIGSEGV",
        "  native stack, innermost first:",
        "    suggest at spell.cc:12",
        "    main",
        "  the engine's last words:",
        "    oh no",
    ]


def test_crash_reads_as_the_server_says_it() -> None:
    message = "SIGSEGV in suggest(): libspell.so!Affix::lookup+0x4f (report 20261122-101502-3)"
    details = {"signal": "SIGSEGV", "report": "20261122-101502-3", "frames": ["libspell.so!f+0x1"]}
    error = error_from_map(
        {"code": "INTERNAL", "reason": "ENGINE_CRASHED", "message": message, "details": details}, "suggest"
    )
    assert isinstance(error, cohab.EngineCrashed)
    assert str(error).splitlines()[0] == message
    assert (error.signal, error.report) == ("SIGSEGV", "20261122-101502-3")
    assert error.frames == ("libspell.so!f+0x1",)
    assert error.stderr == ""
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_deadline_tells_what_was_running() -> None:
    details = {"report": "20261122-101502-3", "frames": ["libspell.so!spin+0x1"], "stderr": "round 7\n"}
    error = error_from_map(
        {"code": "DEADLINE_EXCEEDED", "reason": "DEADLINE", "message": "too late", "details": details}, "spin"
    )
    assert isinstance(error, cohab.DeadlineExceeded)
    assert (error.report, error.signal, error.stderr) == ("20261122-101502-3", None, "round 7\n")
    assert str(error).splitlines() == [
        "too late (report 20261122-101502-3)",
        "  native stack, innermost first:",
        "    libspell.so!spin+0x1",
        "  the engine's last words:",
        "    round 7",
    ]
    assert str(cohab.DeadlineExceeded("too late", reason="DEADLINE")) == "too late [DEADLINE]"


@pytest.mark.parametrize("reason", ["ENGINE_CRASHED", "DEADLINE"])
@pytest.mark.parametrize("wrong", [17, None, b"bytes", {"a": 1}, [3, None, [b"x"]]])
def test_details_of_other_types_are_none(reason: str, wrong: Any) -> None:
    code = "INTERNAL" if reason == "ENGINE_CRASHED" else "DEADLINE_EXCEEDED"
    details = dict.fromkeys(("signal", "report", "frames", "stderr"), wrong)
    error = error_from_map({"code": code, "reason": reason, "message": "m", "details": details}, "suggest")
    assert isinstance(error, (cohab.EngineCrashed, cohab.DeadlineExceeded))
    assert (error.signal, error.report, error.frames, error.stderr) == (None, None, (), "")
    assert str(error) == f"suggest: m [{reason}]"
    assert error.details == details


@pytest.mark.parametrize(("given", "expected"), [(["a", 3], ("a",)), ("a", ()), (None, ()), ({}, ())])
def test_quarantine_names_its_reports(given: Any, expected: tuple[str, ...]) -> None:
    error = error_from_map(
        {"code": "FAILED_PRECONDITION", "reason": "QUARANTINED", "details": {"reports": given}}, "suggest"
    )
    assert isinstance(error, cohab.Quarantined)
    assert error.reports == expected
    assert error.retry is False


def test_crash_without_details_has_neither_signal_nor_report() -> None:
    error = cohab.EngineCrashed("the worker exited")
    assert error.signal is None
    assert error.report is None
    assert str(error) == "the worker exited [INTERNAL]"


def test_what_the_server_left_out_is_taken_as_the_worse_case() -> None:
    error = error_from_map({"code": "UNAVAILABLE"}, None)
    assert (error.executed, error.retry, error.details, error.reason) == (True, False, {}, "")
    assert "no message" in str(error)


def test_executed_and_retry_are_the_servers() -> None:
    error = error_from_map({"code": "UNAVAILABLE", "executed": False, "retry": True}, None)
    assert (error.executed, error.retry) == (False, True)


def test_an_error_without_a_code_breaks_the_protocol() -> None:
    error = error_from_map({"message": "hm"}, "suggest")
    assert isinstance(error, cohab.ProtocolError)
    assert "without a code" in str(error)
