"""Laws of the rotation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.dataplane.proxy.rotation import Rotation

names = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


def ring(members: list[str]) -> Rotation[str]:
    made: Rotation[str] = Rotation()
    made.replace(members)
    return made


@given(earlier=st.lists(st.tuples(names, st.integers(0, 10)), max_size=4), members=names, rounds=st.integers(1, 4))
def test_each_window_hits_every_member_once(
    earlier: list[tuple[list[str], int]], members: list[str], rounds: int
) -> None:
    rotation = ring([])
    for before, picks in earlier:
        rotation.replace(before)
        for _ in range(picks):
            rotation.pick(0.0)
    rotation.replace(members)
    picked = [rotation.pick(0.0) for _ in range(rounds * len(members))]
    for start in range(len(picked) - len(members) + 1):
        assert sorted(filter(None, picked[start : start + len(members)])) == sorted(members)


@given(members=names, picks=st.integers(0, 10), joins=st.sampled_from("xyz"))
def test_a_new_member_waits_no_longer_than_one_round(members: list[str], picks: int, joins: str) -> None:
    rotation = ring(members)
    for _ in range(picks):
        rotation.pick(0.0)
    rotation.replace([*members, joins])
    assert joins in [rotation.pick(0.0) for _ in range(len(members) + 1)]


@given(members=names, gone=names)
def test_a_removed_member_is_never_picked(members: list[str], gone: list[str]) -> None:
    rotation = ring(members)
    rotation.replace([name for name in members if name not in gone])
    assert not {rotation.pick(0.0) for _ in range(10)} & set(gone)


@given(members=names.filter(bool), tried=names)
def test_tried_members_are_left_out(members: list[str], tried: list[str]) -> None:
    chosen = ring(members).pick(0.0, tried)
    assert (chosen is None) == (set(members) <= set(tried))
    assert chosen is None or (chosen in members and chosen not in tried)


def test_nothing_to_pick() -> None:
    assert ring([]).pick(0.0) is None


def test_a_resting_member_is_passed_over_until_its_time() -> None:
    rotation = ring(["a", "b", "c"])
    rotation.rest("b", 10.0)
    assert [rotation.pick(9.9) for _ in range(4)] == ["a", "c", "a", "c"]
    assert rotation.pick(10.0) == "b"


def test_resting_members_serve_when_nothing_else_is_left() -> None:
    rotation = ring(["a", "b"])
    rotation.rest("a", 10.0)
    rotation.rest("b", 10.0)
    assert [rotation.pick(0.0) for _ in range(4)] == ["a", "b", "a", "b"]


def test_rest_ends_when_a_member_leaves() -> None:
    rotation = ring(["a", "b"])
    rotation.rest("b", 10.0)
    rotation.replace(["a"])
    rotation.replace(["a", "b"])
    assert {rotation.pick(0.0), rotation.pick(0.0)} == {"a", "b"}


def test_resting_a_stranger_is_nothing() -> None:
    rotation = ring(["a"])
    rotation.rest("z", 10.0)
    assert rotation.pick(0.0) == "a"
