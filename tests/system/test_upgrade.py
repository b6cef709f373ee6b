"""Upgrade in place: the master executes a newer program over itself, and nobody is disconnected."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cohab
import pytest
from conftest import StartServer
from harness import BUILD, COHAB, COHABD, Gate, Server, engine_path
from load import Load
from processes import descriptors_of, settled_descriptors, signal_quietly, state_of, wait_until
from test_metrics import metrics

NEW = "0.1.9"  # as long as the version that is built


@pytest.fixture
def program(directory: Path) -> Path:
    """A cohabd that can be replaced."""
    place = directory / "bin"
    place.mkdir()
    shutil.copy(BUILD / "cohabd-reporter", place)
    shutil.copy(COHABD, place)
    return place / "cohabd"


def install(program: Path, version: str = NEW) -> None:
    """A new file in its place, as installers do it, of another version."""
    text = COHABD.read_bytes()
    assert b"0.1.0" in text
    fresh = program.with_suffix(".new")
    fresh.write_bytes(text.replace(b"0.1.0", version.encode()))
    fresh.chmod(0o755)
    fresh.replace(program)


def compile_program(program: Path, body: str) -> None:
    source = program.with_suffix(".c")
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <unistd.h>\n"
        f"#include <sys/stat.h>\nint main(void) {{ {body} }}\n"
    )
    fresh = program.with_suffix(".new")
    subprocess.run(["cc", "-o", str(fresh), str(source)], check=True)
    fresh.replace(program)


def upgrade(server: Server) -> dict[str, Any]:
    """`cohab upgrade --json`, which must come to an end; what came of it."""
    result = server.cli("upgrade", "--json")
    assert result.stdout, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    assert result.returncode == (0 if answer["done"] else 1), result.stderr
    return answer


def must_upgrade(server: Server) -> None:
    answer = upgrade(server)
    assert answer["done"], answer


def version(server: Server) -> str:
    return str(server.status()["server"]["version"])


# ---- what stays


def test_process_children_and_connections_stay(start: StartServer, program: Path) -> None:
    server = start("echo", program=program, workers=3)
    raw = server.raw()
    assert raw.call("echo", 1).result == 1
    before = (server.pid, server.workers(), server.forkserver())
    uptime = server.status()["server"]["uptime"]
    install(program)
    result = server.cli("upgrade")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"version 0.1.0 -> {NEW}, pid {server.pid}, in ")
    status = server.status()
    assert status["server"]["version"] == NEW
    assert status["server"]["pid"] == server.pid
    assert status["server"]["uptime"] > uptime
    assert status["connections"]["open"] == 1
    assert (server.pid, server.workers(), server.forkserver()) == before
    assert raw.call("echo", 2).result == 2
    assert server.raw().call("echo", 3).result == 3
    assert Path(f"/proc/{server.pid}/comm").read_text() == "cohabd\n"
    assert os.readlink(f"/proc/{server.pid}/exe") == str(program)
    server.wait_log(f"upgraded: version {NEW} goes on where 0.1.0 was: 3 workers, 1 connections")


def test_sigusr2(start: StartServer, program: Path) -> None:
    server = start("echo", program=program)
    install(program)
    server.send_signal(signal.SIGUSR2)
    wait_until(lambda: version(server) == NEW, what="the new version")


def test_children_take_no_notice_of_the_signal(start: StartServer) -> None:
    server = start("echo")
    before = server.children()
    for pid in before:
        os.kill(pid, signal.SIGUSR2)
    assert server.client().call("echo", 1) == 1
    assert server.children() == before


@pytest.mark.limit(120)
def test_under_load_again_and_again(start: StartServer, program: Path) -> None:
    server = start("echo", program=program, workers=4)
    workers = server.workers()
    must_upgrade(server)
    descriptors = settled_descriptors(server.pid)
    with Load(server, 16) as load:
        for number in range(30):
            install(program, f"0.1.{number % 10}")
            must_upgrade(server)
            assert version(server) == f"0.1.{number % 10}"
    assert not load.failures
    assert load.calls > 0
    assert server.workers() == workers
    assert server.status()["totals"]["worker_deaths"] == 0

    def same() -> bool:
        return descriptors_of(server.pid) == descriptors

    wait_until(same, what=f"no descriptor more or less than {descriptors}")


def test_a_call_that_runs_meanwhile_is_answered(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    must_upgrade(server)
    gate.release("held")
    assert raw.receive().result == "held"
    assert pid in server.workers()


def test_requests_that_wait_meanwhile_are_served(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=1)
    first, second = server.raw(), server.raw()
    first.ask("block", gate.path, "held")
    gate.pid_of("held")
    second.ask("echo", "waits")
    must_upgrade(server)
    gate.release("held")
    assert first.receive().result == "held"
    assert second.receive().result == "waits"


def test_totals_stay(start: StartServer) -> None:
    server = start("fault", workers=2)
    client = server.client()
    for number in range(50):
        client.call("echo", number)
    with pytest.raises(cohab.EngineCrashed):
        client.call("crash")
    server.wait_full_strength()
    must_upgrade(server)
    for number in range(50):
        client.call("echo", number)
    seen = metrics(server)["cohab_calls_total"]
    assert seen[(("method", "echo"), ("code", "OK"))] == 100
    assert seen[(("method", "crash"), ("code", "INTERNAL"))] == 1
    must_upgrade(server)
    assert metrics(server)["cohab_calls_total"] == seen
    status = server.status()
    assert status["totals"]["worker_deaths"] == 1
    assert status["deaths"][0]["cause"] == "killed by SIGSEGV in crash()"
    assert status["deaths"][0]["report"]
    assert status["crashes"]["written"] == 1


def test_quarantine_stays(start: StartServer) -> None:
    server = start("fault", "--quarantine-after", "2", workers=2)
    client = server.client()
    for _ in range(2):
        with pytest.raises(cohab.EngineCrashed):
            client.call("crash")
        server.wait_full_strength()
    with pytest.raises(cohab.Quarantined):
        client.call("crash")
    must_upgrade(server)
    with pytest.raises(cohab.Quarantined):
        client.call("crash")
    listed = json.loads(server.cli("quarantine", "list", "--json").stdout)["entries"]
    assert [entry["method"] for entry in listed] == ["crash"]
    assert server.cli("quarantine", "clear").returncode == 0
    for _ in range(2):  # of workers old and new
        with pytest.raises(cohab.EngineCrashed):
            client.call("crash")
        server.wait_full_strength()
    with pytest.raises(cohab.Quarantined):
        client.call("crash")


def test_bounds_and_spares_stay(start: StartServer) -> None:
    server = start("fault", "--spare", "1", workers=1, full=False)
    assert server.cli("scale", "2:5").returncode == 0
    wait_until(lambda: len(server.workers("idle")) == 2, what="two workers")
    wait_until(lambda: len(server.workers("spare")) == 1, what="a spare")
    must_upgrade(server)
    status = server.status()["server"]
    assert (status["workers_min"], status["workers_max"], status["spare"]) == (2, 5, 1)
    (spare,) = server.workers("spare")
    os.kill(server.workers("idle")[0], signal.SIGKILL)
    wait_until(lambda: spare in server.workers("idle"), what="the spare serves")


def test_what_engines_print_is_logged_on(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    assert raw.call("stderr", "half a line", 1).ok
    must_upgrade(server)
    assert raw.call("stderr", ", and its end\n", 1).ok
    server.wait_log("worker 1: half a line, and its end")


def test_the_log_file_is_written_on(start: StartServer, directory: Path) -> None:
    log = directory / "cohab.log"
    server = start("echo", "--log-file", str(log), workers=1)
    must_upgrade(server)
    assert "upgraded: " in log.read_text()
    shutil.move(log, directory / "old.log")
    server.send_signal(signal.SIGUSR1)
    wait_until(log.exists, what="a new log")


def test_the_options_are_those_of_the_start(start: StartServer, directory: Path) -> None:
    """The configuration file may say something else by now, or be wrong."""
    config = directory / "c.ini"
    config.write_text("default-timeout = 0.2\n")
    server = start("fault", "--config", str(config), workers=1)
    config.write_text("nonsense = yes\n")
    must_upgrade(server)
    error = server.raw().call("polite", 10.0, "value").error
    assert error is not None
    assert error["code"] == "DEADLINE_EXCEEDED"
    must_upgrade(server)


def test_the_owners_end_is_noticed_after_it(start: StartServer) -> None:
    reading, writing = os.pipe()
    server = start("echo", "--lifeline-fd", str(reading), pass_fds=[reading])
    os.close(reading)
    must_upgrade(server)
    assert server.exit_code() is None
    os.close(writing)
    assert server.wait_end() == 0


def test_admin_connections_stay(start: StartServer) -> None:
    """Those that wait for nothing."""
    server = start("echo")
    with cohab.connect(server.socket + ".ctl", timeout=10.0, max_connections=1) as admin:
        pid = admin.call("status")["server"]["pid"]
        must_upgrade(server)
        assert admin.call("status")["server"]["pid"] == pid


# ---- what goes on after it


def test_a_worker_that_dies_after_it_is_replaced(start: StartServer) -> None:
    server = start("fault", workers=2)
    for _ in range(5):
        must_upgrade(server)
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        server.wait_replaced([victim])
        wait_until(lambda v=victim: state_of(v) == "", what="it is reaped")  # type: ignore[misc]
    assert server.status()["totals"]["worker_deaths"] == 5
    with pytest.raises(cohab.EngineCrashed) as caught:
        server.client().call("crash")
    assert caught.value.report


@pytest.mark.limit(120)
def test_workers_that_die_meanwhile_are_replaced(start: StartServer, program: Path) -> None:
    """Whenever the kill comes: nobody is forgotten, and nobody is lost but the calls of the killed."""
    server = start("fault", program=program, workers=4)
    chance, stop, kills = random.Random(4), threading.Event(), 0

    def kill_on() -> None:
        nonlocal kills
        while not stop.wait(chance.random() * 0.02):
            victims = server.workers("idle") + server.workers("busy")
            kills += bool(victims) and signal_quietly(chance.choice(victims), signal.SIGKILL)

    killer = threading.Thread(target=kill_on)
    with Load(server, 8) as load:
        killer.start()
        for _ in range(30):
            must_upgrade(server)
        stop.set()
        killer.join()
        server.wait_full_strength()
    assert kills > 0
    assert len(load.failures) <= kills, load.failures[:5]
    wait_until(lambda: len(server.workers()) == 4, what="four workers")
    assert server.client().call("echo", 1) == 1
    assert not [pid for pid in server.children() if state_of(pid) == "Z"]


def test_a_forkserver_that_dies_after_it_is_replaced(start: StartServer) -> None:
    server = start("echo", workers=1)
    server.expect_error("forkserver .* died")
    must_upgrade(server)
    os.kill(server.forkserver(), signal.SIGKILL)
    wait_until(lambda: server.status()["engine"]["generation"] == 2, what="a new generation")
    assert server.client().call("echo", 1) == 1


def test_deadlines_are_enforced_after_it(start: StartServer) -> None:
    """Of a call that began before, and of one that begins then."""
    server = start("fault", workers=2)
    before, after = server.raw(), server.raw()
    before.ask("hang", meta={"timeout": 0.7})
    wait_until(lambda: len(server.workers("busy")) == 1, what="a call")
    must_upgrade(server)
    after.ask("hang", meta={"timeout": 0.3})
    for raw in (before, after):
        error = raw.receive().error
        assert error is not None
        assert error["code"] == "DEADLINE_EXCEEDED"


def test_clients_that_go_away_are_noticed_after_it(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("polite", 30.0, "value")
    wait_until(lambda: len(server.workers("busy")) == 1, what="a call")
    must_upgrade(server)
    raw.close()
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="its place is free")
    wait_until(lambda: len(server.workers("idle")) == 1, what="the call has ended")


def test_a_stopped_worker_does_not_stall_others_after_it(start: StartServer) -> None:
    server = start("fault", "--stall-timeout", "0.25", workers=2)
    os.kill(server.workers()[0], signal.SIGSTOP)
    must_upgrade(server)
    for number in range(20):
        assert server.raw().call("echo", number).result == number


def test_reload_and_stop_after_it(start: StartServer) -> None:
    server = start("echo", workers=3)
    must_upgrade(server)
    before = server.workers()
    with Load(server, 8) as load:
        result = server.cli("reload")
        assert result.returncode == 0, result.stderr
    assert not load.failures
    assert not set(server.workers("idle")) & set(before)
    must_upgrade(server)
    assert server.cli("stop").returncode == 0
    assert server.wait_end() == 0
    assert sorted(path.name for path in server.directory.iterdir()) == ["log"]


def test_it_serves_what_a_reload_has_brought(start: StartServer, directory: Path) -> None:
    engine = directory / "libfirst.so"
    shutil.copy(engine_path("echo"), engine)
    server = start(str(engine), workers=1)
    assert server.cli("reload", "--engine", engine_path("fault"), "--", "log", "hooks").returncode == 0
    engine.unlink()
    must_upgrade(server)
    assert server.status()["engine"]["name"] == "fault"
    assert server.cli("reload").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_a_stop_at_any_moment_is_a_stop(start: StartServer, number: signal.Signals) -> None:
    chance = random.Random(int(number))
    for _ in range(12):
        server = start("echo", workers=1)
        server.send_signal(signal.SIGUSR2)
        threading.Event().wait(chance.random() * 0.03)  # before, while and after it is executed
        assert server.stop(number) == 0


# ---- what cannot be


def nothing(program: Path) -> None:
    program.unlink()


def no_right(program: Path) -> None:
    program.chmod(0o644)


def no_program(program: Path) -> None:
    program.unlink()
    program.write_text("no program\n")
    program.chmod(0o755)


def another_program(program: Path) -> None:
    compile_program(program, "return 0;")


def one_that_fails(program: Path) -> None:
    compile_program(program, 'fputs("one line\\ncohabd: words of its own\\n", stderr); return 1;')


def one_that_dies(program: Path) -> None:
    compile_program(program, "abort();")


def one_that_says_yes_and_cannot_be_executed(program: Path) -> None:
    compile_program(
        program,
        'char path[4096] = ""; if (readlink("/proc/self/exe", path, 4095) < 0 || chmod(path, 0) < 0)'
        ' return 1; puts("cohabd 9.9.9 can take over"); return 0;',
    )


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (nothing, "cannot open .*/bin/cohabd: No such file or directory"),
        (no_right, "cannot execute .*/bin/cohabd: Permission denied"),
        (no_program, "cannot execute .*/bin/cohabd: Exec format error"),
        (another_program, ".*/bin/cohabd does not say that it can take over: is it a cohabd that can"),
        (one_that_fails, "words of its own"),
        (one_that_dies, "the check of .*/bin/cohabd failed: killed by SIGABRT"),
        (one_that_says_yes_and_cannot_be_executed, "cannot execute .*/bin/cohabd: Permission denied"),
    ],
)
def test_what_cannot_take_over_changes_nothing(
    start: StartServer, program: Path, spoil: Callable[[Path], None], why: str
) -> None:
    server = start("echo", program=program, workers=2)
    server.expect_error("no upgrade: " + why)
    before = server.workers()
    with Load(server, 4) as load:
        spoil(program)
        result = server.cli("upgrade")
    assert result.returncode == 1
    assert result.stderr.startswith("cohab: ")
    assert re.search(why, result.stderr), result.stderr
    assert load.calls > 0
    assert not load.failures
    assert (server.workers(), version(server)) == (before, "0.1.0")
    install(program)
    must_upgrade(server)
    assert (server.workers(), version(server)) == (before, NEW)


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["load-fail"], "engine .*libmine.so: "),
        (["load-crash"], "killed by SIGSEGV"),
        (["load-hang"], "has not ended within 1 s .--load-timeout"),
        (["selftest-fail"], "engine .*libmine.so: "),
    ],
)
def test_an_engine_that_does_not_load_any_more(
    start: StartServer, directory: Path, args: list[str], why: str
) -> None:
    """The engine is checked as well: a program that takes over has to be able to load it."""
    engine = directory / "libmine.so"
    shutil.copy(engine_path("echo"), engine)
    server = start(str(engine), "--load-timeout", "1", args=["load-stderr", "last words", *args])
    server.expect_error("no upgrade: .*" + why)
    before = server.children()
    engine.unlink()
    shutil.copy(engine_path("fault"), engine)
    answer = upgrade(server)
    assert not answer["done"]
    assert re.search(why, answer["problem"])
    assert "last words" in answer["output"]
    assert (answer["version_before"], answer["version_after"]) == ("0.1.0", "0.1.0")
    assert server.children() == before
    assert server.client().call("echo", 1) == 1


def check_upgrade(versions: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The check, as a server runs it."""
    return subprocess.run(
        [f"cohabd: upgrade check {versions}", "--check", *arguments, engine_path("echo")],
        executable=COHABD,
        capture_output=True,
        text=True,
        check=False,
    )


