"""How a server ends, and who may have the socket next."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import stat
import time
from pathlib import Path

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import Gate, Server, engine_path, run_cohabd
from processes import is_alive, session_members, title_of, wait_until
from wire import ConnectionEnded, Reply

LIBC = ctypes.CDLL(None, use_errno=True)
PR_CAPBSET_DROP = 24  # linux/prctl.h
CAP_DAC_OVERRIDE = 1  # linux/capability.h


def check_stopping(reply: Reply) -> None:
    assert reply.error is not None
    assert (reply.error["code"], reply.reason) == ("UNAVAILABLE", "STOPPING")
    assert reply.error["executed"] is False
    assert reply.error["retry"] is True


def files(server: Server) -> list[str]:
    return sorted(path.name for path in server.directory.iterdir())


# ---- gracefully


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_server(start: StartServer, number: int) -> None:
    server = start("fault", workers=3)
    raw = server.raw()
    assert raw.call("echo", 1).ok
    assert files(server) == ["log", "s", "s.ctl", "s.lock"]
    assert server.stop(number) == 0
    assert files(server) == ["log"]
    assert raw.at_end()
    assert server.log().count("stopped") == 1
    wait_until(lambda: not server.tree(), what="nothing of it left")


def test_running_calls_finish(start: StartServer, gate: Gate) -> None:
    server = start("fault", workers=2)
    raws = [server.raw() for _ in range(2)]
    for i, raw in enumerate(raws):
        raw.ask("block", gate.path, f"call-{i}")
    gate.wait_started(2)
    server.send_signal(signal.SIGTERM)
    server.wait_log("stopping")
    assert server.status()["server"]["state"] == "stopping"
    for i, raw in enumerate(raws):
        gate.release(f"call-{i}")
        assert raw.receive().result == f"call-{i}"
    assert server.wait_end() == 0
    assert files(server) == ["log"]


def test_waiting_and_new_requests_are_refused(start: StartServer, gate: Gate) -> None:
    """Executed: false, retry: true, while a call still runs and at the end."""
    server = start("fault", workers=2)
    held = [server.raw() for _ in range(2)]
    waiting = [server.raw() for _ in range(6)]
    idle = server.raw()
    assert idle.call("echo", 1).ok
    for i, raw in enumerate(held):
        raw.ask("block", gate.path, f"call-{i}")
    gate.wait_started(2)
    for i, raw in enumerate(waiting):
        raw.ask("echo", i)
    server.send_signal(signal.SIGTERM)
    server.wait_log("stopping")
    gate.release("call-0")
    assert held[0].receive().result == "call-0"
    for raw in waiting:
        check_stopping(raw.receive())
    check_stopping(idle.call("crash"))
    check_stopping(server.raw().call("crash"))
    with pytest.raises(cohab.Unavailable) as caught:
        server.client().call("crash")
    assert (caught.value.reason, caught.value.executed, caught.value.retry) == ("STOPPING", False, True)
    gate.release("call-1")
    assert held[1].receive().result == "call-1"
    assert server.wait_end() == 0


def test_requests_that_come_all_the_time(start: StartServer) -> None:
    """Each is answered, refused, or was never taken; none is cut off."""
    server = start("fault", workers=2)
    raws = [server.raw() for _ in range(16)]
    for raw in raws:
        assert raw.call("echo", 1).ok
    server.send_signal(signal.SIGTERM)
    refused = 0
    for turn in range(10000):
        alive = 0
        for raw in raws:
            try:
                raw.ask("echo", turn)
                reply = raw.receive()
            except (OSError, ConnectionEnded):
                continue
            alive += 1
            if reply.error is not None:
                refused += 1
                check_stopping(reply)
        if not alive:
            break
    assert server.wait_end() == 0
    assert refused > 0


def test_half_a_frame_does_not_hold_up_the_stop(start: StartServer) -> None:
    server = start("fault", "--io-timeout", "0.2")
    raw = server.raw()
    raw.send(b"\x00\x00\x00\x50half")
    wait_until(lambda: server.workers("busy"), what="the worker reads")
    assert server.stop() == 0
    assert raw.receive().reason == "BAD_FRAME"


def test_deadlines_hold_while_stopping(start: StartServer) -> None:
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("hang", meta={"timeout": 0.3})
    wait_until(lambda: server.workers("busy"), what="the call runs")
    server.send_signal(signal.SIGTERM)
    assert raw.receive().reason == "DEADLINE"
    assert server.wait_end() == 0


def test_crash_while_stopping(start: StartServer, gate: Gate) -> None:
    """The dead worker is replaced, so that what waits is refused in words."""
    server = start("fault", workers=1)
    raw, waiting = server.raw(), server.raw()
    raw.ask("block", gate.path, "held")
    pid = gate.pid_of("held")
    waiting.ask("echo", 1)
    server.send_signal(signal.SIGTERM)
    server.wait_log("stopping")
    os.kill(pid, signal.SIGKILL)
    assert raw.receive().reason == "ENGINE_CRASHED"
    check_stopping(waiting.receive())
    assert server.wait_end() == 0


def test_stop_hook_that_does_not_end(start: StartServer) -> None:
    server = start("fault", args=["stop-hang"])
    assert server.stop() == 0
    assert not server.tree()


def test_stop_hook_that_crashes(start: StartServer) -> None:
    server = start("fault", args=["stop-crash"])
    assert server.stop() == 0


# ---- at once


@pytest.mark.parametrize("how", ["twice", "SIGQUIT", "SIGTERM, SIGQUIT", "stop --now"])
def test_at_once(start: StartServer, how: str) -> None:
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("hang")
    wait_until(lambda: server.workers("busy"), what="the call runs")
    if how in ("twice", "SIGTERM, SIGQUIT"):
        server.send_signal(signal.SIGTERM)
        server.wait_log("stopping")
    if how == "stop --now":
        assert server.cli("stop", "--now").returncode == 0
    else:
        server.send_signal(signal.SIGTERM if how == "twice" else signal.SIGQUIT)
    reply = raw.receive()
    assert reply.reason == "STOPPING"
    assert reply.error is not None
    assert (reply.error["code"], reply.error["executed"], reply.error["retry"]) == (
        "UNAVAILABLE",
        True,
        False,
    )
    assert server.wait_end() == 0
    assert files(server) == ["log"]
    wait_until(lambda: not server.tree(), what="nothing of it left")


def test_stop_timeout(start: StartServer) -> None:
    server = start("fault", "--stop-timeout", "0.3")
    raw = server.raw()
    raw.ask("hang")
    wait_until(lambda: server.workers("busy"), what="the call runs")
    assert server.stop() == 0
    assert raw.receive().reason == "STOPPING"
    assert "--stop-timeout" in server.log()
    assert not server.tree()


def test_stop_during_a_birth(start: StartServer) -> None:
    """The worker that is being born goes with the others; nothing of that is an error."""
    server = start("fault", args=["start-sleep", "0.4"], workers=2)
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_until(server.starting_workers, what="a worker in its start()")
    server.send_signal(signal.SIGQUIT)
    assert server.wait_end() == 0
    assert files(server) == ["log"]
    assert server.log_lines("info").count("stopped") == 1


def test_graceful_stop_during_a_birth(start: StartServer) -> None:
    server = start("fault", args=["start-sleep", "0.4"], workers=2)
    os.kill(server.workers()[0], signal.SIGKILL)
    wait_until(server.starting_workers, what="a worker in its start()")
    assert server.stop() == 0
    assert files(server) == ["log"]
    assert server.log_lines("info").count("stopped") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
@pytest.mark.parametrize("where", ["load-hang", "start-hang"])
def test_stop_before_it_serves(make_server: MakeServer, number: int, where: str) -> None:
    """Nobody was served yet, so there is nothing to wait for."""
    server = make_server()
    server.launch("fault", args=[where])
    words = "forkserver loading" if where == "load-hang" else "cohab: worker"
    wait_until(lambda: server.children_titled(words), what="it starts")
    server.stop(number, timeout=5.0)
    assert files(server) == ["log"]
    assert not server.tree()


def test_cohab_stop(start: StartServer, gate: Gate) -> None:
    """It returns when the server is gone; running calls finish first."""
    server = start("fault")
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.pid_of("held")
    pid = os.fork()
    if pid == 0:
        os._exit(server.cli("stop").returncode)
    server.wait_log("asked to stop")
    gate.release("held")
    assert raw.receive().result == "held"
    assert os.waitpid(pid, 0)[1] == 0
    assert files(server) == ["log"]
    assert server.wait_end() == 0


def test_lifeline(make_server: MakeServer) -> None:
    server = make_server()
    read_end, write_end = os.pipe()
    server.launch("fault", "--lifeline-fd", str(read_end), pass_fds=[read_end])
    os.close(read_end)
    server.wait_serving()
    assert server.client().call("echo", 1) == 1
    os.write(write_end, b"still here")
    assert server.client().call("echo", 1) == 1
    os.close(write_end)
    assert server.wait_end() == 0
    assert files(server) == ["log"]


def test_lifeline_is_not_inherited(make_server: MakeServer) -> None:
    """Else a worker would keep the server's owner alive, or the other way round."""
    server = make_server()
    read_end, write_end = os.pipe()
    server.launch("fault", "--lifeline-fd", str(read_end), pass_fds=[read_end])
    os.close(read_end)
    server.wait_serving()
    fds = server.raw().call("open_fds").result
    assert [fd for fd in fds if 2 < fd < 1024] == []
    os.close(write_end)
    assert server.wait_end() == 0


