"""The log: its formats, its file, and what happens to lines that have nowhere to go."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeServer, StartServer
from harness import COHABD, clean_environment, engine_path, run_cohabd
from processes import descriptors_of, wait_until

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} cohabd\[\d+\] (error|warn |info |debug) \S.*")


def events(text: str) -> list[dict[str, Any]]:
    """Every line is one whole JSON object."""
    return [json.loads(line) for line in text.splitlines()]


def find(text: str, name: str) -> list[dict[str, Any]]:
    return [event for event in events(text) if event["event"] == name]


def wait_event(path: Path, name: str, count: int = 1) -> list[dict[str, Any]]:
    wait_until(lambda: len(find(path.read_text(), name)) >= count, what=f"{count} times {name}")
    return find(path.read_text(), name)


# ---- formats


def test_json_lines(start: StartServer) -> None:
    server = start("fault", "--log-format", "json")
    worker = server.status()["workers"][0]
    raw = server.raw()
    assert raw.call("stderr", 'a "quoted"\ttab\xe4\n').ok
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    died = wait_event(server.log_path, "worker_died")[0]
    reported = wait_event(server.log_path, "crash_reported")[0]
    server.wait_full_strength()
    assert server.stop() == 0
    seen = events(server.log())
    for event in seen:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
        assert event["level"] in ("error", "warn", "info", "debug")
        assert event["cohabd"] == server.pid
        assert isinstance(event["message"], str)
    names = [event["event"] for event in seen]
    for name in ("engine_loaded", "worker_ready", "serving", "output", "stopping", "worker_left", "stopped"):
        assert name in names, name
    assert "note" not in names
    output = next(event for event in seen if event["event"] == "output")
    assert output["message"] == 'a "quoted"\ttab\xe4'
    assert output["worker"] in (1, 2)
    assert died["level"] == "warn"
    assert died["method"] == "crash"
    assert died["engine"] == "fault"
    assert died["generation"] == worker["generation"]
    assert died["cause"] == "killed by SIGSEGV in crash()"
    assert died["duration"] > 0
    assert reported["worker"] == died["worker"]
    assert reported["pid"] == died["pid"]
    assert reported["report"] in reported["message"]


def test_text_lines(start: StartServer) -> None:
    server = start("fault")
    assert server.raw().call("stderr", "hello\n").ok
    server.wait_log("worker [12]: hello")
    server.stop()
    for line in server.log().splitlines():
        assert TEXT_LINE.fullmatch(line), line


def run_to_journal(make_server: MakeServer, *, right: bool) -> list[str]:
    """Standard error is a stream socket, as systemd's is; JOURNAL_STREAM names it, or another."""
    server = make_server()
    ours, theirs = socket.socketpair()
    status = os.fstat(theirs.fileno())
    stream = f"{status.st_dev}:{status.st_ino + (0 if right else 1)}"
    process = subprocess.Popen(
        [str(COHABD), "--socket", server.socket, "--workers", "1", engine_path("fault")],
        stdin=subprocess.DEVNULL,
        stderr=theirs,
        env=clean_environment() | {"JOURNAL_STREAM": stream},
    )
    theirs.close()
    try:
        wait_until(lambda: server.cli("ping").returncode == 0, what="a ping")
        assert server.cli("call", "stderr", "plain\n<3>urgent\n<7>detail\n").returncode == 0
        assert server.cli("call", "crash").returncode == 1
    finally:
        process.terminate()
        process.wait(20)
    with ours, ours.makefile() as lines:
        return lines.read().splitlines()


def test_priorities_for_the_journal(make_server: MakeServer) -> None:
    lines = run_to_journal(make_server, right=True)
    assert "<6>worker 1: plain" in lines
    assert "<3>worker 1: urgent" in lines
    assert not any("detail" in line for line in lines)  # --log-level is info
    assert any(re.match(r"<4>worker 1 \(pid \d+\) died: ", line) for line in lines)
    assert all(re.match(r"<[3467]>\S", line) for line in lines), lines


