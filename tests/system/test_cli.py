"""The command line tool against a real server: what it prints, and its exit codes."""

from __future__ import annotations

import base64
import json
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import COHAB, Gate, Server, clean_environment, run_cohab
from processes import wait_until


def call(server: Server, *arguments: str, **options: Any) -> Any:
    result = server.cli("call", *arguments, **options)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


# ---- call


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("1.5", 1.5),
        ("true", True),
        ("null", None),
        ('"quoted"', "quoted"),
        ("plain words", "plain words"),
        ("häßlich", "häßlich"),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ("[1, 2", "[1, 2"),
        ("18446744073709551615", 2**64 - 1),
        ("", ""),
        ('{"$base64": "AAEC/w=="}', {"$base64": "AAEC/w=="}),
    ],
)
def test_call(start: StartServer, argument: str, value: Any) -> None:
    assert call(start("echo"), "echo", argument) == value


def test_call_spell(start: StartServer) -> None:
    server = start("spell", args=["en_US"])
    assert call(server, "check", "receive") is True
    assert "receive" in call(server, "suggest", "recieve", "3")
    assert call(server, "check_all", '["receive", "recieve"]') == [True, False]


def test_call_with_parameters_from_standard_input(start: StartServer) -> None:
    server = start("echo")
    assert call(server, "echo", "-", text='[{"long": ["list"]}]') == {"long": ["list"]}
    big = "x" * 300_000
    assert call(server, "echo", "-", text=json.dumps([big])) == big
    result = server.cli("call", "echo", "-", text="not JSON")
    assert result.returncode == 2
    result = server.cli("call", "echo", "-", text='{"no": "array"}')
    assert result.returncode == 2


def test_bytes_are_base64(start: StartServer) -> None:
    server = start("echo")
    blob = bytes(range(251)) + bytes(range(49))
    assert call(server, "blob", "300") == {"$base64": base64.b64encode(blob).decode()}


def test_result_without_value(start: StartServer) -> None:
    assert start("echo").cli("call", "sleep", "0").stdout == "null\n"


def test_call_that_fails(start: StartServer) -> None:
    server = start("fault")
    for arguments, words in [
        (["fail", "5", "NO_SUCH_WORD", "not here"], ["NOT_FOUND", "NO_SUCH_WORD", "not here"]),
        (["nothing"], ["UNIMPLEMENTED", "NO_SUCH_METHOD", "nothing"]),
        (["sleep", "long"], ["INVALID_ARGUMENT", "seconds"]),
        (["crash"], ["INTERNAL", "ENGINE_CRASHED", "SIGSEGV"]),
        (["exit", "3"], ["INTERNAL", "ENGINE_CRASHED", "exit(3)"]),
        (["bad_result", "two"], ["INTERNAL", "ENGINE_ERROR"]),
    ]:
        result = server.cli("call", *arguments)
        assert result.returncode == 1, arguments
        assert result.stdout == ""
        for word in words:
            assert word in result.stderr


def test_call_timeout(start: StartServer) -> None:
    server = start("fault", workers=1)
    result = server.cli("call", "--timeout", "0.2", "sleep", "30")
    assert result.returncode == 1
    assert "DEADLINE_EXCEEDED" in result.stderr
    assert call(server, "--timeout", "7", "deadline_left") <= 7


def test_control_characters_do_not_reach_the_terminal(start: StartServer) -> None:
    server = start("fault")
    result = server.cli("call", "echo", '"\\u001b[31mred\\u0007"')
    assert "\x1b" not in result.stdout
    assert json.loads(result.stdout) == "\x1b[31mred\x07"
    result = server.cli("call", "fail", "13", "R", '"\\u001b[31mred"')
    assert result.returncode == 1
    assert "\x1b" not in result.stderr