def test_other_versions_are_refused(start: StartServer) -> None:
    server = start("fault", args=["load-sleep", "1"], workers=1)
    waiting = subprocess.Popen(
        [COHAB, "--socket", server.socket, "upgrade"], stdout=subprocess.PIPE, text=True
    )
    (checker,) = wait_until(lambda: server.children_titled("cohabd: upgrade check "), what="a check")
    raw = Path(f"/proc/{checker}/cmdline").read_bytes().split(b"\0")[0].decode()
    versions = raw.rpartition(" ")[2].split(".")
    assert waiting.communicate()[0].startswith("version ")
    assert check_upgrade(".".join(versions)).stdout.endswith("can take over\n")
    places = ["what a server leaves", "rows", "messages", "shared memory", "--max-frame"]
    for place, words in enumerate(places):
        others = versions.copy()
        others[place] = str(int(others[place]) + 1)
        result = check_upgrade(".".join(others))
        assert result.returncode == 1
        assert result.stderr.startswith("cohabd: cohabd 0.1.0 cannot take over; ")
        assert words in result.stderr
    assert check_upgrade(".".join(versions), "--max-frame", "1M").returncode == 1
    assert check_upgrade("nonsense").returncode == 1


# ---- what happens at the same time


def test_one_at_a_time(start: StartServer) -> None:
    server = start("fault", args=["load-sleep", "1"], workers=1)
    server.send_signal(signal.SIGUSR2)
    wait_until(lambda: server.children_titled("cohabd: upgrade check "), what="a check")
    for command in ("upgrade", "reload"):
        result = server.cli(command)
        assert result.returncode == 1
        assert "an upgrade is under way" in result.stderr
    server.send_signal(signal.SIGHUP)  # is not lost
    server.wait_log("upgraded: ")
    server.wait_log("reloaded: generation 2 serves")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: server.status()["reload"]["state"] == "loading", what="a reload under way")
    result = server.cli("upgrade")
    assert result.returncode == 1
    assert "a reload is under way" in result.stderr


def test_a_stop_during_the_check(start: StartServer) -> None:
    server = start("fault", args=["load-sleep", "5"], full=False, workers=1)
    waiting = subprocess.Popen(
        [COHAB, "--socket", server.socket, "upgrade"], stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: server.children_titled("cohabd: upgrade check "), what="a check")
    assert server.stop() == 0
    assert "no upgrade: the server stops" in waiting.communicate()[1]


def test_callers_of_crashes_are_answered(start: StartServer) -> None:
    """Whose reports are not out yet when the new program takes over."""
    server = start("fault", workers=2)
    for number in range(10):
        raws = [server.raw() for _ in range(2)]
        server.send_signal(signal.SIGUSR2)
        for raw in raws:
            raw.ask("crash")
        for raw in raws:
            error = raw.receive().error
            assert error is not None
            assert error["reason"] in ("ENGINE_CRASHED", "WORKER_LOST")
        server.wait_log("upgraded: version", number + 1)
        server.wait_full_strength()
    assert server.status()["totals"]["worker_deaths"] == 20
