"""A request is sent in the moment in which an idle worker is killed: it is answered, and waits for nobody."""

from __future__ import annotations

import signal
import time

import pytest
from conftest import StartServer
from harness import Server
from processes import children_of, signal_quietly, title_of, wait_until
from wire import ConnectionEnded

ROUNDS = 300
ANSWER_WITHIN = 3.0
NO_BIRTH = "could not start"  # the victim, a worker by its title, was not yet ready


class Asker:
    """Asks on one connection; where a kill has cost it the connection, on the next one."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.raw = server.raw(timeout=ANSWER_WITHIN)
        self.lost = 0

    def renew(self) -> None:
        self.lost += 1
        self.raw.close()
        self.raw = self.server.raw(timeout=ANSWER_WITHIN)

    def ask(self, value: int) -> None:
        try:
            self.msgid = self.raw.ask("echo", value)
        except (
            BrokenPipeError,
            ConnectionResetError,
        ):  # its last answer was complete, its worker died before it said so
            self.renew()
            self.msgid = self.raw.ask("echo", value)
        self.value = value

    def outcome(self) -> str:
        """The reason of the error that the request got, "closed", or the empty string. Never silence."""
        try:
            reply = self.raw.receive()
        except (ConnectionEnded, ConnectionResetError):
            self.renew()
            return "closed"
        assert reply.msgid == self.msgid
        if reply.error is None:
            assert reply.result == self.value
        assert reply.reason in ("", "ENGINE_CRASHED", "WORKER_LOST")
        return reply.reason


def kill_and_ask(asker: Asker, victim: int, turn: int, ask_first: bool) -> str:
    if ask_first:
        asker.ask(turn)
        signal_quietly(victim, signal.SIGKILL)
    else:
        signal_quietly(victim, signal.SIGKILL)
        asker.ask(turn)
    return asker.outcome()


def idle_workers(server: Server) -> list[int]:
    """From the titles: a call of `cohab status` for each round would take too long."""
    return [pid for pid in children_of(server.pid) if title_of(pid).endswith(" idle")]


def four_idle(server: Server) -> list[int]:
    idle = idle_workers(server)
    return idle if len(idle) == 4 else []


@pytest.mark.parametrize("workers", [1, 2, 8])
@pytest.mark.parametrize("ask_first", [True, False], ids=["ask, kill", "kill, ask"])
def test_request_and_kill_together(start: StartServer, workers: int, ask_first: bool) -> None:
    """Answered rightly or by one clear error, within seconds (the server's default time-out is 30 s)."""
    server = start("fault", workers=workers)
    server.expect_error(NO_BIRTH)
    asker = Asker(server)
    outcomes = []
    for turn in range(ROUNDS // 2):
        idle = wait_until(lambda: idle_workers(server), what="an idle worker")
        time.sleep(turn % 5 / 10000)  # vary how deep in its sleep the worker is
        outcomes.append(kill_and_ask(asker, idle[turn % len(idle)], turn, ask_first))
    assert outcomes.count("") > len(outcomes) // 2
    server.wait_full_strength()
    assert server.status()["connections"]["open"] == 1


def test_all_idle_workers_but_one_are_killed_with_a_burst(start: StartServer) -> None:
    """As many requests as connections, and kills of all but one worker, together: nothing is left waiting."""
    server = start("fault", workers=4)
    server.expect_error(NO_BIRTH)
    askers = [Asker(server) for _ in range(8)]
    kills = errors = 0
    for turn in range(60):
        idle = wait_until(lambda: four_idle(server), what="four idle workers")
        for asker in askers:
            asker.ask(turn)
        for pid in idle[1:]:
            signal_quietly(pid, signal.SIGKILL)
        kills += 3
        errors += sum(asker.outcome() != "" for asker in askers)
        assert errors <= kills
    assert errors + sum(asker.lost for asker in askers) <= 2 * kills
    server.wait_full_strength()


def test_connections_that_come_while_workers_die(start: StartServer) -> None:
    """A new connection each time: the kill can fall between the claim and the hand-out of the descriptor."""
    server = start("fault", workers=2)
    server.expect_error(NO_BIRTH)
    outcomes = []
    for turn in range(ROUNDS):
        idle = wait_until(lambda: idle_workers(server), what="an idle worker")
        asker = Asker(server)
        outcomes.append(kill_and_ask(asker, idle[-1], turn, ask_first=turn % 2 == 0))
        asker.raw.close()
    assert outcomes.count("") > ROUNDS // 2
    wait_until(lambda: server.status()["connections"]["open"] == 0, what="all are closed")
    server.wait_full_strength()


@pytest.mark.parametrize("spin", ["0", "200"])
def test_the_kernel_forgets_no_request_with_a_killed_worker(start: StartServer, spin: str) -> None:
    """The worker that would be woken is killed while many sleep, and no birth comes to look for work."""
    server = start("fault", "--spin-us", spin, workers=48)
    server.expect_error(NO_BIRTH)
    asker = Asker(server)
    for _ in range(4):
        server.wait_full_strength()
        forkserver = server.forkserver()
        signal_quietly(forkserver, signal.SIGSTOP)
        for turn in range(40):
            last_idle = asker.raw.call(
                "pid"
            ).result  # the kernel wakes the one that waits for the shortest time
            wait_until(lambda pid=last_idle: title_of(pid).endswith(" idle"), what="it is idle")  # type: ignore[misc]
            time.sleep(turn % 5 / 10000)
            kill_and_ask(asker, last_idle, turn, ask_first=turn % 2 == 0)
        signal_quietly(forkserver, signal.SIGCONT)
