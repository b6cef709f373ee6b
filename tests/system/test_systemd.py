"""What a service manager does with the server: it hands it a socket, and is told how it is."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
from conftest import MakeServer
from harness import Gate, Server, run_cohab
from manager import Manager, fill, variables_of
from processes import is_alive, state_of, wait_until
from wire import Raw

BEAT = "WATCHDOG=1"
PERIOD = 0.3  # s: three looks of the master's
WATCHDOG = {"WATCHDOG_USEC": str(int(PERIOD * 1e6))}

MakeManager = Callable[..., Manager]


@pytest.fixture
def make_manager(make_server: MakeServer) -> Iterator[MakeManager]:
    managers: list[Manager] = []

    def make(**how: str) -> Manager:
        managers.append(Manager(make_server(), **how))
        return managers[-1]

    yield make
    for manager in managers:
        manager.close()


# ---- the socket


def test_a_socket_that_it_is_given(make_manager: MakeManager) -> None:
    """Without --socket its path is the socket's; the file stays when the server goes."""
    manager = make_manager()
    manager.listen()
    server = manager.start()
    server.wait_serving()
    assert server.raw().call("echo", 1).result == 1
    assert server.status()["server"]["socket"] == server.socket
    server.wait_full_strength()
    assert server.stop() == 0
    assert sorted(os.listdir(server.directory)) == ["log", "notify", "s"]


def test_children_know_nothing_of_the_manager(make_manager: MakeManager) -> None:
    manager = make_manager()
    manager.listen()
    server = manager.start(**WATCHDOG)
    server.wait_serving()
    for pid in [*server.workers(), server.forkserver()]:
        names = set(variables_of(pid))
        assert not names & {"LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
    server.wait_full_strength()
    server.stop()


def test_a_killed_master(make_manager: MakeManager, gate: Gate) -> None:
    """Its workers leave; who connects meanwhile waits in the socket for the next master."""
    manager = make_manager()
    manager.listen()
    server = manager.start()
    server.wait_serving()
    server.wait_full_strength()
    workers = server.workers()
    server.raw().ask("block", str(gate.directory))
    gate.wait_started(1)
    os.kill(server.pid, signal.SIGKILL)
    server.wait_end()
    early = [server.raw() for _ in range(5)]
    for i, raw in enumerate(early):
        raw.ask("echo", i)
    gate.release_all()
    wait_until(lambda: not any(is_alive(pid) for pid in workers), what="no worker of the old master")
    manager.start()
    for i, raw in enumerate(early):
        assert raw.receive().result == i
    assert server.raw().call("echo", "late").result == "late"
    server.wait_full_strength()


def test_a_restart_refuses_nobody(make_manager: MakeManager, gate: Gate) -> None:
    """From the moment in which it stops, who connects is the next server's."""
    manager = make_manager()
    manager.listen()
    server = manager.start()
    server.wait_serving()
    running = server.raw()
    running.ask("block", str(gate.directory))
    gate.wait_started(1)
    server.send_signal(signal.SIGTERM)
    server.wait_log("stopping; running calls have")
    late = server.raw()
    late.ask("echo", 1)
    gate.release_all()
    assert running.receive().ok
    assert server.wait_end() == 0
    manager.start()
    assert late.receive().result == 1
    server.wait_full_strength()


def test_a_start_that_fails_leaves_the_socket(make_manager: MakeManager) -> None:
    manager = make_manager()
    manager.listen()
    server = manager.start(args=("load-fail",))
    server.expect_error("engine ")
    assert server.wait_end() == 1
    assert Path(server.socket).is_socket()
    server.raw().ask("echo", 1)


def not_listening(path: str) -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)


