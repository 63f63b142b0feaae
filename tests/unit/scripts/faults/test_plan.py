"""Rounds come from their seeds alone, and go through all faults."""

from __future__ import annotations

import pytest

from scripts.faults.plan import EPISODES, OF_THE_NETWORK, Fault, draw


def test_a_seed_is_a_round() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize("first", [0, 12345])
def test_rounds_in_a_row_have_every_fault(first: int) -> None:
    rounds = -(-len(Fault) // EPISODES)
    assert {episode.fault for seed in range(first, first + rounds) for episode in draw(seed).episodes} == set(Fault)


def test_what_is_not_possible_here_is_left_out() -> None:
    found = {e.fault for seed in range(20) for e in draw(seed, can_cut=False, can_fill=False).episodes}
    assert found == set(Fault) - OF_THE_NETWORK - {Fault.FULL_DISK}


def test_there_are_three_or_five_managers() -> None:
    assert {draw(seed).managers for seed in range(50)} == {3, 5}
    assert {draw(seed, managers=5).managers for seed in range(50)} == {5}
