"""The Python client and its Pool with the real server: threads, processes, restarts."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import cohab
import pytest
from conftest import StartServer
from harness import COHABD, Gate, engine_path
from processes import children_of, is_alive, session_members, state_of, wait_until

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def make_pool() -> Iterator[Callable[..., cohab.Pool]]:
    """make_pool(engine, **options): a Pool that is closed at the end; nothing of it may be left."""
    pools: list[cohab.Pool] = []

    def make(engine: str = "fault", **options: Any) -> cohab.Pool:
        options.setdefault("workers", 2)
        pools.append(cohab.Pool(engine_path(engine), cohabd=COHABD, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()
    for pool in pools:
        wait_until(lambda pid=pool.pid: not session_members(pid), what="an empty session")  # type: ignore[misc]
        assert not Path(pool.path).parent.exists()


# ---- threads and processes


def test_many_threads(start: StartServer) -> None:
    server = start("echo", workers=4)
    client = server.client(max_connections=8)

    def work(number: int) -> int:
        for i in range(200):
            value = {"thread": number, "turn": i, "bytes": os.urandom(i)}
            assert client.call("echo", value) == value
        return number

    with ThreadPoolExecutor(24) as threads:
        assert list(threads.map(work, range(24))) == list(range(24))
    assert server.status()["connections"]["open"] <= 8
    assert server.status()["connections"]["accepted"] <= 9  # and the ping that found it serving


def child_work(client: cohab.Client, number: int, results: Any) -> None:
    try:
        for i in range(100):
            assert client.call("echo", [number, i, os.getpid()]) == [number, i, os.getpid()]
        results.put((number, "fine"))
    except BaseException as error:
        results.put((number, repr(error)))


def test_many_forked_processes_with_the_parent_s_client(start: StartServer) -> None:
    server = start("echo", workers=2)
    client = server.client()
    assert client.call("echo", 1) == 1
    results = FORK.Queue()
    children = [FORK.Process(target=child_work, args=(client, n, results)) for n in range(8)]
    for child in children:
        child.start()
    for i in range(200):
        assert client.call("echo", ["parent", i]) == ["parent", i]
    assert sorted(results.get(timeout=30) for _ in children) == [(n, "fine") for n in range(8)]
    for child in children:
        child.join(10)
        assert child.exitcode == 0
    assert client.call("echo", 1) == 1


def test_fork_while_threads_call(start: StartServer) -> None:
    """Threads of the parent are in the middle of calls: the child's calls are its own."""
    server = start("echo", workers=2)
    client = server.client()
    stop = threading.Event()
    wrong: list[Any] = []

    def work(number: int) -> None:
        i = 0
        while not stop.is_set():
            i += 1
            if client.call("echo", [number, i]) != [number, i]:
                wrong.append((number, i))

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(10):
            pid = os.fork()
            if pid == 0:
                good = False
                try:
                    good = all(client.call("echo", [turn, i]) == [turn, i] for i in range(20))
                finally:
                    os._exit(0 if good else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_map(start: StartServer) -> None:
    client = start("echo", workers=4).client()
    assert list(client.map("echo", range(500))) == list(range(500))
    assert list(client.map("echo", [])) == []
    with pytest.raises(cohab.InvalidArgument):
        list(client.map("sleep", [0, "long", 0]))
    assert client.call("echo", 1) == 1


def test_map_that_is_left_early(start: StartServer) -> None:
    client = start("echo", workers=2).client()
    taken = []

    def numbers() -> Iterator[int]:
        for i in range(10**9):
            taken.append(i)
            yield i

    results = client.map("echo", numbers())
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 100
    assert client.call("echo", 1) == 1


# ---- errors


def test_errors_can_be_pickled(start: StartServer) -> None:
    client = start("fault").client()
    for method, params in [("crash", ()), ("fail", (5, "WHY", "text")), ("nothing", ()), ("exit", (3,))]:
        with pytest.raises(cohab.Error) as caught:
            client.call(method, *params)
        copy = pickle.loads(pickle.dumps(caught.value))
        assert type(copy) is type(caught.value)
        for name in ("code", "reason", "message", "details", "executed", "retry", "method"):
            assert getattr(copy, name) == getattr(caught.value, name)
        assert str(copy) == str(caught.value)


def test_deadline_covers_waiting_in_the_queue(start: StartServer) -> None:
    server = start("fault", workers=1)
    client = server.client()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(client.call, "sleep", 0.6)
        wait_until(lambda: server.workers("busy"), what="the call runs")
        with pytest.raises(cohab.DeadlineExceeded) as caught:
            client.call("echo", 1, timeout=0.1)
        assert caught.value.reason == "QUEUE_TIMEOUT"
        assert not caught.value.executed
        assert running.result() is None


def test_stopped_server_does_not_hang_the_client(start: StartServer) -> None:
    server = start("echo", workers=1)
    client = server.client(timeout=0.3)
    assert client.call("echo", 1) == 1
    tree = server.tree()
    for pid in tree:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state_of(pid) == "T" for pid in tree), what="a stopped server")
    with pytest.raises(cohab.DeadlineExceeded):
        client.call("echo", 2)
    for pid in tree:
        os.kill(pid, signal.SIGCONT)
    assert client.call("echo", 3) == 3


