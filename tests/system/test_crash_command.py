"""cohab crash, on reports made by hand, some of which no server would write; cohab stack and quarantine."""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from conftest import StartServer
from harness import (
    BUILD,
    COHAB,
    Gate,
    clean_environment,
    engine_path,
    others_may_reach,
    run_cohab,
    run_cohabd,
)
from processes import wait_until
from wire import frame, pack, request

Report = dict[str, Any]
Result = subprocess.CompletedProcess[str]

ID = "20261122-101502-3"
SLOW_ID = "20261122-101502-10"
OLD_ID = "20251231-235959-1"


def stack_frame(text: str) -> dict[str, Any]:
    return {"address": 4096, "module": "libspell.so", "offset": 79, "inlined": False, "text": text}


def make_report(**changes: Any) -> Report:
    """A report of a SIGSEGV in suggest("recieve")."""
    sent = request("suggest", "recieve", msgid=7)
    report: Report = {
        "version": 1,
        "id": ID,
        "kind": "crash",
        "time": time.time() - 90,
        "cause": {
            "kind": "signal",
            "text": "SIGSEGV in suggest()",
            "signal": "SIGSEGV",
            "number": 11,
            "code": "SEGV_MAPERR",
            "address": 0xDEAD0,
            "sender": None,
            "own": False,
            "status": None,
            "core": True,
        },
        "phase": "call",
        "server": {
            "version": "0.1.0",
            "pid": 4711,
            "socket": "/run/cohab/s",
            "program": "/usr/bin/cohabd",
            "options": ["--max-frame", "1048576"],
        },
        "engine": {
            "name": "spell",
            "version": "1.2",
            "path": "/usr/lib/cohab/engines/libspell.so",
            "args": ["en_US"],
            "build_id": "abcdef",
            "generation": 2,
        },
        "worker": {"number": 3, "pid": 4712, "age": 90.5, "served": 12},
        "request": {
            "method": "suggest",
            "msgid": 7,
            "peer": {"pid": 99, "uid": 1000},
            "ran": 0.25,
            "queued": 0.5,
            "size": len(sent),
            "frame": sent,
            "hash": "00112233aabbccdd",
            "idempotent": True,
        },
        "memory": {"peak": 3 << 20, "limit": 64 << 20},
        "stack": [
            stack_frame("libc.so.6!abort+0x4f (abort.c:79)"),
            stack_frame("libspell.so!Affix::lookup+0x4f (affix.cxx:120)"),
        ],
        "top": 1,
        "no_stack": None,
        "stderr": "about to\nfall over\n",
    }
    return report | changes


def without_params(report: Report) -> Report:
    report["request"]["frame"] = None
    return report


@pytest.fixture
def reports(directory: Path) -> Path:
    path = directory / "crash"
    path.mkdir()
    return path


def write(reports: Path, report: Any, report_id: str = ID, kind: str = "crash") -> Path:
    path = reports / f"{report_id}.{kind}"
    path.write_bytes(pack(report))
    path.chmod(0o600)
    return path


def crash(reports: Path, *arguments: str, **options: Any) -> Result:
    return run_cohab("crash", *arguments, "--dir", str(reports), **options)


def succeed(reports: Path, *arguments: str, **options: Any) -> str:
    result = crash(reports, *arguments, **options)
    assert result.returncode == 0, result
    assert result.stderr == ""
    return result.stdout


def fail(reports: Path, *arguments: str, words: str, code: int = 1, **options: Any) -> None:
    result = crash(reports, *arguments, **options)
    assert result.returncode == code, result
    assert result.stdout == ""
    assert re.search(words, result.stderr), result.stderr


# ---- list


def test_list(reports: Path) -> None:
    write(reports, make_report())
    write(reports, make_report(id=OLD_ID, time=1e9, stack=[]), OLD_ID)
    write(reports, make_report(cause={"kind": "slow"}, kind="slow"), SLOW_ID, "slow")
    heading, *lines = succeed(reports, "list").splitlines()
    assert heading.split() == ["ID", "WHEN", "ENGINE", "METHOD", "CAUSE", "WHERE"]
    assert [line.split()[0] for line in lines] == [SLOW_ID, ID, OLD_ID], "newest first"
    assert " slow " in lines[0]
    assert re.search(r"1m 3\ds ago +spell +suggest +SIGSEGV +libspell.so!Affix::lookup", lines[1])
    assert re.search(r"2001-09-\d\d \d\d:\d\d:\d\d .* -$", lines[2]), "old, and without a stack"


