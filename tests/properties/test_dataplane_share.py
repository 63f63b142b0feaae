"""Laws of a service's share of a node's connections, and of which of them counts as idle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.dataplane.proxy.api import Limits
from worker.dataplane.proxy.share import Holders, share

IDLE_S = 30.0


@given(
    most=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=200),
)
def test_whatever_services_do_a_newcomer_finds_room_and_nobody_takes_more_than_is_left(
    most: int, steps: list[tuple[int, bool]]
) -> None:
    limits = Limits(max_connections=most)
    held = [0] * 5
    for service, opens in steps:
        left = most - sum(held)
        if not opens:
            held[service] -= held[service] > 0
        elif held[service] < share(limits, connections=sum(held)):
            held[service] += 1
            assert held[service] <= left
        else:
            assert held[service] >= left
        assert sum(held) <= most


@given(most=st.integers(1, 1000))
def test_a_service_by_itself_gets_half(most: int) -> None:
    limits = Limits(max_connections=most)
    held = 0
    while held < share(limits, connections=held):
        held += 1
    assert held == (most + 1) // 2


class FakeHolder:
    """A connection whose bytes a test moves."""

    def __init__(self) -> None:
        self.moved_bytes = 0
        self.last_moved_s = 0.0
        self.awaiting = False

    def total_bytes(self) -> int:
        return self.moved_bytes

    def awaits_answer(self) -> bool:
        return self.awaiting


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(("accept", "move", "await", "look", "wait")), st.integers(0, 30)), max_size=120
    )
)
def test_only_what_has_moved_nothing_for_so_long_is_idle_and_it_is_found_in_the_end(
    steps: list[tuple[str, int]],
) -> None:
    holders: Holders[FakeHolder] = Holders()
    present: list[FakeHolder] = []
    now_s = 0.0
    for what, number in steps:
        chosen = present[number % len(present)] if present else None
        if what == "accept":
            present.append(FakeHolder())
            present[-1].last_moved_s = now_s
            holders.add(present[-1], now_s)
        elif what == "wait":
            now_s += number
        elif what == "look":
            idle = holders.idle(now_s, IDLE_S)
            if idle is not None:
                assert now_s - idle.last_moved_s >= IDLE_S
                assert not idle.awaiting
                holders.remove(idle)
                present.remove(idle)
        elif chosen is not None and what == "move":
            chosen.moved_bytes += 1
            chosen.last_moved_s = now_s
        elif chosen is not None:
            chosen.awaiting = not chosen.awaiting
    for _ in present:  # each look is at some of them: now all have been seen
        holders.idle(now_s, IDLE_S * 1000)
    now_s += IDLE_S
    silent = {holder for holder in present if not holder.awaiting}
    while silent:
        idle = next(found for found in (holders.idle(now_s, IDLE_S) for _ in present) if found is not None)
        holders.remove(idle)
        silent.remove(idle)
    assert len(holders) == sum(holder.awaiting for holder in present)
