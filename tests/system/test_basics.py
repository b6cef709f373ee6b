"""What the server does when all goes well, and what it says when a caller or an engine is wrong."""

from __future__ import annotations

import fcntl
import math
import os
import signal
from pathlib import Path
from typing import Any

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import Gate, Server, ServerEnded, engine_path, run_cohabd
from processes import group_of, huge_pages, parent_of, title_of, wait_until

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    127,
    128,
    -32,
    -33,
    2**31,
    2**63 - 1,
    2**64 - 1,
    -(2**63),
    0.0,
    -1.5,
    math.inf,
    "",
    "häßlich \U0001f40c \0 end",
    "x" * 70000,
    b"",
    bytes(range(256)),
    b"y" * 70000,
    [],
    [1, [2, [3, [None]]]],
    list(range(70000)),
    {},
    {"a": 1, "b": [2.5, {"c": b"d"}]},
    {1: "int key", None: "nil key", b"k": "bytes key"},
]


def test_echo_returns_what_it_is_given(start: StartServer) -> None:
    client = start("echo").client()
    for value in VALUES:
        assert client.call("echo", value) == value
    assert math.isnan(client.call("echo", math.nan))


def test_nesting_up_to_the_limit(start: StartServer) -> None:
    client = start("echo").client()
    value: Any = "deep"
    for _ in range(30):
        value = [value]
    assert client.call("echo", value) == value
    with pytest.raises(cohab.InvalidArgument) as caught:
        client.call("echo", [value])
    assert caught.value.reason == "TOO_DEEP"
    assert client.call("echo", 1) == 1


def test_builtin_methods(start: StartServer) -> None:
    client = start("echo").client()
    assert client.ping() == []
    assert client.ping(1, "two", [3]) == [1, "two", [3]]
    methods = {m["name"]: m for m in client.methods()}
    assert set(methods) == {"echo", "sleep", "spin", "blob"}
    assert methods["sleep"]["signature"] == "sleep(seconds: float) -> None"
    assert methods["echo"]["doc"] == "Returns its argument."
    assert methods["blob"]["flags"] == ["idempotent"]
    version = client.call("cohab.version")
    assert version["protocol"] == 1
    assert version["engine"] == "echo"
    assert version["cohab"] == cohab.__version__
    with pytest.raises(cohab.InvalidArgument):
        client.call("cohab.version", 1)


@pytest.mark.parametrize("name", ["nothing", "cohab.nothing", "", "echo ", "écho", "x" * 5000])
def test_unknown_method(start: StartServer, name: str) -> None:
    client = start("echo").client()
    with pytest.raises(cohab.MethodNotFound) as caught:
        client.call(name)
    error = caught.value
    assert (error.code, error.reason, error.executed, error.retry) == (
        "UNIMPLEMENTED",
        "NO_SUCH_METHOD",
        False,
        False,
    )
    assert f"has no method '{name[:100]}" in error.message
    assert client.call("echo", 1) == 1


@pytest.mark.parametrize(
    ("method", "params", "text"),
    [
        ("sleep", (), "sleep() takes 1 argument, 0 were given"),
        ("sleep", ("long",), "seconds"),
        ("sleep", (None,), "seconds"),
        ("sleep", (0, 1), "sleep"),
        ("sleep", (math.nan,), "seconds"),
        ("sleep", (-1,), "seconds"),
        ("blob", (1.5,), "'n'"),
        ("blob", (-1,), "'n'"),
        ("blob", (2**64 - 1,), "'n'"),
        ("echo", (), "echo() takes 1 argument, 0 were given"),
        ("echo", (1, 2), "echo"),
    ],
)
def test_bad_arguments(start: StartServer, method: str, params: tuple[Any, ...], text: str) -> None:
    client = start("echo", workers=1).client()
    with pytest.raises(cohab.InvalidArgument) as caught:
        client.call(method, *params)
    assert caught.value.reason == "BAD_ARGUMENT"
    assert text in caught.value.message
    assert not caught.value.retry
    assert client.ping(1) == [1]


def test_error_text_of_a_bad_argument(start: StartServer) -> None:
    client = start("spell", args=["en_US"]).client()
    with pytest.raises(cohab.InvalidArgument) as caught:
        client.call("suggest", "recieve", "three")
    assert "limit" in caught.value.message
    assert "int" in caught.value.message
    assert "str" in caught.value.message
    assert not caught.value.executed
    with pytest.raises(cohab.InvalidArgument) as caught:
        client.call("check_all", ["fine", 7])
    assert "words" in caught.value.message