def test_list_as_json(reports: Path) -> None:
    report = make_report()
    write(reports, report)
    write(reports, make_report(request=None, phase="start"), OLD_ID)
    first, second = json.loads(succeed(reports, "list", "--json"))
    assert first == {
        "id": ID,
        "kind": "crash",
        "time": report["time"],
        "engine": "spell",
        "phase": "call",
        "method": "suggest",
        "cause": report["cause"],
        "where": "libspell.so!Affix::lookup+0x4f (affix.cxx:120)",
        "unreadable": None,
    }
    assert (second["id"], second["phase"], second["method"]) == (OLD_ID, "start", None)


def test_list_nothing(reports: Path) -> None:
    assert succeed(reports, "list") == f"no reports in {reports}\n"
    assert succeed(reports, "list", "--json") == "[]\n"
    assert succeed(reports / "not-yet-made", "list", "--json") == "[]\n"


def test_list_what_is_no_directory(reports: Path) -> None:
    fail(write(reports, make_report()), "list", words="Not a directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_list_what_may_not_be_read(reports: Path) -> None:
    path = write(reports, make_report())
    path.chmod(0)
    assert "Permission denied" in succeed(reports, "list")
    fail(reports, "show", ID, words="Permission denied")
    reports.chmod(0)
    fail(reports, "list", words="Permission denied")
    reports.chmod(0o700)


def test_other_files_are_no_reports(reports: Path) -> None:
    for name in [f".{ID}.crash.tmp", f"{ID}.core", "notes.crash", ".crash", f"{'1' * 80}.crash"]:
        (reports / name).write_bytes(pack(make_report()))
    assert succeed(reports, "list", "--json") == "[]\n"


def test_full_standard_output(reports: Path) -> None:
    write(reports, make_report())
    for command in ("list", "show latest", "export latest"):
        with open("/dev/full", "w") as full:
            result = subprocess.run(
                [str(COHAB), "crash", *command.split(), "--dir", str(reports)],
                stdout=full,
                stderr=subprocess.PIPE,
                env=clean_environment(),
                check=False,
            )
        assert result.returncode == 1, command
        assert b"standard output" in result.stderr


# ---- where they lie


def test_the_options_for_the_directory_are_one(reports: Path) -> None:
    write(reports, make_report())
    for option in ("--dir", "--crash-dir"):
        assert ID in run_cohab("crash", "list", option, str(reports)).stdout
    assert run_cohab("crash", "list", "--dir", "").returncode == 2


def test_default_directory(directory: Path) -> None:
    state = directory / "state"
    (state / "crash").mkdir(parents=True)
    write(state / "crash", make_report())
    environment = clean_environment() | {"STATE_DIRECTORY": str(state)}
    assert ID in run_cohab("crash", "list", env=environment).stdout


def test_the_server_says_where(start: StartServer) -> None:
    server = start("fault")
    server.cli("call", "crash")
    wait_until(lambda: server.status()["crashes"]["written"] == 1, what="a report that is whole")
    listed = json.loads(server.cli("crash", "list", "--json").stdout)
    assert [(row["method"], row["engine"]) for row in listed] == [("crash", "fault")]
    server.stop()
    environment = clean_environment() | {"STATE_DIRECTORY": str(server.crash_directory.parent)}
    assert json.loads(server.cli("crash", "list", "--json", env=environment).stdout) == listed, (
        "gone: default"
    )


# ---- ids


@pytest.mark.parametrize("word", [ID, "latest", "last", "20261122-101502-3", "20261122-101502", "2026"])
def test_id(reports: Path, word: str) -> None:
    write(reports, make_report())
    write(reports, make_report(), OLD_ID)
    assert json.loads(succeed(reports, "show", word, "--json"))["id"] == ID


def test_an_id_may_be_the_beginning_of_another(reports: Path) -> None:
    for number in (1, 10, 11):
        report_id = f"20261122-101502-{number}"
        write(reports, make_report(id=report_id), report_id)
    assert json.loads(succeed(reports, "show", "20261122-101502-1", "--json"))["id"] == "20261122-101502-1"
    fail(reports, "show", "20261122", words="several reports")


def test_latest_is_a_death(reports: Path) -> None:
    write(reports, make_report(), SLOW_ID, "slow")
    fail(reports, "show", "latest", words="no reports of crashes")
    write(reports, make_report())
    assert json.loads(succeed(reports, "show", "latest", "--json"))["id"] == ID


@pytest.mark.parametrize(
    "word", ["20261122-101502-4", "../crash/" + ID, ID + "/", "x", "", "\x1b[31m", "3" * 500]
)
@pytest.mark.parametrize("command", ["show", "export", "replay"])
def test_unknown_id(reports: Path, command: str, word: str) -> None:
    write(reports, make_report())
    result = crash(reports, command, word)
    assert result.returncode == 1
    assert "no report" in result.stderr
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["show"],
        ["show", "1", "2"],
        ["list", "1"],
        ["export"],
        ["replay"],
        ["list", "--nothing"],
    ],
)
def test_usage(arguments: list[str]) -> None:
    result = run_cohab("crash", *arguments)
    assert result.returncode == 2, result
    assert result.stdout == ""
    assert "--help" in result.stderr


