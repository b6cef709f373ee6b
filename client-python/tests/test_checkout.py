from __future__ import annotations

import threading
from time import monotonic_ns

import pytest

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


def test_a_waiter_that_is_interrupted_leaves_the_queue_and_gives_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkout = Checkout(Thing, 1)
    thing = taken(checkout)

    def interrupted(self: threading.Event, timeout: float | None = None) -> bool:
        checkout.put(thing)  # it is given to the waiter, just before the interrupt
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Event, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkout.take(soon())
    assert not checkout._waiters
    assert checkout.take_idle() is thing


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