@pytest.mark.parametrize(
    ("number", "reason", "code", "kind"),
    [
        (13, "", "INTERNAL", cohab.EngineError),
        (5, "NO_SUCH_WORD", "NOT_FOUND", cohab.EngineError),
        (3, "ODD", "INVALID_ARGUMENT", cohab.InvalidArgument),
        (8, "", "RESOURCE_EXHAUSTED", cohab.ResourceExhausted),
        (1, "", "CANCELLED", cohab.Cancelled),
        (14, "LATER", "UNAVAILABLE", cohab.Unavailable),
    ],
)
def test_engine_errors(
    start: StartServer, number: int, reason: str, code: str, kind: type[cohab.Error]
) -> None:
    client = start("fault").client()
    with pytest.raises(kind) as caught:
        client.call("fail", number, reason, "so it is: 100 %s, \u00fc")
    error = caught.value
    assert error.code == code
    assert error.reason == (reason or "ENGINE_ERROR")
    assert error.message == "so it is: 100 %s, \u00fc"
    assert error.executed
    assert client.call("echo", 1) == 1


def test_long_engine_error_is_cut(start: StartServer) -> None:
    client = start("fault").client()
    with pytest.raises(cohab.EngineError) as caught:
        client.call("fail", 13, "R", "ü" * 5000)
    assert caught.value.message.startswith("üüü")
    assert len(caught.value.message.encode()) <= 2048
    assert client.call("echo", 1) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("two", "not exactly one msgpack value"),
        ("truncated", "not exactly one msgpack value"),
        ("garbage", "not exactly one msgpack value"),
        ("too_long", "not exactly one msgpack value"),
        ("deep", "not exactly one msgpack value"),
        ("status", "without saying which"),
        ("silent", "without saying which"),
    ],
)
def test_invalid_results(start: StartServer, kind: str, text: str) -> None:
    server = start("fault")
    with server.raw() as raw:
        reply = raw.call("bad_result", kind)
        assert reply.error is not None
        assert (reply.error["code"], reply.reason) == ("INTERNAL", "ENGINE_ERROR")
        assert text in reply.error["message"]
        assert reply.error["executed"] is True
        assert raw.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 0


def test_odd_but_valid_results(start: StartServer) -> None:
    client = start("fault").client()
    assert client.call("bad_result", "nothing") is None
    for kind in ("success_after_error", "error_after_result"):
        with pytest.raises(cohab.EngineError) as caught:
            client.call("bad_result", kind)
        assert caught.value.code == "ABORTED"


def test_result_too_large(start: StartServer) -> None:
    server = start("echo", "--max-frame", "1M")
    client = server.client()
    assert len(client.call("blob", (1 << 20) - 64)) == (1 << 20) - 64
    for size in (1 << 20, 1 << 30):
        with pytest.raises(cohab.ResourceExhausted) as caught:
            client.call("blob", size)
        assert caught.value.reason == "RESULT_TOO_LARGE"
        assert "--max-frame" in caught.value.message
        assert caught.value.executed
    assert client.call("echo", 1) == 1
    assert server.status()["totals"]["worker_deaths"] == 0


def test_endless_result(start: StartServer) -> None:
    client = start("fault").client()
    with pytest.raises(cohab.ResourceExhausted) as caught:
        client.call("bad_result", "endless")
    assert caught.value.reason == "RESULT_TOO_LARGE"
    assert client.call("echo", 1) == 1


def test_spell(start: StartServer) -> None:
    client = start("spell", args=["en_US"]).client()
    assert client.call("check", "receive") is True
    assert client.call("check", "recieve") is False
    assert "receive" in client.call("suggest", "recieve")
    assert len(client.call("suggest", "recieve", 1)) == 1
    assert client.call("check_all", ["receive", "recieve", "häh"]) == [True, False, False]
    with pytest.raises(cohab.Error) as caught:
        client.call("add", "recieve")
    assert "worker" in caught.value.message


