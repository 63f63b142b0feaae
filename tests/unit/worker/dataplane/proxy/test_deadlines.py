"""The first-in first-out set of deadlines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.dataplane.proxy.deadlines import Deadlines


@given(
    arrivals=st.lists(st.floats(0, 100), max_size=20).map(sorted),
    leave=st.sets(st.integers(0, 19)),
    now_s=st.floats(0, 120),
)
def test_what_is_due_and_still_waits_expires_in_order(arrivals: list[float], leave: set[int], now_s: float) -> None:
    waiting: Deadlines[int] = Deadlines(10.0)
    for item, at_s in enumerate(arrivals):
        waiting.add(item, at_s)
    for item in leave:
        waiting.discard(item)
    due = [item for item, at_s in enumerate(arrivals) if at_s + 10.0 <= now_s and item not in leave]
    assert waiting.expired(now_s) == due
    assert list(waiting) == [item for item in range(len(arrivals)) if item not in leave and item not in due]
    assert waiting.expired(now_s) == []


def test_an_item_waits_once() -> None:
    waiting: Deadlines[str] = Deadlines(1.0)
    waiting.add("a", 0.0)
    assert "a" in waiting
    with pytest.raises(AssertionError):
        waiting.add("a", 0.5)
