"""When members stand whose leader is gone."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest

from manager.raft.succession import JITTER_S, stand_pauses_s


def test_the_first_by_id_stands_at_once_and_the_others_after_it() -> None:
    firsts = [next(stand_pauses_s(rank)) for rank in range(5)]
    assert firsts[0] == 0.0
    assert all(later - sooner > JITTER_S for sooner, later in pairwise(firsts))


@pytest.mark.parametrize("rank", range(5))
def test_attempts_become_rarer_and_end(rank: int) -> None:
    again = list(stand_pauses_s(rank))[1:]
    assert again == sorted(again)
    assert again[-1] > 10 * again[0]


def test_two_who_stand_at_once_draw_apart() -> None:
    """Whatever time the others take to answer, some attempt of the first has that long before the second's next."""
    first, second = ([*accumulate(stand_pauses_s(rank))] for rank in (0, 1))
    gaps = [min((b for b in second if b > a), default=a) - a for a in first]
    assert max(gaps) > 1.0