def not_a_stream(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    sock.bind(path)
    sock.listen()
    return sock


def not_a_path(path: str) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize("make", [not_listening, not_a_stream, not_a_path])
def test_wrong_kinds_of_sockets(make_manager: MakeManager, make: Callable[[str], socket.socket]) -> None:
    manager = make_manager()
    with make(manager.server.socket) as sock:
        server = manager.start("fault", "--socket", manager.server.socket, hand=sock)
        server.expect_error("descriptor 3 is not a listening Unix stream socket")
        assert server.wait_end() == 1
    assert len(server.log_lines()) == 1
    assert server.log_lines("error")


@pytest.mark.parametrize(
    ("count", "why"), [("2", "LISTEN_FDS brings 2 sockets"), ("one", "LISTEN_FDS is 'one', not a number")]
)
def test_wrong_numbers_of_sockets(make_manager: MakeManager, count: str, why: str) -> None:
    manager = make_manager()
    manager.listen()
    server = manager.start(LISTEN_FDS=count)
    server.expect_error(why)
    assert server.wait_end() == 1
    assert len(server.log_lines("error")) == 1


def test_sockets_for_another_process(make_manager: MakeManager) -> None:
    """As its parent's parent was given some, and has not cleared its environment."""
    manager = make_manager()
    server = manager.start("fault", "--socket", manager.server.socket, LISTEN_FDS="1", FD="")
    # The manager's shell sets LISTEN_PID to the server's own: descriptor 3 is then missing.
    server.expect_error("descriptor 3 is not")
    assert server.wait_end() == 1
    server.launch("fault", environment={"LISTEN_FDS": "1", "LISTEN_PID": "1"})
    server.wait_serving()
    server.wait_full_strength()
    assert server.stop() == 0
    assert not Path(server.socket).exists()


def test_an_abstract_socket(make_manager: MakeManager) -> None:
    """It has no path: --socket says where the admin socket lies."""
    manager = make_manager()
    name = f"\0{manager.server.socket}"
    manager.listen(name)
    server = manager.start()
    assert server.wait_end() == 2
    assert "--socket PATH" in server.log()
    manager.start("fault", "--socket", server.socket)
    manager.wait_message("READY=1")
    with Raw(name) as raw:
        assert raw.call("echo", 1).result == 1
    assert run_cohab("--socket", server.socket, "status").returncode == 0
    server.wait_full_strength()


def test_a_lifeline_beside_it(make_manager: MakeManager) -> None:
    manager = make_manager()
    manager.listen()
    server = manager.start("fault", "--lifeline-fd", "0")  # /dev/null: at its end
    assert server.wait_end(20) == 0
    assert "the owner is gone" in server.log()
    same = manager.start("fault", "--lifeline-fd", "3")
    same.expect_error("--lifeline-fd 3 is the socket of LISTEN_FDS")
    assert same.wait_end() == 1


# ---- what it tells


def test_ready_and_stopping(make_manager: MakeManager) -> None:
    manager = make_manager()
    server = manager.start("fault", "--socket", manager.server.socket)
    before = manager.wait_message("READY=1")
    assert "STOPPING=1" not in before
    with Raw(server.socket) as raw:  # it listens already
        assert raw.call("echo", 1).ok
    server.wait_full_strength()
    assert server.stop() == 0
    manager.wait_message("STOPPING=1")
    assert manager.heard.count("READY=1") == 1
    assert BEAT not in manager.heard


def test_an_abstract_notify_socket(make_manager: MakeManager, directory: Path) -> None:
    manager = make_manager(notify=f"@{directory}")
    server = manager.start("fault", "--socket", manager.server.socket)
    manager.wait_message("READY=1")
    server.wait_full_strength()


def test_not_ready_before_a_worker_is(make_manager: MakeManager) -> None:
    manager = make_manager()
    server = manager.start("fault", "--socket", manager.server.socket, args=("start-hang",), **WATCHDOG)
    came = manager.wait_heard(lambda line: line.startswith("STATUS=Starting workers of /"), "its state")
    manager.wait_silence(BEAT, 3 * PERIOD)
    assert "READY=1" not in came + manager.hear()
    server.send_signal(signal.SIGQUIT)
    server.wait_end()


def test_the_state_in_a_line(make_manager: MakeManager, directory: Path) -> None:
    manager = make_manager()
    broken = directory / "broken"
    args = ("start-fail-while", str(broken))
    server = manager.start("fault", "--socket", manager.server.socket, args=args)
    server.expect_error("start\\(\\) failed")
    serving = "STATUS=Serving fault "
    manager.wait_heard(lambda m: m.startswith(serving) and m.endswith(": 2 of 2 workers ready"), "2 of 2")
    broken.touch()
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    manager.wait_heard(
        lambda m: m.startswith(serving) and ": 0 of 2 workers ready; start() failed" in m, "0 of 2"
    )
    broken.unlink()
    manager.wait_message(next(m for m in manager.heard if m.endswith(": 2 of 2 workers ready")))
    server.wait_full_strength()


def wait_reloaded(manager: Manager, after: int) -> None:
    """It says that it reloads, when that began, and then that it is ready."""
    came = manager.wait_message("READY=1")
    [said] = [message for message in came if message.startswith("RELOADING=1\nMONOTONIC_USEC=")]
    assert after <= int(said.split("=")[-1]) <= time.monotonic_ns() // 1000
    assert came.index(said) < came.index("READY=1")


def test_a_reload(make_manager: MakeManager, directory: Path) -> None:
    """Whoever asks for it, and however it ends."""
    manager = make_manager()
    broken = directory / "broken"
    args = ("load-fail-while", str(broken))
    server = manager.start("fault", "--socket", manager.server.socket, args=args)
    manager.wait_message("READY=1")
    server.wait_full_strength()
    before = time.monotonic_ns() // 1000
    assert server.cli("reload").returncode == 0
    wait_reloaded(manager, before)
    server.send_signal(signal.SIGHUP)
    wait_reloaded(manager, before)
    broken.touch()
    server.expect_error("failed on demand")
    assert server.cli("reload").returncode == 1
    wait_reloaded(manager, before)
    assert server.raw().call("echo", 1).ok
    server.wait_full_strength()


def test_a_manager_that_does_not_read(make_manager: MakeManager) -> None:
    """The server does not wait for it, and what had no room comes later."""
    manager = make_manager()
    writer = fill(manager)
    server = manager.start("fault", "--socket", manager.server.socket)
    server.wait_serving()
    writer.close()
    manager.wait_message("READY=1")
    server.wait_full_strength()


def test_a_manager_that_is_gone(make_manager: MakeManager) -> None:
    manager = make_manager()
    os.unlink(manager.notify_path)
    server = manager.start("fault", "--socket", manager.server.socket)
    server.wait_serving()
    server.wait_log("cannot tell the service manager")
    server.wait_full_strength()
    assert server.stop() == 0
    assert server.log().count("cannot tell the service manager") == 1


# ---- the watchdog


def start_watched(manager: Manager, *options: str, args: tuple[str, ...] = ()) -> Server:
    server = manager.start("fault", "--socket", manager.server.socket, *options, args=args, **WATCHDOG)
    manager.wait_message("READY=1")
    server.wait_full_strength()
    return server


def test_an_idle_pool_lives(make_manager: MakeManager) -> None:
    """A probe goes through a worker: for each beat there is a call."""
    manager = make_manager()
    server = start_watched(manager)
    before = server.status()["totals"]["calls"]
    came = manager.wait_message(BEAT, 6)
    assert server.status()["totals"]["calls"] >= before + came.count(BEAT) - 1
    assert server.status()["connections"]["accepted"] == 0
    assert server.status()["connections"]["open"] == 0


def test_a_full_pool_lives(make_manager: MakeManager, gate: Gate) -> None:
    """No call completes, and no worker could take a probe; all are inside their deadlines."""
    manager = make_manager()
    server = start_watched(manager)
    raws = [server.raw() for _ in range(2)]
    for raw in raws:
        raw.ask("block", str(gate.directory))
    gate.wait_started(2)
    calls = server.status()["totals"]["calls"]
    manager.hear()
    manager.wait_message(BEAT, 6)
    assert server.status()["totals"]["calls"] == calls
    gate.release_all()
    assert all(raw.receive().ok for raw in raws)


def test_a_dead_data_path(make_manager: MakeManager) -> None:
    """Workers look idle and take nothing; one that goes on is enough."""
    manager = make_manager()
    server = start_watched(manager)
    workers = server.workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state_of(pid) == "T" for pid in workers), what="stopped workers")
    manager.wait_silence(BEAT, 5 * PERIOD)
    assert server.exit_code() is None
    os.kill(workers[0], signal.SIGCONT)
    manager.wait_message(BEAT, 3)
    os.kill(workers[1], signal.SIGCONT)


