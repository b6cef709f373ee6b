from __future__ import annotations

import gc
import linecache
import sys
import threading
from queue import SimpleQueue
from time import monotonic_ns
from types import FrameType
from typing import Any, Callable

import pytest

from cohab import checkout as checkout_module
from cohab.checkout import Checkout, CheckoutClosed
from fakes import PATIENCE_S, wait_until


class Thing:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def soon() -> int:
    return monotonic_ns() + int(PATIENCE_S * 1e9)


def taken(checkout: Checkout[Thing]) -> Thing:
    thing = checkout.take(soon())
    assert thing is not None
    return thing


class Taker(threading.Thread):
    """Takes one thing and remembers it; `start` returns when it is in the queue."""

    def __init__(self, checkout: Checkout[Thing]) -> None:
        super().__init__(daemon=True)
        self.checkout = checkout
        self.thing: Thing | None = None
        self.closed = False

    def run(self) -> None:
        try:
            self.thing = self.checkout.take(soon())
        except CheckoutClosed:
            self.closed = True

    def begin(self) -> Taker:
        before = len(self.checkout._waiters)
        self.start()
        wait_until(lambda: len(self.checkout._waiters) > before, "the thread waits")
        return self

    def finish(self) -> Taker:
        self.join(PATIENCE_S)
        assert not self.is_alive(), "never got an answer"
        return self


def test_most_recently_used_comes_first() -> None:
    checkout = Checkout(Thing, 3)
    first, second = taken(checkout), taken(checkout)
    assert checkout.take_idle() is None
    checkout.put(first)
    checkout.put(second)
    assert checkout.counts() == (2, 0)
    assert checkout.take_idle() is second
    assert taken(checkout) is first
    assert checkout.counts() == (0, 2)


def test_limit_holds_and_time_runs_out() -> None:
    checkout = Checkout(Thing, 2)
    first, second = taken(checkout), taken(checkout)
    assert first is not second
    assert checkout.take(monotonic_ns() + 1000) is None
    assert not checkout._waiters
    checkout.put(first)
    assert taken(checkout) is first


def test_who_waits_longest_is_served_first_even_against_the_one_that_gives_back() -> None:
    checkout = Checkout(Thing, 1)
    thing = taken(checkout)
    first = Taker(checkout).begin()
    second = Taker(checkout).begin()
    checkout.put(thing)
    assert checkout.take_idle() is None
    assert first.finish().thing is thing
    assert second.is_alive()
    checkout.put(thing)
    assert second.finish().thing is thing


def test_a_discarded_thing_makes_room_for_a_new_one() -> None:
    checkout = Checkout(Thing, 1)
    thing = taken(checkout)
    waiting = Taker(checkout).begin()
    checkout.discard(thing)
    assert thing.closed
    fresh = waiting.finish().thing
    assert fresh is not None
    assert fresh is not thing


def test_a_lost_thing_does_not_count_for_ever() -> None:
    checkout = Checkout(Thing, 1)
    taken(checkout)
    assert taken(checkout) is not None


def test_close_wakes_those_who_wait_and_closes_what_comes_back() -> None:
    checkout = Checkout(Thing, 2)
    idle, busy = taken(checkout), taken(checkout)
    waiting = Taker(checkout).begin()
    checkout.close()
    assert waiting.finish().closed
    checkout.put(idle)
    assert idle.closed
    assert not busy.closed
    with pytest.raises(CheckoutClosed):
        checkout.take(soon())


@pytest.mark.parametrize("limit", [1, 2])
def test_a_waiter_that_is_interrupted_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """What it was given may be new, so nobody else must find it among those that can be used."""
    checkout = Checkout(Thing, limit)
    thing = taken(checkout)

    class Interrupted(SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:
            checkout.put(thing)
            raise KeyboardInterrupt

    monkeypatch.setattr("cohab.checkout.SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkout.take(soon())
    assert not checkout._waiters
    assert checkout.counts()[1] == 0, "the waiter's thing still counts"
    monkeypatch.undo()
    assert taken(checkout) is not None


def interrupt_at(number: int, action: Callable[[], None]) -> bool:
    """Run `action`, interrupted at the n-th line of the module under test; False if it has fewer lines.

    Not at a `with`: a tracer can raise before its lock is released, a signal handler cannot.
    """
    lines = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != checkout_module.__file__:
            return None
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event != "line" or text.strip().startswith("with "):
            return trace
        lines += 1
        if lines == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("give_back", ["put", "discard"])
def test_an_interrupt_does_not_keep_a_waiter_waiting(monkeypatch: pytest.MonkeyPatch, give_back: str) -> None:
    monkeypatch.setattr(checkout_module, "LOOK_AGAIN_S", 0.01, raising=False)
    number = 0
    interrupted = True
    while interrupted:
        number += 1
        checkout = Checkout(Thing, 1)
        things = [taken(checkout)]
        waiting = Taker(checkout).begin()
        interrupted = interrupt_at(number, lambda: getattr(checkout, give_back)(things.pop()))  # noqa: B023
        things.clear()
        gc.collect()  # what the interrupt has lost counts for as long as its traceback refers to it
        assert waiting.finish().thing is not None, f"interrupted at line {number}"
    assert number > 5


def test_a_signal_handler_may_take_and_give_back() -> None:
    """It runs between any two instructions, also of the thread that holds the lock."""
    used: list[Thing] = []

    def make() -> Thing:
        if not used:
            used.append(Thing())
            used.append(taken(checkout))
            checkout.put(used[1])
        return Thing()

    checkout = Checkout(make, 3)
    thread = threading.Thread(target=lambda: used.append(taken(checkout)), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert len(used) == 3


def test_nobody_starves_and_the_limit_holds_under_load() -> None:
    checkout = Checkout(Thing, 3)
    rounds, threads = 300, 12
    in_use: set[int] = set()
    most = 0
    lock = threading.Lock()
    done: list[int] = []

    def work() -> None:
        nonlocal most
        for number in range(rounds):
            thing = checkout.take_idle() or checkout.take(soon())
            assert thing is not None
            with lock:
                assert id(thing) not in in_use, "one thing was handed out twice"
                in_use.add(id(thing))
                most = max(most, len(in_use))
            with lock:
                in_use.discard(id(thing))
            if number % 10:
                checkout.put(thing)
            else:
                checkout.discard(thing)
        done.append(1)

    workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(PATIENCE_S)
    assert len(done) == threads
    assert most <= 3