def test_connection_after_an_error_that_closes_it(start: StartServer) -> None:
    """The server closes behind such an error: an innocent call must not be sent into that connection."""
    client = start("echo", workers=2).client()
    deep: Any = 1
    for _ in range(31):
        deep = [deep]
    for i in range(300):
        with pytest.raises(cohab.InvalidArgument):
            client.call("echo", deep)
        assert client.call("echo", i) == i


# ---- restarts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restarted_server(start: StartServer, number: int) -> None:
    """Idle connections are stale then: each thread goes on without an error."""
    server = start("echo", workers=2)
    client = server.client(max_connections=8)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            assert list(threads.map(lambda i: client.call("sleep", 0.02) or i, range(16))) == list(range(16))
            server.stop(number)
            wait_until(lambda: not server.tree(), what="the workers are gone too")
            server.start("echo", workers=2)
            assert list(threads.map(lambda i: client.call("echo", i), range(50))) == list(range(50))


def test_server_that_is_not_there(start: StartServer) -> None:
    server = start("echo")
    client = server.client()
    assert client.call("echo", 1) == 1
    assert server.stop() == 0
    for _ in range(3):
        with pytest.raises(cohab.Unavailable) as caught:
            client.call("echo", 1)
        assert not caught.value.executed
        assert caught.value.retry
    server.start("echo")
    assert client.call("echo", 1) == 1


def test_server_killed_in_mid_call(start: StartServer) -> None:
    """Master and workers are gone: the call may have been executed."""
    server = start("fault", workers=1)
    client = server.client()
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(client.call, "sleep", 30.0)
        wait_until(lambda: server.workers("busy"), what="the call runs")
        for pid in server.tree():
            os.kill(pid, signal.SIGKILL)
        error = running.exception(10)
    assert isinstance(error, cohab.Unavailable)
    assert error.executed
    assert not error.retry
    server.wait_end()
    server.start("fault")
    assert client.call("echo", 1) == 1


# ---- Pool


def test_pool(make_pool: Callable[..., cohab.Pool]) -> None:
    pool = make_pool("spell", args=["en_US"])
    assert pool.call("check", "receive") is True
    assert [s[:1] != [] for s in pool.map("suggest", ["recieve", "wrod"])] == [True, True]
    pid = pool.pid
    assert is_alive(pid)
    pool.close()
    assert not is_alive(pid)
    with pytest.raises(cohab.Unavailable):
        pool.call("check", "receive")


