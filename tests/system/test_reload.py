"""Reload with rollback: the old generation serves until the new one does, and goes on where it cannot."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, Callable

import cohab
import pytest
from harness import COHAB, Server, engine_path
from load import Load
from processes import state_of, wait_until

StartServer = Callable[..., Server]


def reload(server: Server, *arguments: str) -> dict[str, Any]:
    """`cohab reload --json`, which must come to an end; what came of it."""
    result = server.cli("reload", "--json", *arguments)
    answer: dict[str, Any] = json.loads(result.stdout)
    assert result.returncode == (0 if answer["done"] else 1), result.stderr
    return answer


def generations(server: Server) -> dict[int, str]:
    return {g["number"]: g["state"] for g in server.status()["generations"]}


def test_every_worker_is_replaced(start: StartServer) -> None:
    server = start("echo", workers=3)
    before = server.workers()
    result = server.cli("reload")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("generation 2 serves: echo 0.1.0, 3 workers replaced in ")
    status = server.status()
    assert not set(server.workers("idle")) & set(before)
    assert {w["generation"] for w in status["workers"] if w["state"] == "idle"} == {2}
    assert status["engine"]["generation"] == 2
    assert status["reload"] == {"state": None, "done": 1, "failed": 0}
    wait_until(lambda: generations(server) == {2: "serving"}, what="the old generation gone")
    assert len(server.children_titled("cohab: forkserver")) == 1


def test_sighup_reloads(start: StartServer) -> None:
    server = start("echo", workers=2)
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded: generation 2 serves, 2 workers replaced")


def test_a_sighup_during_a_reload_is_not_lost(start: StartServer) -> None:
    server = start("fault", args=["load-sleep", "0.5"], workers=2)
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: server.status()["reload"]["state"] == "loading", what="a reload under way")
    server.send_signal(signal.SIGHUP)
    server.wait_log("reloaded: generation 2 serves")
    server.wait_log("reloaded: generation 3 serves")


def test_a_second_one_is_refused_while_one_is_under_way(start: StartServer) -> None:
    server = start("fault", args=["load-sleep", "1"], workers=1)
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: server.status()["reload"]["state"] == "loading", what="a reload under way")
    result = server.cli("reload")
    assert result.returncode == 1
    assert "a reload is under way since" in result.stderr


def test_the_file_is_loaded_afresh(start: StartServer, directory: Path) -> None:
    engine = directory / "libmine.so"
    shutil.copy(engine_path("echo"), engine)
    server = start(str(engine), workers=2)
    with pytest.raises(cohab.MethodNotFound):
        server.client().call("hooks")
    os.unlink(engine)  # as installers do: a new file, and never new bytes in the old one
    shutil.copy(engine_path("fault"), engine)
    assert reload(server)["engine"] == "fault"
    assert server.client().call("hooks")["load"] > 0


def test_a_link_that_points_elsewhere_is_followed(start: StartServer, directory: Path) -> None:
    link = directory / "libmine.so"
    link.symlink_to(engine_path("echo"))
    server = start(str(link), workers=1)
    assert server.status()["engine"]["path"] == engine_path("echo")
    link.unlink()
    link.symlink_to(engine_path("fault"))
    assert reload(server)["done"]
    assert server.status()["engine"]["path"] == engine_path("fault")


def test_another_engine_with_arguments(start: StartServer, directory: Path) -> None:
    server = start("echo", workers=2)
    log = directory / "hooks"
    answer = reload(server, "--engine", "./libfault.so", "--", "log", str(log))
    assert not answer["done"]  # no such file there
    assert "cannot open engine" in answer["problem"]
    result = server.cli(
        "reload", "--engine", "./libfault.so", "--", "log", str(log), cwd=Path(engine_path("fault")).parent
    )
    assert result.returncode == 0, result.stderr
    assert server.status()["engine"]["name"] == "fault"
    hooks = [line.split()[0] for line in log.read_text().splitlines()]
    assert hooks.count("load") == 1
    assert hooks.count("selftest") == 1
    assert hooks.count("start") == 2
    assert reload(server)["done"]  # again with the same arguments
    assert log.read_text().count("load ") == 2
    server.expect_error("reload failed")
    server.expect_error("cannot open engine")


def test_an_installed_engine_by_name(start: StartServer) -> None:
    server = start("fault", workers=1)
    assert reload(server, "--engine", "echo")["engine"] == "echo"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        (["load-fail"], "the engine does not load: "),
        (["load-crash"], "load() never returned: killed by SIGSEGV"),
        (["load-exit"], "load() never returned: exited with code"),
        (["load-hang"], "load() has not returned within 0.5 s (--load-timeout)"),
        (["load-thread"], "load() left a thread running ('leftover')"),
        (["load-thread", "load-thread"], "load() left threads running ('leftover', 'leftover')"),
        (["selftest-fail"], "selftest() failed: "),
        (["selftest-crash"], "a first worker could not start: killed by SIGSEGV"),
        (["start-fail"], "start() failed: "),
        (["start-crash"], "a first worker could not start: killed by SIGSEGV"),
        (["start-hang"], "start() has not returned within 0.5 s (--load-timeout)"),
    ],
)
def test_what_fails_leaves_all_as_it_was(start: StartServer, how: list[str], why: str) -> None:
    server = start("echo", "--load-timeout", "0.5", workers=2)
    server.expect_error(".")
    before = server.workers()
    with Load(server, 4) as load:
        answer = reload(
            server, "--engine", engine_path("fault"), "--", "load-stderr", "words of its own", *how
        )
    assert not answer["done"]
    assert why in answer["problem"]
    assert "words of its own" in answer["output"]
    assert answer["generation"] == 1
    assert not load.failures
    assert load.calls > 0
    assert server.workers() == before
    assert server.status()["problem"] is None
    wait_until(lambda: generations(server) == {1: "serving"}, what="the candidate gone")
    assert len(server.children()) == 3
    assert reload(server)["done"]


def test_one_that_lacks_its_symbol(start: StartServer, directory: Path) -> None:
    source = directory / "none.c"
    source.write_text("int nothing;\n")
    library = directory / "libnone.so"
    subprocess.run(["cc", "-shared", "-o", str(library), str(source)], check=True)
    server = start("echo", workers=1)
    server.expect_error(".")
    result = server.cli("reload", "--engine", str(library))
    assert result.returncode == 1
    assert (
        "reload failed: the engine does not load: the library does not export cohab_engine" in result.stderr
    )
    assert "generation 1 goes on" in result.stderr
    assert server.client().call("echo", 1) == 1


def test_workers_that_fail_on_the_way_bring_the_old_back(start: StartServer, directory: Path) -> None:
    """The first worker starts, the others do not."""
    server = start("fault", workers=3)
    server.expect_error(".")
    once = directory / "once"
    with Load(server, 4) as load:
        answer = reload(server, "--engine", engine_path("fault"), "--", "start-once", str(once))
        assert not answer["done"]
        assert "start() failed" in answer["problem"]

        def is_back() -> bool:
            workers = server.status()["workers"]
            return [w["generation"] for w in workers if w["state"] in ("idle", "busy")] == [1, 1, 1]

        wait_until(is_back, what="three workers of the old generation")
    assert not load.failures
    assert generations(server)[1] == "serving"
    assert server.status()["reload"]["failed"] == 1


def test_a_forkserver_killed_on_the_way_brings_the_old_back(start: StartServer) -> None:
    server = start("echo", workers=1)
    server.expect_error(".")
    waiting = subprocess.Popen(
        [
            COHAB,
            "--socket",
            server.socket,
            "reload",
            "--json",
            "--engine",
            engine_path("fault"),
            "--",
            "load-sleep",
            "60",
        ],
        stdout=subprocess.PIPE,
    )
    wait_until(lambda: len(server.children_titled("cohab: forkserver")) == 2, what="a candidate")
    newest = max(g["forkserver"] for g in server.status()["generations"])
    os.kill(newest, signal.SIGKILL)
    output, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert "killed by SIGKILL" in json.loads(output)["problem"]
    assert server.client().call("echo", 5) == 5


def test_a_call_that_runs_is_let_run(start: StartServer, gate: Any) -> None:
    server = start("fault", workers=2)
    connection = server.raw()
    msgid = connection.ask("block", gate.path, "long")
    gate.wait_started(1)
    assert reload(server)["done"]
    assert any(w["state"] == "leaving" for w in server.status()["workers"])
    gate.release("long")
    assert connection.receive().msgid == msgid
    wait_until(lambda: generations(server) == {2: "serving"}, what="the old generation gone")


def test_a_stop_ends_a_reload(start: StartServer) -> None:
    server = start("echo", workers=1)
    server.expect_error("reload failed")
    waiting = subprocess.Popen(
        [COHAB, "--socket", server.socket, "reload", "--engine", engine_path("fault"), "--", "load-hang"],
        stderr=subprocess.PIPE,
    )
    wait_until(lambda: server.status()["reload"]["state"] == "loading", what="a reload under way")
    assert server.stop() == 0
    _, errors = waiting.communicate(timeout=20)
    assert waiting.returncode == 1
    assert b"the server stops" in errors


@pytest.mark.limit(180)
def test_fifty_under_load(start: StartServer) -> None:
    """No failed and no reordered call: each caller compares its answer with what it sent."""
    server = start("echo", workers=2)
    with Load(server, 16) as load:
        for number in range(50):
            assert reload(server)["generation"] == number + 2
        wait_until(lambda: load.calls > 1000, 60.0, "a thousand calls")
    assert not load.failures
    assert server.status()["totals"]["worker_deaths"] == 0 or not server.log_lines("warn")
    wait_until(lambda: generations(server) == {51: "serving"}, what="the old generations gone")
    assert len(server.children()) == 3


def test_quarantine_survives_where_the_engine_is_the_same(start: StartServer, directory: Path) -> None:
    engine = directory / "libmine.so"
    shutil.copy(engine_path("fault"), engine)
    server = start(str(engine), "--quarantine-after", "1", workers=1)
    client = server.client()
    with pytest.raises(cohab.EngineCrashed):
        client.call("crash")
    with pytest.raises(cohab.Quarantined):
        client.call("crash")
    assert reload(server)["done"]
    with pytest.raises(cohab.Quarantined):
        client.call("crash")
    assert reload(server, "--engine", "echo")["done"]
    assert json.loads(server.cli("quarantine", "list", "--json").stdout)["entries"] == []


def test_a_report_names_the_engine_that_crashed(start: StartServer, directory: Path) -> None:
    server = start("echo", workers=1)
    assert reload(server, "--engine", engine_path("fault"), "--", "log", str(directory / "hooks"))["done"]
    with pytest.raises(cohab.EngineCrashed) as crashed:
        server.client().call("crash")
    shown = server.cli("crash", "show", "--dir", str(server.crash_directory), "--json", crashed.value.report)
    engine = json.loads(shown.stdout)["engine"]
    assert engine["path"] == engine_path("fault")
    assert engine["args"] == ["log", str(directory / "hooks")]
    assert engine["generation"] == 2


def test_it_waits_for_no_frozen_worker(start: StartServer) -> None:
    """A worker that is stopped while idle is replaced like any other; it leaves when it goes on."""
    server = start("echo", workers=2)
    frozen = server.workers()[0]
    os.kill(frozen, signal.SIGSTOP)
    wait_until(lambda: state_of(frozen) == "T", what="a frozen worker")
    try:
        assert reload(server)["done"]
        assert server.client().call("echo", 3) == 3
    finally:
        os.kill(frozen, signal.SIGCONT)
    wait_until(lambda: generations(server) == {2: "serving"}, what="the old generation gone")


def test_one_whose_stop_hangs_is_killed(start: StartServer) -> None:
    server = start("fault", args=["stop-hang"], workers=1)
    server.expect_error(".")
    old = server.workers()
    assert reload(server, "--engine", "echo")["done"]
    server.wait_log("does not leave: killed", timeout=30.0)
    wait_until(lambda: generations(server) == {2: "serving"}, what="the old generation gone")
    assert not set(server.workers()) & set(old)


def test_a_first_worker_serves_nobody_before_its_generation_does(start: StartServer, directory: Path) -> None:
    """Its forkserver is killed when it has started: callers notice nothing."""
    slow = ["--", "start-sleep", "0.05"]
    server = start("fault", workers=1)
    server.expect_error(".")
    with Load(server, 4) as load:
        for _ in range(10):
            waiting = subprocess.Popen(
                [COHAB, "--socket", server.socket, "reload", "--engine", engine_path("fault"), *slow],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            wait_until(lambda: server.status()["reload"]["state"] in ("trying", None), what="a first worker")
            for generation in server.status()["generations"]:
                if generation["state"] == "trying":
                    os.kill(generation["forkserver"], signal.SIGKILL)
            waiting.wait()
    assert not load.failures