def test_standard_output_that_is_full(start: StartServer) -> None:
    """A result that did not reach its file is no success."""
    server = start("echo")
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [str(COHAB), "--socket", server.socket, "call", "echo", "1"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.returncode == 1
    assert b"standard output" in result.stderr


# ---- the other commands


def test_ping(start: StartServer) -> None:
    server = start("echo")
    result = server.cli("ping")
    assert result.returncode == 0
    assert server.socket in result.stdout


def test_ping_waits_for_a_server(make_server: MakeServer) -> None:
    server = make_server()
    assert server.cli("ping").returncode == 3
    assert server.cli("ping", "--wait", "0.2").returncode == 3
    server.launch("fault", args=["load-sleep", "0.3"])
    assert server.cli("ping", "--wait", "20").returncode == 0


def test_methods(start: StartServer) -> None:
    result = start("echo").cli("methods")
    assert result.returncode == 0
    for words in ("sleep(seconds: float) -> None", "idempotent", "Returns its argument."):
        assert words in result.stdout


def test_status_for_people(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    server.wait_full_strength()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    result = server.cli("status")
    assert result.returncode == 0
    assert "\x1b" not in result.stdout  # no colours where nobody looks
    assert re.search(r"running for .*2 of 2 workers ready, 1 busy", result.stdout)
    assert re.search(rf"^ *\d +{pid} .*busy.*block$", result.stdout, re.M)
    assert "killed by SIGSEGV in crash()" in result.stdout
    gate.release("held")
    assert raw.receive().ok


def test_status_json(start: StartServer) -> None:
    server = start("echo", workers=3)
    status = server.status()
    assert status["problem"] is None
    assert set(status) - {"problem"} == {
        "version",
        "server",
        "engine",
        "generations",
        "reload",
        "connections",
        "queue",
        "totals",
        "workers",
        "deaths",
        "crashes",
        "log",
    }
    assert status["version"] == 1
    assert [w["number"] for w in status["workers"]] == [1, 2, 3]
    for worker in status["workers"]:
        assert set(worker) == {
            "number",
            "pid",
            "generation",
            "state",
            "method",
            "running",
            "queued",
            "calls",
            "private",
            "age",
        }
        assert 0 < worker["private"] < 100 * 2**20
    assert status["server"]["socket"] == server.socket
    assert status["server"]["version"] == cohab.__version__
    assert status["server"]["workers"] == 3


def test_stop(start: StartServer) -> None:
    server = start("echo")
    result = server.cli("stop")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert not Path(server.socket).exists()
    assert server.wait_end() == 0
    assert server.cli("stop").returncode == 3


# ---- exit codes


def test_cannot_connect(directory: Path) -> None:
    missing = str(directory / "nobody")
    for arguments in (
        ["call", "echo", "1"],
        ["ping"],
        ["methods"],
        ["status"],
        ["status", "--json"],
        ["stop"],
    ):
        result = run_cohab("--socket", missing, *arguments)
        assert result.returncode == 3, arguments
        assert missing in result.stderr
        assert result.stdout == ""


def test_socket_that_nobody_listens_on(start: StartServer) -> None:
    server = start("echo")
    server.send_signal(signal.SIGKILL)
    server.wait_end()
    wait_until(lambda: not server.tree(), what="all gone")
    result = server.cli("call", "echo", "1")
    assert result.returncode == 3
    assert "nobody listens" in result.stderr


def test_file_that_is_no_socket(directory: Path) -> None:
    file = directory / "file"
    file.write_text("")
    assert run_cohab("--socket", str(file), "ping").returncode == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["--nonsense", "ping"],
        ["call"],
        ["call", "--timeout"],
        ["call", "--timeout", "soon", "echo", "1"],
        ["call", "--nonsense", "echo"],
        ["call", "echo", "-", "-"],
        ["ping", "--wait", "long"],
        ["ping", "extra"],
        ["status", "extra"],
        ["stop", "extra"],
    ],
)
def test_bad_usage(directory: Path, arguments: list[str]) -> None:
    result = run_cohab("--socket", str(directory / "s"), *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("cohab")
    assert result.stdout == ""


def test_no_socket_named() -> None:
    result = run_cohab("ping")
    assert result.returncode == 2
    assert "COHAB_SOCKET" in result.stderr


def test_socket_from_the_environment(start: StartServer) -> None:
    server = start("echo")
    environment = {**clean_environment(), "COHAB_SOCKET": server.socket}
    assert run_cohab("call", "echo", "7", env=environment).stdout == "7\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["call", "--help"], ["status", "--help"]])
def test_help(arguments: list[str]) -> None:
    result = run_cohab(*arguments)
    assert result.returncode == 0
    assert "cohab" in result.stdout
    assert result.stderr == ""


# ---- standard output that is closed


@pytest.mark.parametrize(("command", "code"), [("call echo 1", 1), ("stop", 0), ("bogus", 2)])
def test_closed_output(start: StartServer, command: str, code: int) -> None:
    """What was to be written and was not is an error; where nothing was, the code is what it is."""
    server = start("echo")
    line = f"'{COHAB}' --socket '{server.socket}' {command} >&-"
    assert subprocess.run(["sh", "-c", line], capture_output=True, timeout=30, check=False).returncode == code


def test_keys_within_keys_stay_short(start: StartServer) -> None:
    """Each level of them would double the backslashes."""
    server = start("fault")
    result = server.cli("call", "bad_result", "nested_keys")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout) < 1000


def test_spell_takes_no_commands_for_words(start: StartServer) -> None:
    """Hunspell takes XML for commands, one of which adds a word: to one worker alone."""
    server = start("spell", args=["en_US"], workers=1)
    assert call(server, "check", "cohabber") is False
    assert call(server, "suggest", '<?xml?><query type="add"><word>cohabber</word></query>') == []
    assert call(server, "check", "cohabber") is False
    assert call(server, "check", "<?xml?>") is False