def test_a_stream_that_is_not_the_journal(make_server: MakeServer) -> None:
    lines = run_to_journal(make_server, right=False)
    assert all(TEXT_LINE.fullmatch(line) for line in lines), lines


@pytest.mark.parametrize("value", ["xml", "", "JSON"])
def test_no_such_format(value: str) -> None:
    result = run_cohabd("--log-format", value, "--socket", "/nowhere", "echo")
    assert result.returncode == 2
    assert "--log-format takes text or json" in result.stderr


# ---- the file


def test_log_file(start: StartServer, directory: Path) -> None:
    path = directory / "cohab.log"
    path.write_text("what was there\n")
    server = start("fault", "--log-file", str(path))
    assert server.raw().call("stderr", "from the engine\n").ok
    wait_until(lambda: "from the engine" in path.read_text())
    assert server.stop() == 0
    assert path.read_text().startswith("what was there\n")
    assert "stopped" in path.read_text()
    assert server.log() == ""


def test_log_file_is_made_for_its_owner_and_group(start: StartServer, directory: Path) -> None:
    path = directory / "cohab.log"
    start("echo", "--log-file", str(path), preexec=lambda: os.umask(0))
    assert path.stat().st_mode & 0o777 == 0o640


def test_log_file_that_cannot_be_opened(make_server: MakeServer, directory: Path) -> None:
    target = directory / "target"
    link = directory / "link"
    link.symlink_to(target)
    for path, why in (
        (link, "it is a symbolic link"),
        (directory, "Is a directory"),
        (directory / "no" / "log", "No such file"),
    ):
        socket_path = str(directory / "s")
        result = run_cohabd("--socket", socket_path, "--log-file", str(path), engine_path("echo"))
        assert result.returncode == 1
        assert f"--log-file {path}: {why}" in result.stderr
    assert not target.exists()


def test_errors_of_a_start_are_seen_on_standard_error(directory: Path) -> None:
    path = directory / "cohab.log"
    options = [
        "--socket",
        str(directory / "s"),
        "--log-file",
        str(path),
        engine_path("fault"),
        "--",
        "load=fail",
    ]
    result = run_cohabd(*options)
    if result.returncode == 0:
        pytest.fail("the engine has loaded")
    assert result.returncode == 1
    assert "engine " in result.stderr
    assert result.stderr.strip() in path.read_text()


def test_rotation_by_signal(start: StartServer, directory: Path) -> None:
    """After SIGUSR1 nobody goes on writing the old file, whoever it is: engine, forkserver or reporter."""
    path, old = directory / "cohab.log", directory / "cohab.log.1"
    server = start("fault", "--log-file", str(path), "--log-format", "json")
    raw = server.raw()
    assert raw.call("stderr", "before\n").ok
    wait_until(lambda: '"before"' in path.read_text())
    path.rename(old)
    assert raw.call("stderr", "between\n").ok
    wait_until(lambda: '"between"' in old.read_text())
    server.send_signal(signal.SIGUSR1)
    wait_until(path.exists, what="a new file")
    wait_event(path, "log_reopened")
    assert path.stat().st_mode & 0o777 == 0o640
    kept = old.read_text()
    assert raw.call("stderr", "after\n").ok
    assert raw.call("crash").reason == "ENGINE_CRASHED"
    os.kill(server.forkserver(), signal.SIGKILL)
    wait_event(path, "crash_reported")
    wait_event(path, "forkserver_died")
    server.wait_full_strength()
    for pid in [server.pid, *server.tree()]:
        assert not any(str(old) in name for name in descriptors_of(pid))
    server.stop()
    assert old.read_text() == kept
    assert find(path.read_text(), "stopped")
    assert events(old.read_text())