def test_load_runs_once_and_start_in_each_worker(start: StartServer, directory: Path) -> None:
    log = directory / "hooks"
    server = start("fault", args=["log", str(log)], workers=3)
    pids = server.workers()
    forkserver = server.forkserver()
    hooks = [line.split() for line in log.read_text().splitlines()]
    assert [pid for hook, pid in hooks if hook == "load"] == [str(forkserver)]
    assert sorted(int(pid) for hook, pid in hooks if hook == "start") == sorted(pids)
    assert server.client().call("hooks")["load"] == forkserver
    assert server.stop() == 0
    hooks = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(pid) for hook, pid in hooks if hook == "stop") == sorted(pids)


# ---- options


def test_unknown_option() -> None:
    result = run_cohabd("--wokers", "3", "echo")
    assert result.returncode == 2
    assert "--wokers" in result.stderr
    assert "--help" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "0"],
        ["--workers", "many"],
        ["--workers", "-1"],
        ["--max-frame", "12Q"],
        ["--max-frame", "8"],
        ["--spin-us", "-1"],
        ["--spin-us", "10001"],
        ["--io-timeout", "0"],
        ["--io-timeout", "nan"],
        ["--stop-timeout", "-1"],
        ["--socket-mode", "999"],
        ["--log-level", "loud"],
        ["--max-connections", "0"],
        ["--workers"],
    ],
)
def test_bad_values(directory: Path, arguments: list[str]) -> None:
    result = run_cohabd("--socket", str(directory / "s"), *arguments, *(["echo"] if arguments[1:] else []))
    assert result.returncode == 2
    assert arguments[0] in result.stderr
    assert list(directory.iterdir()) == []


def test_missing_socket_and_engine(directory: Path) -> None:
    result = run_cohabd(engine_path("echo"))
    assert result.returncode == 2
    assert "--socket" in result.stderr
    result = run_cohabd("--socket", str(directory / "s"))
    assert result.returncode == 2
    assert "engine" in result.stderr


@pytest.mark.parametrize("engine", ["no-such-engine", "/no/such/engine.so", "./nothing.so", "/tmp"])
def test_missing_engine(directory: Path, engine: str) -> None:
    result = run_cohabd("--socket", str(directory / "s"), engine)
    assert result.returncode == 1
    assert engine in result.stderr
    assert list(directory.iterdir()) == []


def test_engine_that_is_none(directory: Path) -> None:
    text = directory / "text.so"
    text.write_text("not an ELF file")
    result = run_cohabd("--socket", str(directory / "s"), str(text))
    assert result.returncode == 1
    assert str(text) in result.stderr
    result = run_cohabd("--socket", str(directory / "s"), find_library("libm.so.6"))
    assert result.returncode == 1
    assert "cohab_engine" in result.stderr
    assert list(directory.iterdir()) == [text]


