"""The draining watermark, against its definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manager.dispatcher.drain import Watermark

NODES = st.sampled_from("abc")
TASKS = st.frozensets(st.sampled_from("123"), max_size=3)
STEPS = st.lists(st.one_of(st.tuples(NODES, st.integers(0, 9), TASKS), NODES), max_size=20)


@given(STEPS)
def test_it_is_the_least_revision_and_the_union_of_busy(steps: list[tuple[str, int, frozenset[str]] | str]) -> None:
    watermark = Watermark()
    said: dict[str, tuple[int, frozenset[str]]] = {}
    for step in steps:
        before = {t for t in "123" if watermark.is_busy(t)}
        if isinstance(step, str):
            changed = watermark.leave(step)
            said.pop(step, None)
        else:
            node, revision, busy = step
            changed = watermark.report(node, revision, busy)
            said[node] = (revision, busy)
        after = {t for t in "123" if watermark.is_busy(t)}
        assert after == set().union(*(busy for _, busy in said.values()))
        assert before ^ after <= changed
        assert watermark.settled(99) == min((revision for revision, _ in said.values()), default=99)
