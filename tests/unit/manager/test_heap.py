"""What is set aside costs collections nothing, and neither does the copy that a snapshot is made from."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from manager import heap
from manager.store.snapshot import Snapshot
from manager.store.state import State
from manager.store.tables import TASKS
from swarmpy.model.task import Task


class Ring:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_lives_is_not_looked_at_again() -> None:
    kept = [Ring() for _ in range(1000)]
    before = gc.get_freeze_count()
    heap.set_aside()
    assert gc.get_freeze_count() >= before + 1000
    assert len(kept) == 1000


def test_garbage_is_collected_and_not_set_aside() -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    del ring
    heap.set_aside()
    assert gone() is None


def test_the_copy_of_a_table_is_nothing_that_the_collector_looks_at() -> None:
    state = State()
    state.rows(TASKS).load([Task(id=f"t{number}", service_id="s", spec_version=1, slot=1) for number in range(100)])
    snapshot = Snapshot(state)
    copy = state.rows(TASKS).copy()
    assert snapshot.counts["tasks"] == len(copy) == 100
    assert not gc.is_tracked(copy)