def test_the_lifeline_s_end_does_not_hasten_a_stop(make_server: MakeServer, gate: Gate) -> None:
    """As when the owner asks for a graceful stop and exits."""
    server = make_server()
    read_end, write_end = os.pipe()
    server.launch("fault", "--lifeline-fd", str(read_end), pass_fds=[read_end])
    os.close(read_end)
    server.wait_serving()
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.wait_started(1)
    server.send_signal(signal.SIGTERM)
    server.wait_log("stopping")
    os.close(write_end)
    server.wait_log("the owner is gone")
    assert raw.is_silent(0.05)
    gate.release("held")
    assert raw.receive().result == "held"
    assert server.wait_end() == 0


def test_sigterm_to_all_of_the_service(start: StartServer, gate: Gate) -> None:
    """As systemd does it: calls finish, and nothing is loaded anew."""
    server = start("fault", workers=2)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.wait_started(1)
    for pid in server.tree():
        os.kill(pid, signal.SIGTERM)
    server.wait_log("stopping")
    gate.release("held")
    assert raw.receive().result == "held"
    assert server.wait_end() == 0
    assert "generation 2" not in server.log()


# ---- the socket


def test_second_master_refuses(start: StartServer) -> None:
    server = start("echo")
    for _ in range(2):
        result = run_cohabd("--socket", server.socket, engine_path("echo"))
        assert result.returncode == 1
        assert str(server.pid) in result.stderr
        assert server.socket in result.stderr
    assert server.client().call("echo", 1) == 1
    assert files(server) == ["log", "s", "s.ctl", "s.lock"]


