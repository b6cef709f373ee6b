"""The embedded server: found, started, used, stopped, whatever happens to its owner."""

from __future__ import annotations

import logging
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

import cohab
from cohab import server as server_module
from fakes import wait_until

MakePool = Callable[..., cohab.Pool]


@pytest.fixture
def program(directory: Path) -> Path:
    """A program `cohabd` in a directory of its own that runs the fake one."""
    path = directory / "bin" / "cohabd"
    path.parent.mkdir()
    fake = Path(__file__).with_name("fake_cohabd.py")
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def make_pool(program: Path) -> Iterator[MakePool]:
    pools: list[cohab.Pool] = []

    def make(engine: str = "echo", **options: Any) -> cohab.Pool:
        pools.append(cohab.Pool(engine, **{"cohabd": program, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def runs(pid: int) -> bool:
    """Whether a process that may be nobody's child any more still runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def leftovers(base: Path) -> list[str]:
    return sorted(path.name for path in base.glob("cohab-*"))


# ---- a life


def test_pool_serves_when_it_is_made_and_leaves_nothing_behind(make_pool: MakePool) -> None:
    with make_pool() as pool:
        place = Path(pool.path).parent
        assert runs(pool.pid)
        assert pool.call("echo", 1) == [1]
        assert list(pool.map("echo", [1, 2])) == [[1], [2]]
        assert pool.ping("x") == ["x"]
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert repr(pool).startswith(f"<cohab.Pool {pool.path}: server {pool.pid}, connections: 0 in use")
    assert not runs(pool.pid)
    assert not place.exists()
    assert repr(pool) == f"<cohab.Pool {pool.path}: closed>"
    with pytest.raises(cohab.Unavailable, match="is closed"):
        pool.call("echo")
    pool.close()


def test_command_line(make_pool: MakePool) -> None:
    pool = make_pool(
        workers=3,
        args=["en_US", "--odd"],
        max_frame=1000,
        default_timeout=2.5,
        max_timeout=60,
        kill_grace=0.25,
        io_timeout=0.75,
        spin_us=20,
        stop_timeout=9,
        log_level="debug",
    )
    argv = pool.call("argv")
    assert argv[0] == "--lifeline-fd"
    assert argv[2:] == [
        "--remove-directory",
        *["--socket", pool.path, "--workers", "3", "--max-frame", "1000", "--default-timeout", "2.5"],
        *[
            "--max-timeout",
            "60",
            "--kill-grace",
            "0.25",
            "--io-timeout",
            "0.75",
            "--spin-us",
            "20",
            "--stop-timeout",
            "9",
        ],
        *["--log-level", "debug", "echo", "--", "en_US", "--odd"],
    ]


def test_defaults_are_left_to_the_server(make_pool: MakePool) -> None:
    pool = make_pool()
    assert pool.call("argv")[2:] == ["--remove-directory", "--socket", pool.path, "echo"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"crash_dir": Path("/somewhere")}, ["--crash-dir", "/somewhere"]),
        ({"crash_keep": 0, "crash_keep_size": "10M"}, ["--crash-keep", "0", "--crash-keep-size", "10M"]),
        ({"crash_params": False}, ["--crash-params", "off"]),
        ({"crash_params": True}, ["--crash-params", "on"]),
        ({"max_memory": 1 << 30, "slow_stack": 0.5}, ["--max-memory", "1073741824", "--slow-stack", "0.5"]),
        ({"quarantine_after": 3}, ["--quarantine-after", "3"]),
        (
            {"log_file": Path("/x/log"), "log_format": "json"},
            ["--log-file", "/x/log", "--log-format", "json"],
        ),
        ({"log_requests": True, "slow": 0.5}, ["--log-requests", "--slow", "0.5"]),
        ({"cancel_kill": 1.5}, ["--cancel-kill", "1.5"]),
        ({"core": True, "quarantine_timeouts": True}, ["--core", "--quarantine-timeouts"]),
        ({"core": False, "quarantine_timeouts": False}, []),
    ],
)
def test_options_about_crashes(make_pool: MakePool, options: dict[str, Any], words: list[str]) -> None:
    pool = make_pool(**options)
    assert pool.call("argv")[2:] == ["--remove-directory", "--socket", pool.path, *words, "echo"]


def test_margin_grows_with_the_kill_grace(make_pool: MakePool) -> None:
    assert make_pool(kill_grace=3)._margin_ns == 6_500_000_000
    assert make_pool()._margin_ns == 1_000_000_000


def test_server_is_in_a_session_of_its_own(make_pool: MakePool) -> None:
    assert os.getsid(make_pool().pid) != os.getsid(0)


def test_server_writes_to_the_log(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cohab.server"):
        make_pool().close()
    assert caplog.messages == [
        "fake: loading echo",
        "fake: serving",
        "worker 1 died",
        "worker 2: a b cohabd[1] error lies",  # what an engine prints does not choose its level
        "fake: stopped",
    ]
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "WARNING", "INFO", "INFO"]
    assert {record.name for record in caplog.records} == {"cohab.server"}


def test_server_that_ends_by_itself_is_missed(make_pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    pool = make_pool()
    with pytest.raises(cohab.Unavailable):
        pool.call("exit")
    wait_until(lambda: "ended by itself (exit status 3)" in caplog.text, "the log says so")
    with pytest.raises(cohab.Unavailable, match=r"own server has ended \(exit status 3\)"):
        pool.call("echo")


# ---- what makes no sense


@pytest.mark.parametrize("args", ["en_US", b"en_US"])
def test_args_are_no_string(program: Path, args: Any) -> None:
    with pytest.raises(cohab.InvalidArgument, match="sequence"):
        cohab.Pool("echo", args=args, cohabd=program)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), None, "5"])
def test_startup_timeout_is_a_positive_time(program: Path, seconds: Any) -> None:
    with pytest.raises(cohab.InvalidArgument, match="startup_timeout must be"):
        cohab.Pool("echo", cohabd=program, startup_timeout=seconds)


# ---- a server that does not come up


def test_servers_own_words_are_in_the_error(
    make_pool: MakePool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    with pytest.raises(cohab.StartError, match="cannot load broken: no such dictionary") as info:
        make_pool("broken")
    assert "exit status 1" in str(info.value)
    assert isinstance(info.value, cohab.Unavailable)
    assert (info.value.reason, info.value.executed) == ("START_FAILED", False)
    assert leftovers(directory) == []


def test_server_that_never_serves(
    make_pool: MakePool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    with pytest.raises(cohab.StartError, match="startup_timeout"):
        make_pool("slow", startup_timeout=0.2)
    assert leftovers(directory) == []


def test_pings_of_a_starting_server_are_short(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and never answers: neither a whole ping nor the pool's margin is added."""
    limits: list[tuple[float, int]] = []
    genuine = cohab.Client.ping

    def ping(self: cohab.Client, *params: Any, timeout: float | None = None) -> Any:
        assert timeout is not None
        limits.append((timeout, self._margin_ns))
        return genuine(self, *params, timeout=timeout)

    monkeypatch.setattr(cohab.Client, "ping", ping)
    with pytest.raises(cohab.StartError, match="startup_timeout"):
        make_pool("slow", startup_timeout=0.2, kill_grace=60)
    assert all(0 < timeout <= 0.2 and margin_ns <= 100_000_000 for timeout, margin_ns in limits)


@pytest.mark.parametrize("closed", ["0<&-", "0<&- 1>&-", "0<&- 1>&- 2>&-"])
def test_pool_where_standard_descriptors_are_closed(program: Path, directory: Path, closed: str) -> None:
    script = directory / "owner.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(Path(cohab.__file__).parents[1])!r})\n"
        "import cohab\n"
        f"with cohab.Pool('echo', cohabd={str(program)!r}, startup_timeout=10) as pool:\n"
        f"    open({str(directory / 'out')!r}, 'w').write(str(pool.call('echo', 1)))\n"
    )
    subprocess.run(["/bin/sh", "-c", f"exec {sys.executable} {script} {closed}"], check=False, timeout=60)
    assert (directory / "out").exists()
    assert (directory / "out").read_text() == "[1]"


def test_program_that_cannot_run(make_pool: MakePool, directory: Path, program: Path) -> None:
    program.write_text("#!/no/such/interpreter\n")
    with pytest.raises(cohab.StartError, match=r"cannot run .*cohabd"):
        make_pool()


def test_bad_option_leaves_no_directory(
    make_pool: MakePool, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    with pytest.raises(cohab.InvalidArgument, match="max_connections"):
        make_pool(max_connections=0)
    assert leftovers(directory) == []


# ---- finding the program


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHABD", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")


@pytest.mark.usefixtures("nowhere")
def test_program_not_found_says_where_it_looked() -> None:
    with pytest.raises(cohab.StartError) as info:
        cohab.Pool("echo")
    package = Path(cohab.__file__).parent
    for place in ("cohabd=", "$COHABD", str(package / "bin"), "cohab_server/bin", "PATH (/nonexistent)"):
        assert place in str(info.value)


@pytest.mark.usefixtures("nowhere")
def test_order_of_the_search(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def install(name: str) -> Path:
        path = directory / name / "cohabd"
        path.parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    package = directory / "site" / "cohab"
    monkeypatch.setattr(server_module, "__file__", str(package / "server.py"))
    on_path = install("path")
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert server_module.find_program(None) == str(on_path)
    beside = install("site/cohab_server/bin")
    assert server_module.find_program(None) == str(beside)
    inside = install("site/cohab/bin")
    assert server_module.find_program(None) == str(inside)
    named = install("named")
    monkeypatch.setenv("COHABD", str(named))
    assert server_module.find_program(None) == str(named)
    assert server_module.find_program(on_path) == str(on_path)


def test_program_that_was_named_is_not_replaced_by_another(
    monkeypatch: pytest.MonkeyPatch, program: Path
) -> None:
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("COHABD", "/no/such/cohabd")
    with pytest.raises(cohab.StartError, match=r"\$COHABD.*/no/such/cohabd"):
        cohab.Pool("echo")


# ---- the directory


def test_directory_that_is_not_absolute_is_passed_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    (directory / "run").mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(directory))
    place = server_module.make_private_directory()
    assert os.path.isabs(place)
    assert leftovers(directory / "run") == []


def test_directory_with_a_long_name_is_passed_over(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = directory / ("x" * 90)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(directory))
    place = server_module.make_private_directory()
    assert Path(place).parent == directory
    monkeypatch.setattr("tempfile.gettempdir", lambda: "/nonexistent")
    fallback = server_module.make_private_directory()
    assert Path(fallback).parent == Path("/tmp")
    os.rmdir(fallback)


# ---- who stops it, and when


def test_server_that_does_not_stop_is_killed(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "STOP_MARGIN", 0.1)
    pool = make_pool("stubborn", stop_timeout=0.1)
    pool.close()
    assert not runs(pool.pid)
    assert "did not stop in time" in caplog.text
    assert not Path(pool.path).parent.exists()


def test_collected_pool_stops_its_server(program: Path) -> None:
    pools = [cohab.Pool("echo", cohabd=program)]
    pools[0].ping()
    pid = pools[0].pid
    with pytest.warns(ResourceWarning, match="unclosed"):
        pools.clear()
    assert not runs(pid)


def test_child_uses_the_pool_and_does_not_stop_it(make_pool: MakePool) -> None:
    pool = make_pool()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with pool:
                status = 0 if pool.call("echo", "child") == ["child"] else 1
            pool._finalizer()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert Path(pool.path).exists()
    assert pool.call("echo", "parent") == ["parent"]
    assert runs(pool.pid)


OWNER = """
    import os, sys, cohab
    pool = cohab.Pool("echo", cohabd={program!r})
    print(pool.pid, flush=True)
    {then}
"""


def owner(program: Path, then: str) -> subprocess.Popen[str]:
    """A process that starts a pool, prints its server's pid and then runs one line more."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER).format(program=str(program), then=then)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_server_stops_at_exit_of_its_owner(program: Path) -> None:
    with owner(program, "sys.exit(0)") as process:
        assert process.stdout is not None
        server_pid = int(process.stdout.readline())
        assert process.wait() == 0
    assert not runs(server_pid)


def test_exit_of_a_child_does_not_stop_the_server(program: Path) -> None:
    then = "(os.fork() or sys.exit(0)); os.wait(); print(pool.call('echo', 1), flush=True); sys.stdin.read()"
    with owner(program, then) as process:
        assert process.stdout is not None
        int(process.stdout.readline())
        assert process.stdout.readline() == "[1]\n"


def test_server_notices_that_its_owner_was_killed_although_a_child_lives_on(program: Path) -> None:
    then = "child = os.fork() or os.read(0, 1); print(child, flush=True); os.read(0, 1)"
    with owner(program, then) as process:
        assert process.stdout is not None
        server_pid, child_pid = int(process.stdout.readline()), int(process.stdout.readline())
        process.kill()
        process.wait()
        wait_until(lambda: not runs(server_pid), "the server stops")
        assert runs(child_pid)
        os.kill(child_pid, signal.SIGKILL)