def test_pool_again_and_again(make_pool: Callable[..., cohab.Pool]) -> None:
    before = children_of(os.getpid())
    for i in range(10):
        with make_pool("echo") as pool:
            assert pool.call("echo", i) == i
    assert children_of(os.getpid()) == before


def test_pools_side_by_side(make_pool: Callable[..., cohab.Pool]) -> None:
    pools = [make_pool("fault", workers=1) for _ in range(4)]
    pids = [pool.call("pid") for pool in pools]
    assert len(set(pids)) == 4
    pools[0].close()
    assert [pool.call("pid") for pool in pools[1:]] == pids[1:]


def test_pool_that_does_not_come_up() -> None:
    for engine, args, words in [
        ("spell", ["xx_XX"], "xx_XX"),
        ("fault", ["load-crash"], "SIGSEGV"),
        ("fault", ["start-fail"], "failed on demand"),
    ]:
        with pytest.raises(cohab.StartError) as caught:
            cohab.Pool(engine_path(engine), cohabd=COHABD, args=args)
        assert words in str(caught.value)


def test_reports_of_a_pool_outlive_it(
    make_pool: Callable[..., cohab.Pool], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(directory / "state"))
    if os.getuid() == 0:  # whose place would be /var/lib/cohab
        monkeypatch.setenv("STATE_DIRECTORY", str(directory / "state"))
    with make_pool() as pool:
        place = Path(pool.crash_dir or "")
        assert place.is_relative_to(directory / "state")
        with pytest.raises(cohab.EngineCrashed) as info:
            pool.call("crash")
        assert str(info.value).splitlines()[0].endswith(f"(report {info.value.report})")
    assert (place / f"{info.value.report}.crash").is_file()


def test_a_pool_s_own_crash_dir(make_pool: Callable[..., cohab.Pool], directory: Path) -> None:
    with make_pool(crash_dir=directory, crash_keep=5, crash_keep_size="10M", crash_params=False) as pool:
        assert pool.crash_dir == str(directory)
        with pytest.raises(cohab.EngineCrashed) as info:
            pool.call("crash")
    assert (directory / f"{info.value.report}.crash").is_file()


def test_a_pool_without_reports(make_pool: Callable[..., cohab.Pool], directory: Path) -> None:
    pool = make_pool(crash_dir=directory, crash_keep=0)
    assert pool.crash_dir is None
    with pytest.raises(cohab.EngineCrashed) as info:
        pool.call("crash")
    assert (info.value.signal, info.value.report) == ("SIGSEGV", None)
    assert list(directory.iterdir()) == []


def test_a_deadline_of_a_pool_tells_where_it_was(
    make_pool: Callable[..., cohab.Pool], directory: Path
) -> None:
    pool = make_pool(crash_dir=directory, slow_stack=5, max_memory="1G", quarantine_timeouts=True)
    for _ in range(2):
        with pytest.raises(cohab.DeadlineExceeded) as info:
            pool.call("spin_forever", timeout=0.1)
        assert info.value.signal is None
        assert (directory / f"{info.value.report}.crash").is_file()
    with pytest.raises(cohab.Quarantined) as refused:
        pool.call("spin_forever", timeout=0.1)
    assert len(refused.value.reports) == 2
    assert refused.value.reports[-1] == info.value.report


