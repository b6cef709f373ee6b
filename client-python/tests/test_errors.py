from __future__ import annotations

import copy
import pickle

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
                "report": 17,
                "frames": ["suggest at spell.cc:12", "main"],
                "stderr": "oh no\n",
            },
        },
        "suggest",
    )
    assert isinstance(error, cohab.EngineCrashed)
    assert (error.signal, error.report) == ("SIGSEGV", "17")
    assert str(error).splitlines() == [
        "suggest: the worker died [ENGINE_CRASHED]",
        "  signal: SIGSEGV",
        "  crash report: 17",
        "  native stack, innermost first:",
        "    suggest at spell.cc:12",
        "    main",
        "  the engine's last words:",
        "    oh no",
    ]


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
