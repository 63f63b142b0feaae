"""The event loop, turned by hand."""

from __future__ import annotations

import os
import signal
from functools import partial

from swarmpy.daemon.loop import READ, Loop


class Hand:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_timers_run_in_order_and_can_be_taken_back() -> None:
    hand = Hand()
    loop = Loop(hand)
    seen: list[str] = []
    loop.later(2.0, lambda: seen.append("b"))
    loop.later(1.0, lambda: seen.append("a"))
    loop.later(1.5, lambda: seen.append("never")).cancel()
    loop.later(2.0, lambda: seen.append("c"))
    loop.soon(lambda: seen.append("soon"))
    loop.turn()
    assert seen == ["soon"]
    hand.now_s += 2.0
    loop.turn()
    assert seen == ["soon", "a", "b", "c"]
    loop.close()


def test_the_end_of_a_turn_sees_all_that_came_in_it() -> None:
    loop = Loop()
    ends = [os.pipe() for _ in range(2)]
    seen: list[int] = []
    turns: list[list[int]] = []

    def take(read: int, _events: int) -> None:
        seen.extend(os.read(read, 1))

    for read, write in ends:
        loop.add(read, READ, partial(take, read))
        os.write(write, b"x")
    loop.each_turn(lambda: turns.append(list(seen)))
    loop.turn()
    assert turns == [[120, 120]]
    for read, write in ends:
        loop.remove(read)
        os.close(read)
        os.close(write)
    loop.close()


def test_a_signal_is_dealt_with_in_the_loop() -> None:
    loop = Loop()
    seen: list[str] = []
    loop.on_signal(signal.SIGUSR1, lambda: seen.append("usr1"))
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR1)
    assert seen == []
    loop.turn()
    assert seen == ["usr1"]
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_stop_ends_the_run_after_the_turn() -> None:
    loop = Loop()
    seen: list[str] = []
    loop.each_turn(lambda: seen.append("turn"))
    loop.soon(loop.stop)
    loop.run()
    assert seen == ["turn"]
    loop.close()
