"""Ids in order, whatever was added and removed in between."""

from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from manager.store.paging import SortedIds


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 30)), max_size=200), st.integers(0, 30))
def test_pages_are_those_of_a_sorted_list(steps: list[tuple[bool, int]], start: int) -> None:
    live: dict[str, None] = {}
    order = SortedIds(live)
    for create, number in steps:
        name = f"{number:02}"
        if create and name not in live:
            live[name] = None
            order.added(name)
        elif not create and name in live:
            del live[name]
            order.removed()
        assert list(islice(order.after(f"{start:02}"), 5)) == sorted(x for x in live if x > f"{start:02}")[:5]


def test_many_new_ids_are_folded_in() -> None:
    live = {f"{number:05}": None for number in range(0, 10_000, 2)}
    order = SortedIds(live)
    assert next(order.after("")) == "00000"
    for number in range(1, 10_000, 2):
        live[f"{number:05}"] = None
        order.added(f"{number:05}")
    assert list(order.after("")) == [f"{number:05}" for number in range(10_000)]
