"""Who has fallen silent, and when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manager.dispatcher.heartbeats import Heartbeats


def test_three_beats_may_be_missed() -> None:
    beats = Heartbeats()
    beats.beat("a", 10.0, 2.0)
    assert beats.expired(15.9) == []
    assert beats.expired(16.0) == ["a"]
    assert beats.expired(99.0) == []


def test_a_beat_puts_the_deadline_off() -> None:
    beats = Heartbeats()
    beats.beat("a", 10.0, 2.0)
    beats.beat("a", 14.0, 2.0)
    assert beats.expired(16.0) == []
    assert beats.next_deadline_s() == 20.0
    assert beats.expired(20.0) == ["a"]


def test_a_node_that_is_forgotten_never_falls_silent() -> None:
    beats = Heartbeats()
    beats.beat("a", 10.0, 2.0)
    beats.forget("a")
    assert beats.expired(99.0) == []


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0, 3)), max_size=40))
def test_a_node_is_silent_exactly_after_its_last_deadline(steps: list[tuple[str, float]]) -> None:
    beats, deadlines, now_s = Heartbeats(), dict[str, float](), 0.0
    for node, pause_s in steps:
        now_s += pause_s
        assert set(beats.expired(now_s)) == {n for n, at in deadlines.items() if at <= now_s}
        deadlines = {n: at for n, at in deadlines.items() if at > now_s}
        beats.beat(node, now_s, 1.0)
        deadlines[node] = now_s + 3.0