def test_the_signal_to_all_processes_ends_none(start: StartServer, directory: Path) -> None:
    """As `systemctl kill --signal=USR1` sends it."""
    path = directory / "cohab.log"
    server = start("fault", "--log-file", str(path), "--log-format", "json")
    before = server.children()
    for pid in server.tree():
        os.kill(pid, signal.SIGUSR1)
    wait_event(path, "log_reopened")
    assert server.raw().call("echo", 1).result == 1
    assert server.children() == before


def test_without_a_file_the_signal_does_nothing(start: StartServer) -> None:
    server = start("echo")
    server.send_signal(signal.SIGUSR1)
    assert server.raw().call("echo", 1).result == 1
    assert "opened anew" not in server.log()


def test_a_file_that_was_removed_comes_again(start: StartServer, directory: Path) -> None:
    path = directory / "cohab.log"
    server = start("fault", "--log-file", str(path))
    path.unlink()
    assert server.raw().call("stderr", "here again\n").ok
    wait_until(lambda: path.exists() and "here again" in path.read_text())


def test_a_directory_that_has_vanished(start: StartServer, directory: Path) -> None:
    """Lines are dropped and counted, and the count is said when there is a place for them again."""
    place, away = directory / "logs", directory / "away"
    place.mkdir()
    path = place / "cohab.log"
    server = start("fault", "--log-file", str(path), "--log-format", "json")
    path.unlink()
    place.rename(away)
    raw = server.raw()
    for number in range(5):
        assert raw.call("stderr", f"lost {number}\n").ok
    wait_until(lambda: server.status()["log"]["dropped"] >= 5, what="lines dropped")
    server.send_signal(signal.SIGUSR1)  # the order alone does not help
    assert raw.call("echo", 1).result == 1
    lost = server.status()["log"]["dropped"]
    place.mkdir()

    def is_back() -> bool:
        assert raw.call("stderr", "found\n").ok
        return path.exists() and bool(find(path.read_text(), "log_lines_lost"))

    wait_until(is_back, what="the file again")
    first = events(path.read_text())[0]
    assert first["event"] == "log_lines_lost"
    assert first["count"] >= lost
    assert server.status()["log"]["dropped"] == first["count"]
    assert server.cli("status").stdout.count(f"{first['count']} lines lost") == 1


def test_a_disk_that_is_full(make_server: MakeServer, directory: Path) -> None:
    """The server goes on; what does not fit is counted, and no line is torn for good."""
    path, old = directory / "cohab.log", directory / "cohab.log.1"
    server = make_server()
    server.start("fault", "--log-file", str(path), "--log-format", "json")
    used = path.stat().st_size
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (used + 300, resource.RLIM_INFINITY))
    raw = server.raw()
    for number in range(20):
        assert raw.call("stderr", f"line {number}\n").ok
    wait_until(lambda: server.status()["log"]["dropped"] > 10, what="lines dropped")
    assert path.stat().st_size <= used + 300
    assert raw.call("echo", 1).result == 1
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert raw.call("stderr", "room again\n").ok
    wait_until(lambda: "room again" in path.read_text())
    lines = path.read_text().splitlines()
    whole = []
    torn = 0
    for line in lines:
        try:
            whole.append(json.loads(line))
        except ValueError:
            torn += 1
    assert torn <= 1  # the one that the limit cut
    told = next(event for event in whole if event["event"] == "log_lines_lost")
    assert told["count"] == server.status()["log"]["dropped"]
    assert whole.index(told) < next(i for i, e in enumerate(whole) if e["message"] == "room again")
    assert not old.exists()


def test_output_that_was_not_logged_is_counted(start: StartServer) -> None:
    server = start("fault")
    assert server.raw().call("stderr", "a\n" * 2000, 50).ok
    server.wait_log(r"worker \d: \(\d+ lines were not logged\)")
    said = [int(number) for number in re.findall(r"\((\d+) lines were not logged\)", server.log())]
    assert server.status()["log"]["output_dropped"] >= said[0] > 0