@pytest.mark.parametrize("command", ["", "list", "show", "replay", "export"])
def test_help(command: str) -> None:
    result = run_cohab("crash", *command.split(), "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: cohab crash {command}")


# ---- show


def test_show(reports: Path) -> None:
    write(reports, make_report())
    shown = succeed(reports, "show", ID)
    assert shown.startswith("SIGSEGV in suggest()\n")
    for words in [
        "at address 0xdead0",
        "address not mapped (SEGV_MAPERR)",
        "core dumped",
        f"report   {ID}, ",
        "engine   spell 1.2, build id abcdef, generation 2",
        "/usr/lib/cohab/engines/libspell.so en_US",
        "worker 3, pid 4712, 1m 30s old, had answered 12 calls",
        "suggest, had run for 250 ms, waited for 500 ms",
        "from process 99 of user 1000",
        "cohabd 0.1.0, pid 4711, /run/cohab/s",
        "3.0 MiB at most, limit 64.0 MiB",
        "  #0 libc.so.6!abort+0x4f (abort.c:79)\n  #1 libspell.so!Affix::lookup+0x4f (affix.cxx:120)\n",
        "  about to\n  fall over\n",
        'parameters:\n  ["recieve"]\n',
        f"cohab crash replay {ID}\n",
    ]:
        assert words in shown, words
    assert [shown.index(part) for part in ("SIGSEGV", "stack", "parameters")] == sorted(
        shown.index(part) for part in ("SIGSEGV", "stack", "parameters")
    )


def test_show_who_sent_the_signal(reports: Path) -> None:
    cause = {"kind": "signal", "signal": "SIGTERM", "code": "SI_USER", "sender": {"pid": 5, "uid": 6}}
    write(reports, make_report(cause=cause))
    assert "sent by process 5 of user 6" in succeed(reports, "show", ID)


def test_show_cuts_long_parameters(reports: Path) -> None:
    report = make_report()
    report["request"]["frame"] = request("suggest", "ä" * 50_000)
    write(reports, report)
    shown = succeed(reports, "show", ID)
    assert len(shown) < 6000
    assert f"...\nthe whole of them: cohab crash export {ID}\n" in shown
    assert json.loads(succeed(reports, "export", ID))["request"]["params"] == ["ä" * 50_000]


def test_show_does_not_unpack_huge_requests(reports: Path) -> None:
    report = make_report()
    report["request"]["frame"] = request("suggest", b"x" * (5 << 20))
    write(reports, report)
    assert "parameters: too large" in succeed(reports, "show", ID)


def test_show_without_parameters(reports: Path) -> None:
    write(reports, without_params(make_report()))
    shown = succeed(reports, "show", ID)
    assert "--crash-params off" in shown
    assert "crash replay" not in shown, "it cannot be run again"


def test_show_without_a_stack(reports: Path) -> None:
    write(reports, make_report(stack=None, no_stack="killed by SIGKILL: no handler runs then"))
    assert "no stack: killed by SIGKILL: no handler runs then\n" in succeed(reports, "show", ID)


def test_show_a_death_in_start(reports: Path) -> None:
    write(reports, make_report(request=None, phase="start", worker={"number": 0, "pid": 5}))
    shown = succeed(reports, "show", ID)
    assert "phase    start" in shown
    assert "forkserver, pid 5" in shown
    assert "parameters" not in shown
    assert "cohab crash replay" in shown