def test_many_start_at_once(make_server: MakeServer) -> None:
    """One of them serves; the others say who does, or that one is starting."""
    first = make_server()
    rivals = [make_server() for _ in range(5)]
    for rival in rivals:
        rival.socket = first.socket
        rival.expect_error("another cohabd")
        rival.launch("echo")
    wait_until(lambda: sum(r.exit_code() is None for r in rivals) == 1, what="one is left")
    winner = next(r for r in rivals if r.exit_code() is None)
    winner.wait_serving()
    assert winner.status()["server"]["pid"] == winner.pid
    assert [r.exit_code() for r in rivals if r is not winner] == [1] * 4


def test_socket_of_a_killed_master_is_taken_over(start: StartServer) -> None:
    server = start("echo")
    server.send_signal(signal.SIGKILL)
    server.wait_end()
    assert files(server) == ["log", "s", "s.ctl", "s.lock"]
    server.start("echo")
    assert server.client().call("echo", 1) == 1
    assert server.stop() == 0
    assert files(server) == ["log"]


def test_taken_over_while_the_old_workers_finish(start: StartServer, gate: Gate) -> None:
    server = start("fault")
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    old = gate.pid_of("held")
    server.send_signal(signal.SIGKILL)
    server.wait_end()
    server.start("fault")
    assert server.client().call("echo", 1) == 1
    gate.release("held")
    assert raw.receive().result == "held"
    wait_until(lambda: not is_alive(old), what="the old worker leaves")
    assert server.client().call("echo", 1) == 1


