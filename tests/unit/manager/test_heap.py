"""What is set aside costs collections nothing, and is not forgotten either."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from manager.heap import WHOLE_SHARE, Heap
from tests.support.clock import FakeClock


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


class SlowClock(FakeClock):
    """A clock by which each look at it takes `look_s`."""

    def __init__(self) -> None:
        super().__init__()
        self.look_s = self.later_s = 0.0

    def monotonic(self) -> float:
        self.later_s += self.look_s
        return super().monotonic() + self.later_s


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_lives_is_not_looked_at_again() -> None:
    before = gc.get_freeze_count()
    kept = [Ring() for _ in range(1000)]
    with Heap(FakeClock()).set_aside():
        kept += [Ring() for _ in range(1000)]
    assert gc.get_freeze_count() >= before + 2000
    assert len(kept) == 2000


def test_what_died_since_is_found_at_the_next_look_at_the_whole() -> None:
    clock = SlowClock()
    heap = Heap(clock)
    ring = Ring()
    gone = weakref.ref(ring)
    clock.look_s = 0.01
    heap.settle()
    clock.look_s = 0.0
    del ring
    heap.settle()
    assert gone() is not None, "the last look at the whole was too lately"
    clock.later_s += 0.01 / WHOLE_SHARE + 1
    heap.settle()
    assert gone() is None


def test_garbage_that_came_since_is_collected_at_once() -> None:
    heap = Heap(FakeClock())
    heap.settle()
    ring = Ring()
    gone = weakref.ref(ring)
    del ring
    with heap.set_aside():
        assert gone() is None