def test_show_a_death_without_work(reports: Path) -> None:
    write(reports, make_report(request=None, phase="idle"))
    assert "crash replay" not in succeed(reports, "show", ID)


def test_show_as_json(reports: Path) -> None:
    report = make_report()
    write(reports, report)
    shown = json.loads(succeed(reports, "show", ID, "--json"))
    report["request"] |= {"frame": None, "params": ["recieve"]}
    assert shown == report


# ---- export


def exported(report: Report) -> Report:
    """What JSON makes of it."""
    report = copy.deepcopy(report)
    sent = report["request"]["frame"]
    report["request"] |= {
        "frame": {"$base64": base64.b64encode(sent).decode()},
        "params": msgpack.unpackb(sent[4:])[3],
    }
    return report


def test_export(reports: Path) -> None:
    report = make_report()
    write(reports, report)
    assert json.loads(succeed(reports, "export", ID)) == exported(report)


def test_export_to_files(reports: Path, directory: Path) -> None:
    report = make_report()
    write(reports, report)
    document, sent = directory / "report.json", directory / "request"
    assert succeed(reports, "export", ID, "--output", str(document), "--request", str(sent)) == ""
    assert json.loads(document.read_text()) == exported(report)
    assert sent.read_bytes() == report["request"]["frame"]
    for path in (document, sent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, "what somebody's request held"


@pytest.mark.parametrize("option", ["--output", "--request"])
@pytest.mark.parametrize("path", ["/dev/full", "/no/such/directory/file"])
def test_export_to_a_file_that_cannot_be_written(reports: Path, option: str, path: str) -> None:
    write(reports, make_report())
    fail(reports, "export", ID, option, path, words=f"cannot write {path}")


def test_export_without_parameters(reports: Path, directory: Path) -> None:
    write(reports, without_params(make_report()))
    assert json.loads(succeed(reports, "export", ID))["request"]["params"] is None
    fail(reports, "export", ID, "--request", str(directory / "request"), words="--crash-params off")
    assert not (directory / "request").exists()


# ---- what nobody should have written


DAMAGED = {
    "empty": b"",
    "text": b"this is no report",
    "cut off": pack(make_report())[:-1],
    "too long": pack(make_report()) + b"\xc0",
    "an array": pack([1, 2]),
    "another map": pack({"a": 1}),
    "of version true": pack({"version": True}),
    "too deep": pack({"version": 1, "stack": [[[[[[[[[[[[1]]]]]]]]]]]]}),
    "claims": b"\xdf\xff\xff\xff\xff\xc0",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged(reports: Path, name: str) -> None:
    write(reports, make_report(), OLD_ID)
    (reports / f"{ID}.crash").write_bytes(DAMAGED[name])
    bad, good = succeed(reports, "list").splitlines()[1:]
    assert "unreadable" in bad
    assert "SIGSEGV" in good
    bad, good = json.loads(succeed(reports, "list", "--json"))
    assert bad["unreadable"]
    assert not good["unreadable"]
    for command in ("show", "export", "replay"):
        fail(reports, command, ID, words=re.escape(f"{ID}.crash: it is no whole crash report"))


def test_of_a_newer_version(reports: Path) -> None:
    write(reports, make_report(version=2))
    fail(reports, "show", ID, words="does not know")


def test_what_is_no_file(reports: Path, directory: Path) -> None:
    elsewhere = directory / "elsewhere"
    elsewhere.write_bytes(pack(make_report()))
    (reports / "1-1.crash").symlink_to(elsewhere)
    os.mkfifo(reports / "1-2.crash")
    (reports / "1-3.crash").mkdir()
    (reports / "1-4.crash").symlink_to("/dev/zero")
    assert succeed(reports, "list").count("unreadable") == 4
    for number in range(1, 5):
        fail(reports, "show", f"1-{number}", words=rf"1-{number}\.crash: ")


WRONG: list[Any] = [
    None,
    True,
    -1,
    2**64 - 1,
    float("nan"),
    1e308,
    "",
    "text\x1b",
    b"\xff",
    [],
    [None],
    [[]],
    {},
    {1: 2},
]


def paths_into(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a report, from the outside in."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths_into(inner, (*path, key))


def put(report: Report, path: tuple[Any, ...], value: Any) -> Report:
    report = copy.deepcopy(report)
    inner: Any = report
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return report


def check_all_commands(reports: Path, ids: list[str]) -> None:
    assert len(json.loads(succeed(reports, "list", "--json"))) == len(ids)
    assert "\x1b" not in succeed(reports, "list")
    for report_id in ids:
        shown = succeed(reports, "show", report_id)
        assert "\x1b" not in shown
        json.loads(succeed(reports, "show", report_id, "--json"))
        json.loads(succeed(reports, "export", report_id))


@pytest.mark.limit(120)
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_wrong_types(reports: Path, wrong: Any) -> None:
    report = make_report()
    ids = []
    for number, path in enumerate(paths_into(report), start=1):
        if path != ("version",):
            ids.append(f"20261122-101502-{number}")
            write(reports, put(report, path, wrong), ids[-1])
    check_all_commands(reports, ids)


def test_nothing_but_the_version(reports: Path) -> None:
    write(reports, {"version": 1})
    check_all_commands(reports, [ID])
    fail(reports, "replay", ID, words="holds no request")


CONTROL = "\x1b]0;title\x07\x1b[31mred\r\x9b2J\x00end"


def put_everywhere(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: put_everywhere(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [put_everywhere(inner) for inner in value]
    return CONTROL if isinstance(value, str) else value


def test_control_characters_do_not_reach_the_terminal(reports: Path) -> None:
    report = put_everywhere(make_report())
    report["request"]["frame"] = request("suggest", CONTROL)
    report["stderr"] = CONTROL + "\n\tmore\n"
    write(reports, report)
    for command in ("list", "show latest", "replay latest"):
        result = crash(reports, *command.split())
        output = result.stdout + result.stderr
        assert not re.search(r"[^\n -~]", output), output
    for command in ("list", "show latest", "export latest"):
        json_option = [] if command.startswith("export") else ["--json"]
        assert not re.search(
            r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", succeed(reports, *command.split(), *json_option)
        )


def test_long_names_do_not_fill_the_screen(reports: Path) -> None:
    name = "libspell.so!" + "Affix<" * 1000
    write(reports, make_report(stack=[stack_frame(name)]))
    assert max(len(line) for line in succeed(reports, "list").splitlines()) < 200
    assert name in succeed(reports, "show", ID)


# ---- replay


def report_of(
    engine: str, method: str = "", *params: Any, args: list[str] | None = None, **changes: Any
) -> Report:
    """A report of a call of one of the engines here."""
    report = make_report(stack=[], **changes)
    report["engine"] = {"name": engine, "path": engine_path(engine), "args": args or []}
    report["time"] = time.time() + 60
    if report["request"]:
        report["request"] |= {"method": method, "frame": request(method, *params)}
    return report


def signal_cause(signal: str) -> dict[str, Any]:
    return {"kind": "signal", "text": f"{signal} somewhere", "signal": signal}


@pytest.fixture
def temporary(directory: Path) -> Iterator[dict[str, str]]:
    """An environment in which what is left behind is seen."""
    path = directory / "tmp"
    path.mkdir()
    yield clean_environment() | {"TMPDIR": str(path)}
    assert list(path.iterdir()) == []


Environment = dict[str, str]


def test_replay(reports: Path, temporary: Environment) -> None:
    report = report_of("fault", "crash")
    report["stack"] = [stack_frame("libfault.so!do_crash+0x1 (fault.c:1)")]
    write(reports, report)
    first, second = succeed(reports, "replay", ID, env=temporary).splitlines()
    assert first.startswith("crashed again: SIGSEGV in crash(): libfault.so!do_crash")
    assert second == "the same cause and the same place as in the report"
    verdict = json.loads(succeed(reports, "replay", ID, "--json", env=temporary))
    assert [verdict[key] for key in ("crashed", "same_cause", "same_place")] == [True, True, True]
    assert verdict["report"] == ID
    assert any(part["symbol"] == "fault_crash" for part in verdict["stack"])
    assert len(list(reports.iterdir())) == 1, "its own reports go elsewhere"


@pytest.mark.parametrize(
    ("method", "params", "words"),
    [
        ("echo", ["hello"], r'did not crash: it returned "hello"'),
        ("echo", ["x" * 5000], r'did not crash: it returned "x{200,300}\.\.\.'),
        ("fail", [5, "WHY", "not\x1bhere"], r"did not crash: the engine said NOT_FOUND: not\\x1bhere"),
        ("abort", [], r"crashed again: SIGABRT.*\nanother cause than in the report.*SIGSEGV somewhere"),
        ("exit", [3], r"crashed again: exit\(3\).*\nanother cause"),
        ("raise", [9], r"crashed again: SIGKILL"),
        (
            "crash",
            [],
            r"crashed again: SIGSEGV.*\nthe same cause as in the report; the places cannot be compared",
        ),
    ],
)
def test_replay_outcomes(
    reports: Path, temporary: Environment, method: str, params: list[Any], words: str
) -> None:
    write(reports, report_of("fault", method, *params, cause=signal_cause("SIGSEGV")))
    shown = succeed(reports, "replay", ID, env=temporary)
    assert re.match(words, shown), shown


def test_replay_of_a_deadline(reports: Path, temporary: Environment) -> None:
    report = report_of("fault", "sleep", 30, cause={"kind": "deadline", "text": "ended: late"})
    report["request"]["ran"] = 0.3
    write(reports, report)
    began = time.monotonic()
    assert succeed(reports, "replay", ID, env=temporary).startswith("crashed again: ended: sleep() ran past")
    assert time.monotonic() - began < 10
    write(reports, report_of("fault", "sleep", 30))
    shown = succeed(reports, "replay", ID, "--timeout", "0.3", env=temporary)
    assert shown.startswith("did not crash"), "that it took long is not what the report tells"


def test_replay_has_the_memory_limit(reports: Path, temporary: Environment) -> None:
    report = report_of("fault", "allocation_throw", cause={"kind": "memory_limit", "text": "at its limit"})
    report["server"]["options"] = ["--max-memory", "100M"]
    write(reports, report)
    verdict = json.loads(succeed(reports, "replay", ID, "--json", env=temporary))
    assert (verdict["crashed"], verdict["same_cause"]) == (True, True)


def test_replay_takes_no_other_option(reports: Path, temporary: Environment, directory: Path) -> None:
    report = report_of("fault", "echo", 1)
    report["server"]["options"] = [
        "--socket",
        str(directory / "s"),
        "--max-frame",
        "--core",
        "--crash-keep",
        "0",
    ]
    write(reports, report)
    assert succeed(reports, "replay", ID, env=temporary) == "did not crash: it returned 1\n"
    assert not (directory / "s").exists()


def test_replay_of_a_start(reports: Path, temporary: Environment) -> None:
    write(reports, report_of("fault", request=None, phase="start"))
    shown = succeed(reports, "replay", ID, env=temporary)
    assert shown == "did not crash: the engine has loaded and started\n"


@pytest.mark.parametrize("hook", ["load", "start", "stop"])
def test_replay_of_a_death_in_a_hook(reports: Path, temporary: Environment, hook: str) -> None:
    cause = signal_cause("SIGSEGV")
    write(reports, report_of("fault", request=None, phase=hook, args=[f"{hook}-crash"], cause=cause))
    shown = succeed(reports, "replay", ID, env=temporary)
    assert re.match(rf"crashed again: .*{hook}\(\).*libfault.so!do_crash.*\nthe same cause", shown), shown


NO_REPLAY = {
    "no request": (make_report(request=None, phase="idle"), "holds no request"),
    "no parameters": (without_params(report_of("fault", "crash")), "--crash-params off"),
    "no engine": (make_report(), "libspell.so: No such file"),
    "a relative engine": (make_report(engine={"path": "libfault.so"}), "does not name its engine"),
    "an engine that is none": (
        report_of("fault", "crash") | {"engine": {"path": "/etc/passwd"}},
        "did not start",
    ),
}


@pytest.mark.parametrize("name", NO_REPLAY)
def test_replay_is_not_possible(reports: Path, temporary: Environment, name: str) -> None:
    report, words = NO_REPLAY[name]
    write(reports, report)
    for option in [[], ["--json"]]:
        fail(reports, "replay", ID, *option, words=words, env=temporary)


@pytest.mark.parametrize(
    "sent", [b"", b"\0\0\0\5", frame(b""), frame(pack([0, 1])), frame(pack([0, 1, "x", []])) + b"x"]
)
def test_replay_of_a_request_that_is_none(reports: Path, sent: bytes) -> None:
    report = report_of("fault", "crash")
    report["request"]["frame"] = sent
    path = write(reports, report)
    for option in [[], ["--gdb"], ["--valgrind"]]:
        fail(reports, "replay", ID, *option, words="request")
    assert run_cohabd("--replay", str(path), engine_path("fault")).returncode == 1


def test_replay_with_an_engine_that_is_newer(reports: Path, temporary: Environment) -> None:
    report = report_of("fault", "echo", 1)
    report["time"] = 1e9
    write(reports, report)
    result = crash(reports, "replay", ID, env=temporary)
    assert result.returncode == 0
    assert "newer than the report" in result.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_replay_with_the_rights_of_the_owner(reports: Path, directory: Path) -> None:
    """Who could write a report decides what runs: not as root."""
    if not others_may_reach(BUILD):
        pytest.skip("the build is where other users cannot go")
    directory.chmod(0o755)
    reports.chmod(0o755)
    path = write(reports, report_of("fault", "open_fds"))
    os.chown(path, 12345, 12345)
    result = crash(
        reports, "replay", ID, "--gdb", env=clean_environment() | {"PATH": str(fake(directory, "gdb"))}
    )
    assert result.returncode == 0, result
    assert result.stdout.splitlines()[0] == "12345 12345"


def fake(directory: Path, name: str) -> Path:
    """A program that says who runs it, and with what."""
    path = directory / "bin"
    path.mkdir()
    path.chmod(0o755)
    user = f"$({shutil.which('id')} -u) $({shutil.which('id')} -g)"
    (path / name).write_text(f'#!/bin/sh\necho {user}\nfor word; do echo "$word"; done\n')
    (path / name).chmod(0o755)
    return path


@pytest.mark.parametrize("program", ["gdb", "valgrind"])
def test_the_program_is_not_installed(reports: Path, program: str) -> None:
    write(reports, report_of("fault", "crash"))
    environment = clean_environment() | {"PATH": str(reports)}
    words = f"no {program} in .*install the package {program}"
    fail(reports, "replay", ID, f"--{program}", words=words, env=environment)


@pytest.mark.parametrize("options", [["--gdb", "--valgrind"], ["--gdb", "--json"], ["--valgrind", "--json"]])
def test_ways_that_exclude_one_another(reports: Path, options: list[str]) -> None:
    write(reports, report_of("fault", "crash"))
    fail(reports, "replay", ID, *options, words="exclude one another", code=2)


def test_what_a_debugger_is_given(reports: Path, directory: Path) -> None:
    report = report_of("fault", "crash", args=["-x", "two words", "--"])
    report["server"]["options"] = ["--max-frame", "2000", "--max-memory", "50M"]
    path = write(reports, report)
    words = succeed(
        reports, "replay", ID, "--gdb", env=clean_environment() | {"PATH": str(fake(directory, "gdb"))}
    ).splitlines()
    own = words[words.index("--args") + 1 :]
    assert own[1:3] == ["--replay", str(path)]
    assert own[-5:] == [engine_path("fault"), "--", "-x", "two words", "--"]
    assert "--max-memory 50M" in " ".join(own)


def need(program: str) -> None:
    if not shutil.which(program):
        pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize(
    ("method", "params", "cause", "function"),
    [
        ("crash", [], signal_cause("SIGSEGV"), "do_crash"),
        ("exit", [3], {"kind": "exit", "status": 3}, "fault_exit"),
    ],
)
def test_gdb(reports: Path, method: str, params: list[Any], cause: dict[str, Any], function: str) -> None:
    need("gdb")
    write(reports, report_of("fault", method, *params, cause=cause))
    result = crash(reports, "replay", ID, "--gdb")
    assert re.search(rf"#\d+ .*\b{function} ", result.stdout), result
    assert "run_request" in result.stdout


def test_valgrind(reports: Path) -> None:
    need("valgrind")
    write(reports, report_of("fault", "echo", "hello"))
    result = crash(reports, "replay", ID, "--valgrind")
    assert result.returncode == 0, result
    assert 'returned: "hello"' in result.stdout
    write(reports, report_of("fault", "crash"))
    result = crash(reports, "replay", ID, "--valgrind")
    assert result.returncode < 0
    assert re.search(r"Invalid write of size \d", result.stderr)


# ---- cohabd --replay


def replay(path: Path, engine: str = "fault", *options: str) -> Result:
    return run_cohabd("--replay", str(path), *options, engine_path(engine))


def test_replay_in_one_process(reports: Path) -> None:
    path = write(reports, report_of("fault", "echo", "hello"))
    result = replay(path)
    assert (result.returncode, result.stdout) == (0, 'returned: "hello"\n')
    write(reports, report_of("fault", "fail", 5, "WHY", "not\nhere"))
    assert replay(path).stdout == "failed: NOT_FOUND (WHY): not here\n"
    write(reports, report_of("fault", "crash"))
    assert replay(path).returncode == -11
    write(reports, report_of("fault", "exit", 0))
    result = replay(path)
    assert result.returncode == 1, "an exit() is no success"
    assert "called exit()" in result.stderr


def test_replay_in_one_process_forgets_the_deadline(reports: Path) -> None:
    report = report_of("fault")
    report["request"]["frame"] = request("deadline_left", meta={"deadline": 1})
    result = replay(write(reports, report), "fault", "--max-timeout", "1000")
    assert 900 < float(result.stdout.removeprefix("returned: ")) <= 1000


def test_replay_in_one_process_without_a_request(reports: Path) -> None:
    result = replay(write(reports, report_of("fault", request=None, phase="start")))
    assert result.returncode == 0
    assert "no request" in result.stdout
    result = replay(write(reports, without_params(report_of("fault", "crash"))))
    assert (result.returncode, result.stdout) == (1, "")
    assert "--crash-params off" in result.stderr


def test_replay_in_one_process_of_what_is_no_report(reports: Path) -> None:
    for path in (reports / "none", reports, Path("/dev/null"), Path("/dev/zero")):
        result = replay(path)
        assert result.returncode == 1, path
        assert str(path) in result.stderr
    report = report_of("fault", "echo", "x" * 10_000)
    result = replay(write(reports, report), "fault", "--max-frame", "4096")
    assert result.returncode == 1
    assert "--max-frame" in result.stderr


# ---- stack and quarantine, as people see them


def test_stack(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    assert server.cli("stack").stdout == "no worker is busy\n"
    call = subprocess.Popen([str(COHAB), "--socket", server.socket, "call", "block", gate.path, "a"])
    pid = gate.pid_of("a")
    result = server.cli("stack")
    assert result.returncode == 0, result
    heading, *lines = result.stdout.splitlines()
    matched = re.fullmatch(rf"worker (\d) \(pid {pid}\) block\(\) for .*", heading)
    assert matched, heading
    assert any("fault_block" in line for line in lines)
    assert "fault_block" in server.cli("stack", matched[1]).stdout
    assert server.cli("stack", "3" if matched[1] == "2" else "2").stdout != result.stdout
    assert json.loads(server.cli("stack", "--json").stdout)["workers"][0]["pid"] == pid
    for words, code in [(["99"], 1), (["x"], 2), (["1", "2"], 2)]:
        assert server.cli("stack", *words).returncode == code
    gate.release("a")
    assert call.wait(10) == 0


def test_quarantine(start: StartServer) -> None:
    server = start("fault", "--quarantine-after", "2")
    assert server.cli("quarantine", "list").stdout.endswith("no request has killed a worker\n")
    for _ in range(2):
        server.cli("call", "crash")
    wait_until(lambda: server.status()["crashes"]["written"] == 2, what="two reports")
    rule, _, heading, line = server.cli("quarantine", "list").stdout.splitlines()
    assert rule == "requests are refused after 2 deaths"
    assert heading.split() == ["HASH", "METHOD", "DEATHS", "STATE", "LAST", "REPORTS"]
    assert re.search(r"^[0-9a-f]{16} +crash +2 +refused .* ago +\d{8}-\d{6}-\d+ \d{8}-\d{6}-\d+$", line)
    assert "QUARANTINED" in server.cli("call", "crash").stderr
    assert server.cli("quarantine", "clear", "0123456789abcdef").stdout == "0 requests forgotten\n"
    assert server.cli("quarantine", "clear", line.split()[-1]).stdout == "1 request forgotten\n"
    assert "ENGINE_CRASHED" in server.cli("call", "crash").stderr
    assert server.cli("quarantine", "clear").stdout == "1 request forgotten\n"


@pytest.mark.parametrize("command", [["stack"], ["quarantine", "list"], ["quarantine", "clear"]])
def test_no_server(directory: Path, command: list[str]) -> None:
    assert run_cohab("--socket", str(directory / "none"), *command).returncode == 3
    assert run_cohab(*command).returncode == 2
