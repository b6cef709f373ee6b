"""Requests that kill workers are refused; and what does not count as a kill."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cohab
import pytest
from conftest import StartServer
from harness import Gate, Server
from processes import wait_until
from reports import last_report
from wire import deadline_in


def entries(server: Server) -> list[dict[str, Any]]:
    result = server.cli("quarantine", "list", "--json")
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)["entries"]
    return found


def wait_entries(server: Server, check: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """The book is written when the reporter has looked at the request: at the latest with the answer."""
    wait_until(lambda: check(entries(server)), what="the quarantine's entries")
    return entries(server)


def start_pool(start: StartServer, *options: str, **how: Any) -> Server:
    return start("fault", "--quarantine-after", "2", *options, **how)


@pytest.mark.parametrize(
    ("method", "params", "options"),
    [
        ("crash", [], []),
        ("throw_uncaught", ["x"], []),
        ("exit", [3], []),
        ("quick_exit_status", [3], []),
        ("allocation_bomb", [], ["--max-memory", "128M"]),
    ],
)
def test_refused_after_two(start: StartServer, method: str, params: list[Any], options: list[str]) -> None:
    server = start_pool(start, *options, workers=2)
    raw = server.raw()
    idents = []
    for _ in range(2):
        error = raw.call(method, *params).error
        assert error is not None
        assert error["reason"] == "ENGINE_CRASHED"
        idents.append(last_report(server)["id"])
    deaths = server.status()["totals"]["worker_deaths"]
    for connection in (raw, server.raw()):
        error = connection.call(method, *params).error
        assert error is not None
        assert (error["code"], error["reason"]) == ("FAILED_PRECONDITION", "QUARANTINED")
        assert (error["executed"], error["retry"]) == (False, False)
        assert error["details"] == {"reports": idents}
        assert f"have killed 2 workers (reports {', '.join(idents)})" in error["message"]
    assert server.status()["totals"]["worker_deaths"] == deaths == 2
    (entry,) = entries(server)
    assert (entry["method"], entry["kills"], entry["quarantined"]) == (method, 2, True)
    assert entry["reports"] == idents


def test_others_are_not_refused(start: StartServer) -> None:
    server = start_pool(start, workers=1)
    raw = server.raw()
    for _ in range(2):
        assert raw.call("throw_uncaught", "bad").reason == "ENGINE_CRASHED"
    assert raw.call("throw_uncaught", "bad").reason == "QUARANTINED"
    assert raw.call("throw_uncaught", "dab").reason == "ENGINE_CRASHED"  # as long, and other bytes
    assert raw.call("echo", "bad").result == "bad"


def test_clear(start: StartServer) -> None:
    server = start_pool(start, workers=1)
    raw = server.raw()
    assert "no request" in server.cli("quarantine", "list").stdout
    for word in ("one", "two"):
        for _ in range(2):
            assert raw.call("throw_uncaught", word).reason == "ENGINE_CRASHED"
        assert raw.call("throw_uncaught", word).reason == "QUARANTINED"
    one, two = entries(server)
    assert server.cli("quarantine", "clear", one["reports"][0]).returncode == 0
    assert raw.call("throw_uncaught", "one").reason == "ENGINE_CRASHED"
    assert raw.call("throw_uncaught", "two").reason == "QUARANTINED"
    assert server.cli("quarantine", "clear", two["hash"]).returncode == 0
    assert raw.call("throw_uncaught", "two").reason == "ENGINE_CRASHED"
    assert server.cli("quarantine", "clear").returncode == 0
    assert entries(server) == []


def test_off(start: StartServer) -> None:
    server = start("fault", "--quarantine-after", "0", workers=1)
    raw = server.raw()
    for _ in range(5):
        assert raw.call("crash").reason == "ENGINE_CRASHED"
    assert entries(server) == []


def test_signals_from_outside_do_not_count(start: StartServer, gate: Gate) -> None:
    server = start_pool(start, workers=1)
    raw = server.raw()
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
        raw.ask("block", gate.path, "held")
        os.kill(gate.pid_of("held"), number)
        assert raw.receive().reason == "ENGINE_CRASHED"
        (gate.directory / "held").unlink()
        (gate.directory / "started").unlink()
    assert entries(server) == []


def test_deadlines_do_not_count(start: StartServer) -> None:
    server = start_pool(start, workers=1)
    raw = server.raw()
    for _ in range(3):
        assert raw.call("spin_forever", meta=deadline_in(0.05)).reason == "DEADLINE"
    assert entries(server) == []


def test_deadlines_that_count(start: StartServer) -> None:
    server = start_pool(start, "--quarantine-timeouts", workers=1)
    raw = server.raw()
    for _ in range(2):
        assert raw.call("spin_forever", meta=deadline_in(0.05)).reason == "DEADLINE"
    assert raw.call("spin_forever", meta=deadline_in(0.05)).reason == "QUARANTINED"


def test_a_retry_is_the_same_request(start: StartServer) -> None:
    """By the same client, with the same deadline."""
    server = start_pool(start, workers=1)
    raw = server.raw()
    meta = deadline_in(20)
    for _ in range(3):
        assert raw.call("crash_idempotent", meta=meta).reason == "ENGINE_CRASHED"
    (entry,) = entries(server)
    assert (entry["kills"], entry["quarantined"]) == (1, False)
    assert server.cli("quarantine", "clear").returncode == 0
    client = server.client()
    with pytest.raises(cohab.EngineCrashed) as info:
        client.call("crash_idempotent")  # twice, as one
    assert isinstance(info.value.__cause__, cohab.EngineCrashed)
    (entry,) = entries(server)
    assert (entry["kills"], entry["quarantined"]) == (1, False)
    assert raw.call("crash_idempotent").reason == "ENGINE_CRASHED"
    assert raw.call("crash_idempotent").reason == "QUARANTINED"


def test_the_table_is_bounded(start: StartServer) -> None:
    """With more than its 256 entries the oldest is forgotten."""
    server = start("fault", "--quarantine-after", "1", "--crash-keep", "0", workers=2)
    raw = server.raw()
    for i in range(260):
        assert raw.call("throw_uncaught", f"{i}").reason == "ENGINE_CRASHED"
    assert len(entries(server)) == 256
    assert raw.call("throw_uncaught", "259").reason == "QUARANTINED"
    assert raw.call("throw_uncaught", "0").reason == "ENGINE_CRASHED"


def test_workers_cannot_write_to_the_table(start: StartServer) -> None:
    server = start_pool(start, workers=1)
    raw = server.raw()
    assert raw.call("scribble", "cohab-quarantine", 255, "return", 0, 8).result == 0  # no such mapping
    assert raw.call("echo", 1).result == 1


def kill(server: Server, method: str, *params: Any) -> None:
    """A call that kills a worker, and is in the book."""

    def kills() -> int:
        return sum(entry["kills"] for entry in entries(server))

    before = kills()
    assert server.raw().call(method, *params).reason == "ENGINE_CRASHED"
    wait_until(lambda: kills() > before, what="one more kill in the book")


def test_what_is_refused_does_not_run(start: StartServer) -> None:
    """The engine counts its calls."""
    server = start("fault", "--quarantine-after", "1", workers=1)
    kill(server, "throw_uncaught", "x")
    raw = server.raw()
    before = raw.call("hooks").result
    pids = server.workers()
    for _ in range(20):
        assert raw.call("throw_uncaught", "x").reason == "QUARANTINED"
    assert raw.call("hooks").result == before | {"calls": before["calls"] + 1}
    assert server.workers() == pids


def test_every_worker_refuses(start: StartServer) -> None:
    server = start_pool(start, workers=4)
    for _ in range(2):
        kill(server, "abort")
    server.wait_full_strength()
    raws = [server.raw() for _ in range(16)]
    for raw in raws:
        raw.ask("abort")
    assert {raw.receive().reason for raw in raws} == {"QUARANTINED"}
    assert server.status()["totals"]["worker_deaths"] == 2


def test_a_new_generation_refuses(start: StartServer) -> None:
    server = start_pool(start, workers=1)
    server.expect_error("forkserver .* died")
    for _ in range(2):
        kill(server, "abort")
    os.kill(server.forkserver(), signal.SIGKILL)
    server.wait_log("generation 2")
    pids = server.wait_full_strength()
    os.kill(pids[0], signal.SIGKILL)
    server.wait_replaced(pids)
    assert server.raw().call("abort").reason == "QUARANTINED"


@pytest.mark.parametrize("options", [["--crash-keep", "0"], ["--crash-params", "off"]])
def test_what_is_kept_makes_no_difference(start: StartServer, options: list[str]) -> None:
    server = start_pool(start, *options, workers=1)
    for _ in range(2):
        kill(server, "throw_uncaught", "x")
    assert server.raw().call("throw_uncaught", "x").reason == "QUARANTINED"


# ---- killed for lack of memory

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


def make_group(name: str, limit: int) -> Path:
    """A control group whose processes may have that much memory, or skip."""
    own = Path("/proc/self/cgroup").read_text().splitlines()
    try:
        if (V1 / "memory.limit_in_bytes").exists():
            path = next(line.split(":", 2)[2] for line in own if "memory" in line.split(":")[1].split(","))
            group = V1 / path.lstrip("/") / name
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(limit))
        else:
            path = next(line.split(":", 2)[2] for line in own if line.startswith("0::"))
            group = V2 / path.lstrip("/") / name
            group.mkdir()
            (group / "memory.max").write_text(str(limit))
    except (OSError, StopIteration) as exc:
        pytest.skip(f"no memory control group can be made here: {exc}")
    return group


def test_killed_for_lack_of_memory(start: StartServer, gate: Gate) -> None:
    """A real kill by the kernel; told apart from somebody's SIGKILL, and counted."""
    group = make_group(f"cohab-test-{os.getpid()}", 96 << 20)
    try:
        server = start_pool(
            start,
            workers=1,
            preexec=lambda: (group / "cgroup.procs").write_text("0"),
        )
        raw = server.raw()
        for _ in range(2):
            error = raw.call("allocation_bomb").error
            assert error is not None
            assert error["reason"] == "ENGINE_CRASHED"
            assert "lack of memory (OOM) in allocation_bomb()" in error["message"]
            report = json.loads(
                server.cli(
                    "crash", "show", "latest", "--json", "--crash-dir", str(server.crash_directory)
                ).stdout
            )
            assert report["cause"]["kind"] == "oom_kill"
            assert report["cause"]["signal"] == "SIGKILL"
            assert "SIGKILL" in report["no_stack"]
            assert report["request"]["method"] == "allocation_bomb"
        assert raw.call("allocation_bomb").reason == "QUARANTINED"
        raw.ask("block", gate.path, "held")
        os.kill(gate.pid_of("held"), signal.SIGKILL)
        error = raw.receive().error
        assert error is not None
        assert error["message"].startswith("SIGKILL in block()")
        server.stop()
    finally:
        wait_until(lambda: remove(group), what="an empty control group")


def remove(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