def test_no_worker_to_be_had(make_manager: MakeManager, directory: Path) -> None:
    manager = make_manager()
    broken = directory / "broken"
    server = start_watched(manager, args=("start-fail-while", str(broken)))
    server.expect_error("start\\(\\) failed")
    broken.touch()
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    manager.wait_silence(BEAT, 5 * PERIOD)
    broken.unlink()
    manager.wait_message(BEAT, 3)


def test_the_probe_takes_no_client_s_place(make_manager: MakeManager) -> None:
    manager = make_manager()
    server = start_watched(manager, "--max-connections", "2")
    assert server.status()["connections"]["max"] == 2
    raws = [server.raw() for _ in range(2)]
    for raw in raws:
        assert raw.call("echo", 1).ok
    assert server.raw().receive().reason == "TOO_MANY_CONNECTIONS"
    manager.hear()
    manager.wait_message(BEAT, 6)
    for raw in raws:
        assert raw.call("echo", 2).result == 2
    assert server.status()["connections"]["open"] == 2


# ---- an upgrade


def test_an_upgrade_keeps_what_the_manager_has_given(make_manager: MakeManager) -> None:
    manager = make_manager()
    manager.listen()
    server = manager.start("echo", **WATCHDOG)
    server.wait_serving()
    server.wait_full_strength()
    manager.wait_message("READY=1")
    assert server.cli("upgrade").returncode == 0
    came = manager.wait_message("READY=1")
    assert any(message.startswith("RELOADING=1") for message in came + manager.heard)
    manager.wait_message(BEAT, 5)
    assert server.raw().call("echo", 1).result == 1
    assert server.stop() == 0
    assert Path(server.socket).exists()