@pytest.mark.parametrize("name", ["s", "s.ctl"])
def test_something_else_at_the_path(make_server: MakeServer, name: str) -> None:
    server = make_server()
    server.expect_error("is not a socket")
    (server.directory / name).write_text("precious")
    server.launch("echo")
    assert server.wait_end() == 1
    assert (server.directory / name).read_text() == "precious"
    assert files(server) == sorted(["log", name])


def test_somebody_else_listens(make_server: MakeServer) -> None:
    server = make_server()
    server.expect_error("another program listens")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(server.socket)
        other.listen()
        server.launch("echo")
        assert server.wait_end() == 1
    assert files(server) == ["log", "s"]


@pytest.mark.parametrize("length", [104, 107, 108, 300])
def test_path_that_is_too_long(make_server: MakeServer, length: int) -> None:
    """With .ctl behind it, too. Nothing is left behind."""
    server = make_server()
    server.expect_error("at most|too long")
    server.socket += "s" * (length - len(server.socket))
    server.launch("echo")
    assert server.wait_end() == 1
    assert files(server) == ["log"]


def test_longest_path(make_server: MakeServer) -> None:
    server = make_server()
    server.socket += "s" * (103 - len(server.socket))
    server.start("echo")
    assert server.client().call("echo", 1) == 1


def test_directory_that_does_not_exist(make_server: MakeServer) -> None:
    server = make_server()
    server.expect_error("No such file")
    server.socket = str(server.directory / "nowhere" / "s")
    server.launch("echo")
    assert server.wait_end() == 1


def test_directory_that_is_not_writable(make_server: MakeServer) -> None:
    server = make_server()
    server.expect_error("Permission denied")

    def obey_permissions() -> None:
        """As any user must; root loses the capability at the exec."""
        if os.getuid() == 0 and LIBC.prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE) != 0:
            raise OSError(ctypes.get_errno(), "PR_CAPBSET_DROP")

    place = server.directory / "closed"
    place.mkdir()
    place.chmod(0o555)
    server.socket = str(place / "s")
    server.launch("echo", preexec=obey_permissions)
    assert server.wait_end() == 1
    assert str(place) in server.log()
    place.chmod(0o755)


@pytest.mark.parametrize("mode", ["0600", "0666", "0"])
def test_socket_mode(start: StartServer, mode: str) -> None:
    server = start("echo", "--socket-mode", mode, full=False)
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == int(mode, 8)
    assert stat.S_IMODE(os.stat(server.socket + ".ctl").st_mode) == 0o600


def test_default_socket_mode_whatever_the_umask(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("echo", preexec=lambda: os.umask(0o777))
    server.wait_serving()
    assert stat.S_IMODE(os.stat(server.socket).st_mode) == 0o660


def test_socket_from_the_environment(make_server: MakeServer, directory: Path) -> None:
    server = make_server()
    path = str(directory / "from-environment")
    result = run_cohabd("--check", engine_path("echo"), env={"COHAB_SOCKET": path})
    assert result.returncode == 0
    server.start("echo")
    assert server.cli("ping").returncode == 0


def test_nothing_of_the_session_is_left(start: StartServer) -> None:
    """After crashes, deadlines and kills, a stop leaves no process and no file."""
    server = start("fault", workers=4)
    server.expect_error("forkserver .* died|could not start")
    raw = server.raw()
    for method in ("crash", "abort"):
        assert not raw.call(method).ok
    assert not raw.call("hang", meta={"timeout": 0.1}).ok
    os.kill(server.forkserver(), signal.SIGKILL)
    session = server.pid
    assert server.stop() == 0
    end = time.monotonic() + 5
    wait_until(lambda: not session_members(session), end - time.monotonic(), "an empty session")
    assert files(server) == ["log"]
    assert title_of(session) == ""