def find_library(name: str) -> str:
    """A library that is no engine: one that this very process has loaded."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(f"/{name}"):
            return line.split()[-1]
    pytest.skip(f"{name} is not loaded here")


def test_engine_is_found_by_name(directory: Path) -> None:
    result = run_cohabd("--check", "echo")
    assert result.returncode == 0
    assert "engine echo" in result.stdout


def test_help_and_version() -> None:
    result = run_cohabd("--help")
    assert result.returncode == 0
    assert "--stop-timeout" in result.stdout
    result = run_cohabd("--version")
    assert result.returncode == 0
    assert result.stdout == f"cohabd {cohab.__version__}\n"


def test_check(directory: Path) -> None:
    result = run_cohabd("--check", engine_path("fault"))
    assert result.returncode == 0
    assert "self-test passed" in result.stdout
    assert "block(directory: str" in result.stdout
    result = run_cohabd("--check", engine_path("spell"), "--", "en_US")
    assert result.returncode == 0
    for args in (["selftest-fail"], ["load-fail"], ["load-thread"]):
        result = run_cohabd("--check", engine_path("fault"), "--", *args)
        assert result.returncode == 1
        assert ("leftover" if args == ["load-thread"] else "failed on demand") in result.stderr
    result = run_cohabd("--check", engine_path("fault"), "--", "selftest-crash")
    assert result.returncode == -signal.SIGSEGV
    result = run_cohabd("--check", engine_path("spell"), "--", "xx_XX")
    assert result.returncode == 1
    assert "xx_XX" in result.stderr


def test_crash_dir_is_checked(directory: Path) -> None:
    result = run_cohabd("--socket", str(directory / "s"), "--crash-dir", "/no/such/directory", "echo")
    assert result.returncode == 1
    assert "/no/such/directory" in result.stderr


# ---- engines that do not come up


def fail_to_start(make_server: MakeServer, *how: Any, **options: Any) -> Server:
    """Start what must not come up: exit code 1, and nothing left behind."""
    server = make_server()
    with pytest.raises(ServerEnded):
        server.start(*how, **options)
    assert server.exit_code() == 1
    assert not server.tree()
    assert [p.name for p in server.directory.iterdir()] == ["log"]
    return server


def test_missing_dictionary(make_server: MakeServer) -> None:
    server = fail_to_start(make_server, "spell", args=["xx_XX"])
    server.expect_error("xx_XX")
    assert "xx_XX" in server.log()
    assert "worker" not in server.log()


def test_no_dictionary_named(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("spell")
    if server.wait_or_none(1.0) is None:
        pytest.skip("spell has a default dictionary")
    server.expect_error("dictionary")
    assert server.exit_code() == 1
    assert "dictionary" in server.log()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["load-fail"], "failed on demand"),
        (["load-crash"], "load.. never returned.*SIGSEGV"),
        (["load-exit"], r"load.. never returned.*exited with code 3"),
        (["load-thread"], "'leftover'"),
        (["start-fail"], r"start.. failed: failed on demand"),
        (["start-crash"], "SIGSEGV"),
        (["start-exit"], "exited with code 3"),
        (["fd-high", "1100"], "descriptor 1100"),
        (["nonsense"], "unknown argument 'nonsense'"),
    ],
)
def test_engine_that_does_not_come_up(make_server: MakeServer, args: list[str], text: str) -> None:
    server = fail_to_start(make_server, "fault", args=args)
    server.expect_error("libfault.so|could not start")
    server.wait_log(text)
    if args[0].startswith("load") or args[0] == "fd-high":
        assert "worker 1" not in server.log()


def test_load_that_leaves_odd_things(start: StartServer) -> None:
    """Signals blocked and ignored, a child, many descriptors: the workers serve in spite of them."""
    server = start("fault", args=["load-signals", "load-child", "fds", "50"])
    client = server.client()
    assert client.call("echo", 1) == 1
    with pytest.raises(cohab.DeadlineExceeded):
        client.call("hang", timeout=0.2)
    assert server.stop() == 0
    assert server.tree() == []  # what load() started is in the forkserver's process group, and ends with it


def test_check_with_inherited_descriptors() -> None:
    """They are the caller's, and no fault of the engine."""
    high = fcntl.fcntl(0, fcntl.F_DUPFD, 2000)
    try:
        result = run_cohabd("--check", engine_path("fault"), pass_fds=[high])
    finally:
        os.close(high)
    assert result.returncode == 0, result.stderr


def test_a_crash_dir_that_goes_away(start: StartServer, directory: Path) -> None:
    place = directory / "crashes"
    place.mkdir()
    server = start("fault", "--crash-dir", str(place))
    server.expect_error("forkserver .* died|cannot write a crash report")
    place.rmdir()
    os.kill(server.forkserver(), signal.SIGKILL)
    server.wait_log("generation 2")
    result = run_cohabd("--socket", str(directory / "s"), "--crash-dir", str(place), engine_path("echo"))
    assert result.returncode == 1
    assert str(place) in result.stderr


@pytest.mark.parametrize("hook", ["load-exit", "load-fail", "selftest-fail"])
def test_check_fails_where_an_engine_does(hook: str) -> None:
    result = run_cohabd("--check", engine_path("fault"), "--", hook)
    assert result.returncode == 1
    assert result.stdout == ""
    assert "libfault.so" in result.stderr


def test_status_says_what_is_wrong(start: StartServer, directory: Path) -> None:
    flag = directory / "fail"
    server = start("fault", args=["start-fail-while", str(flag)], workers=1)
    server.expect_error("start.. failed|could not start")
    assert server.status()["problem"] is None
    flag.touch()
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_until(lambda: "start() failed" in (server.status()["problem"] or ""), what="the problem")
    assert "start() failed" in server.cli("status").stdout
    flag.unlink()
    server.wait_full_strength()
    assert server.status()["problem"] is None


def test_default_timeout_beyond_the_max() -> None:
    result = run_cohabd("--socket", "s", "--default-timeout", "5", "--max-timeout", "1", engine_path("echo"))
    assert result.returncode == 2
    assert "--max-timeout" in result.stderr


# ---- what load() has built


THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(not THP.exists() or "[never]" in THP.read_text(), reason="the kernel has no huge pages")
@pytest.mark.parametrize(
    ("tunables", "huge"),
    [(None, True), ("glibc.malloc.hugetlb=0", False), ("glibc.malloc.check=0", True)],
)
def test_huge_pages(start: StartServer, tunables: str | None, huge: bool) -> None:
    if "[always]" in THP.read_text() and not huge:
        pytest.skip("this kernel gives huge pages to all")
    environment = {"GLIBC_TUNABLES": tunables} if tunables else {}
    server = start("fault", args=["load-memory", "67108864"], environment=environment, workers=1)
    for pid in (server.forkserver(), *server.workers()):
        assert (huge_pages(pid) >= 48 << 20) == huge
    (worker,) = server.workers()
    os.kill(worker, signal.SIGKILL)
    (worker,) = server.wait_replaced([worker])
    assert (huge_pages(worker) >= 48 << 20) == huge


# ---- processes


def test_process_titles(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    assert title_of(server.forkserver()) == "cohab: forkserver fault, generation 1"
    titles = [title_of(pid) for pid in server.workers()]
    assert titles == ["cohab: worker 1 idle", "cohab: worker 2 idle"]
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    assert title_of(pid).endswith(" block")
    assert title_of(server.pid).startswith(str(engine_path("fault"))[:1])
    gate.release("held")
    assert raw.receive().result == "held"
    wait_until(lambda: title_of(pid).endswith(" idle"), what="an idle title")


def test_title_while_starting(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("fault", args=["load-sleep", "0.3", "start-sleep", "0.3"], workers=1)
    wait_until(
        lambda: server.children_titled("cohab: forkserver loading, generation 1"),
        what="the title of a loading forkserver",
    )
    wait_until(lambda: server.children_titled("cohab: worker 1"), what="a worker")
    assert title_of(server.children_titled("cohab: worker 1")[0]) == "cohab: worker 1 starting"
    server.wait_serving()
    assert title_of(server.workers()[0]) == "cohab: worker 1 idle"


def test_workers_are_children_of_the_master_in_another_group(start: StartServer) -> None:
    server = start("fault", workers=3)
    pids = server.workers()
    assert len(set(pids)) == 3
    for pid in [*pids, server.forkserver()]:
        assert parent_of(pid) == server.pid
        assert group_of(pid) != group_of(server.pid)
    assert sorted([*pids, server.forkserver()]) == server.children()


def test_a_signal_to_the_group_reaches_the_master_alone(start: StartServer, gate: Gate) -> None:
    """Ctrl-C: the running call finishes."""
    server = start("fault")
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.pid_of("held")
    os.killpg(server.pid, signal.SIGINT)
    server.wait_log("stopping")
    gate.release("held")
    assert raw.receive().result == "held"
    assert server.wait_end() == 0


def test_workers_inherit_only_their_own_descriptors(start: StartServer) -> None:
    server = start("fault", "--max-connections", "64")
    raw = server.raw()
    fds = raw.call("open_fds").result
    assert [fd for fd in fds if fd <= 2] == [0, 1, 2]
    assert [fd for fd in fds if 2 < fd < 1024] == []
    assert len([fd for fd in fds if fd >= 1024]) == 4  # the set, the control socket, maps, this connection


def test_oom_score(start: StartServer) -> None:
    server = start("fault")

    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    for pid in server.workers():
        assert score(pid) == min(1000, score(server.pid) + 500)


def test_status(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    status = server.status()
    assert status["version"] == 1
    assert status["server"]["pid"] == server.pid
    assert status["server"]["state"] == "running"
    assert status["engine"]["name"] == "fault"
    assert status["engine"]["generation"] == 1
    assert status["connections"]["open"] == 1
    busy = [w for w in status["workers"] if w["state"] == "busy"]
    assert [w["pid"] for w in busy] == [pid]
    assert busy[0]["method"] == "block"
    assert busy[0]["running"] >= 0
    assert busy[0]["age"] > 0
    idle = [w for w in status["workers"] if w["state"] == "idle"]
    assert len(idle) == 1
    assert idle[0]["method"] is None
    calls = status["totals"]["calls"]
    gate.release("held")
    assert raw.receive().ok
    wait_until(lambda: server.status()["totals"]["calls"] == calls + 1, what="the call is counted")
