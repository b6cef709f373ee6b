"""Too few descriptors, too little memory: the server says so, goes on, and recovers."""

from __future__ import annotations

import resource
import socket

import cohab
import pytest
from conftest import MakeServer, StartServer
from harness import Server
from processes import cpu_ticks, descriptors_of, settled_descriptors, wait_until
from wire import Raw

FD_BASE = 1040  # below it lie the server's own descriptors, from it on its connections


def low_limit(hard: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))


def test_low_hard_limit_lowers_max_connections(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("fault", "--max-connections", "500", preexec=lambda: low_limit(FD_BASE + 10))
    server.wait_serving()
    assert any("--max-connections is lowered to 10" in line for line in server.log_lines("warn"))
    assert server.status()["connections"]["max"] == 10
    raws = [server.raw() for _ in range(10)]
    for i, raw in enumerate(raws):
        assert raw.call("echo", i).result == i
    assert server.raw().receive().reason == "TOO_MANY_CONNECTIONS"


def test_hard_limit_that_is_far_too_low(make_server: MakeServer) -> None:
    server = make_server()
    server.expect_error("hard limit of open files is 512")
    server.launch("echo", preexec=lambda: low_limit(512))
    assert server.wait_end() == 1


def test_low_soft_limit_is_raised(make_server: MakeServer) -> None:
    server = make_server()
    server.launch("echo", "--max-connections", "2000", preexec=lambda: low_limit(8000))
    server.wait_serving()
    assert server.status()["connections"]["max"] == 2000
    assert not server.log_lines("warn")


def test_memory_limit_of_a_worker(start: StartServer) -> None:
    """The engine's malloc fails; the engine says so; the worker lives on."""
    server = start("fault", workers=1)
    client = server.client()
    pids = server.workers()
    client.call("limit_memory", 64 << 20)
    assert client.call("allocate", 16 << 20) == 16 << 20
    with pytest.raises(cohab.ResourceExhausted):
        client.call("allocate", 128 << 20)
    assert client.call("echo", 1) == 1
    client.call("free_all")
    assert server.workers() == pids


def test_no_memory_for_parameters_or_results(start: StartServer) -> None:
    """A large request or a large result under the limit: a clear error, and the next call works."""
    server = start("fault", workers=1)
    client = server.client()
    client.call("limit_memory", 24 << 20)
    with pytest.raises(cohab.Error) as caught:
        client.call("echo", b"x" * (40 << 20))
    assert isinstance(caught.value, (cohab.ResourceExhausted, cohab.EngineCrashed))
    with pytest.raises(cohab.Error) as caught:
        client.call("echo", [None] * (8 << 20))
    assert isinstance(caught.value, (cohab.ResourceExhausted, cohab.EngineCrashed))
    assert client.call("echo", "small") == "small"
    server.wait_full_strength()


def prlimit(pid: int, soft: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def connect_without_words(server: Server) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(20)
    sock.connect(server.socket)
    return sock


def test_master_without_descriptors(start: StartServer) -> None:
    """Known connections are served; newcomers wait or are closed; afterwards all is well."""
    server = start("fault", workers=2)
    known = server.raw()
    assert known.call("echo", 1).ok
    before, _ = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    prlimit(server.pid, 5)
    newcomers = [connect_without_words(server) for _ in range(5)]
    server.wait_log("cannot accept connections")
    for i in range(100):
        assert known.call("echo", i).result == i
    ticks = cpu_ticks(server.pid)
    server.wait_log("cannot accept connections", 5)
    assert cpu_ticks(server.pid) - ticks < 20
    prlimit(server.pid, before)
    for sock in newcomers:
        sock.close()
    assert server.client().call("echo", 1) == 1
    assert known.call("echo", 1).result == 1
    assert server.status()["totals"]["worker_deaths"] == 0


def test_newcomer_is_served_when_there_are_descriptors_again(start: StartServer) -> None:
    server = start("fault", workers=2)
    before, _ = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    prlimit(server.pid, 5)
    raw = Raw(server.socket)
    raw.ask("echo", "patient")
    server.wait_log("cannot accept connections")
    prlimit(server.pid, before)
    assert raw.receive().result == "patient"
    raw.close()


def test_admin_socket_without_descriptors(start: StartServer) -> None:
    """A caller of the admin socket that cannot be accepted does not make the master spin."""
    server = start("fault", workers=1)
    known = server.raw()
    assert known.call("echo", 1).ok
    before, _ = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    prlimit(server.pid, 5)
    with socket.socket(socket.AF_UNIX) as admin:
        admin.connect(server.socket + ".ctl")
        ticks = cpu_ticks(server.pid)
        known.call("sleep", 0.5)
        assert cpu_ticks(server.pid) - ticks < 25
    prlimit(server.pid, before)
    assert server.status()["server"]["state"] == "running"


def test_deaths_without_descriptors(start: StartServer) -> None:
    """Workers that die meanwhile cannot be replaced at once; they are as soon as it is possible."""
    server = start("fault", workers=2)
    server.expect_error("could not start|cannot be asked")
    known = server.raw()
    assert known.call("echo", 1).ok
    before, _ = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    prlimit(server.pid, 5)
    assert known.call("crash").reason == "ENGINE_CRASHED"
    server.wait_log("worker .*Too many open files")
    assert known.call("echo", "by the other one").result == "by the other one"
    prlimit(server.pid, before)
    server.wait_full_strength()
    assert known.call("echo", 1).result == 1


def test_descriptors_are_given_back(start: StartServer) -> None:
    """After connections, deaths, deadlines and refusals the master has the descriptors that it had."""
    server = start("fault", "--max-connections", "20", workers=3)
    server.wait_all_idle()
    before = settled_descriptors(server.pid)
    raws = [server.raw() for _ in range(20)]
    for i, raw in enumerate(raws):
        assert raw.call("echo", i).result == i
    assert server.raw().receive().reason == "TOO_MANY_CONNECTIONS"
    for raw in raws[:6]:
        assert raw.call("crash").reason == "ENGINE_CRASHED"
    assert raws[0].call("hang", meta={"timeout": 0.1}).reason == "DEADLINE"
    for raw in raws:
        raw.close()
    server.wait_full_strength()
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="all closed")
    wait_until(lambda: descriptors_of(server.pid) == before, what="the same descriptors")