def test_what_the_engine_of_a_pool_prints(
    make_pool: Callable[..., cohab.Pool], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="cohab.server"), make_pool(workers=1) as pool:
        pool.call("stderr", "first\nsecond\n")
    assert [m for m in caplog.messages if m.startswith("worker 1: ")] == [
        "worker 1: first",
        "worker 1: second",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_pool_whose_owner_is_killed_leaves_nothing(tmp_path: Path, number: int) -> None:
    script = (
        "import os, sys, cohab\n"
        "pool = cohab.Pool(sys.argv[1], cohabd=sys.argv[2], workers=1)\n"
        "print(pool.path, pool.pid, flush=True)\n"
        f"os.kill(os.getpid(), {int(number)})\n"
    )
    command = [sys.executable, "-c", script, engine_path("echo"), str(COHABD)]
    environment = os.environ | {"XDG_RUNTIME_DIR": str(tmp_path), "TMPDIR": str(tmp_path)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=environment)
    path, pid = result.stdout.split()
    assert result.returncode == -number
    wait_until(lambda: not is_alive(int(pid)), what="the server's end")
    assert not Path(path).parent.exists()


def test_a_call_that_no_worker_takes(start: StartServer, gate: Gate) -> None:
    """It ends at its deadline, certainly not executed, and is not executed later."""
    server = start("fault", workers=1)
    raw = server.raw()
    raw.ask("block", gate.path, "held")
    gate.wait_started(1)
    client = server.client()
    with pytest.raises(cohab.DeadlineExceeded) as info:
        client.call("block", gate.path, "late", timeout=0.2)
    assert (info.value.reason, info.value.executed, info.value.retry) == ("QUEUE_TIMEOUT", False, True)
    result = server.cli("call", "--timeout", "0.2", "block", gate.path, "late")
    assert (result.returncode, "no worker" in result.stderr) == (1, True)
    gate.release("held")
    assert raw.receive().ok
    assert client.call("echo", 1) == 1
    assert gate.names() == ["held"]


def test_pool_whose_engine_loads_for_too_long() -> None:
    with pytest.raises(cohab.StartError) as caught:
        cohab.Pool(
            engine_path("fault"), cohabd=COHABD, args=["load-hang"], startup_timeout=0.5, stop_timeout=1
        )
    assert "0.5" in str(caught.value)


def test_pool_in_forked_children(make_pool: Callable[..., cohab.Pool]) -> None:
    """They can use it, and only its creator stops it."""
    pool = make_pool("echo")
    assert pool.call("echo", 1) == 1
    results = FORK.Queue()
    children = [FORK.Process(target=child_work, args=(pool, n, results)) for n in range(4)]
    for child in children:
        child.start()
    assert sorted(results.get(timeout=30) for _ in children) == [(n, "fine") for n in range(4)]
    for child in children:
        child.join(10)
    assert pool.call("echo", 2) == 2


OWNER = """
import sys, time
import cohab
pool = cohab.Pool({engine!r}, cohabd={cohabd!r}, workers=2)
pool.call("echo", 1)
print(pool.pid, pool.path, flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("then", "exit_code"),
    [
        ("time.sleep(60)", -signal.SIGKILL),
        ("import os; os.fork(); time.sleep(3)", -signal.SIGKILL),
        ("", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os._exit(4)", 4),
    ],
    ids=["SIGKILL", "SIGKILL with a child", "end", "SystemExit", "_exit"],
)
def test_owner_of_a_pool_ends(then: str, exit_code: int) -> None:
    """However it ends, the server goes away, and takes its socket with it."""
    script = OWNER.format(engine=engine_path("fault"), cohabd=str(COHABD), then=then)
    owner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    words = owner.stdout.readline().split()
    assert words, "the owner's pool did not start"
    pid, path = int(words[0]), Path(words[1])
    if exit_code == -signal.SIGKILL:
        assert is_alive(pid)
        owner.kill()
    assert owner.wait(20) == exit_code
    owner.stdout.close()
    wait_until(lambda: not session_members(pid), what="the server is gone")
    assert not path.exists()


def test_pool_whose_server_is_killed(make_pool: Callable[..., cohab.Pool]) -> None:
    pool = make_pool("fault")
    assert pool.call("echo", 1) == 1
    os.kill(pool.pid, signal.SIGKILL)
    wait_until(lambda: not session_members(pool.pid), what="its workers leave")
    begin = time.monotonic()
    with pytest.raises(cohab.Unavailable):
        pool.call("echo", 1)
    assert time.monotonic() - begin < 10
