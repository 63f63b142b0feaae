"""Rounds come from their seeds alone, and go through all faults."""

from __future__ import annotations

import pytest

from scripts.faults.plan import ALONE, EPISODES, OF_THE_NETWORK, Fault, Plan, draw


def faults(plan: Plan) -> list[Fault]:
    return [episode.fault for episodes in plan.episodes for episode in episodes]


def test_a_seed_is_a_round() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)


@pytest.mark.parametrize("first", [0, 12345])
def test_rounds_in_a_row_have_every_fault(first: int) -> None:
    rounds = -(-len(Fault) // EPISODES)
    assert {fault for seed in range(first, first + rounds) for fault in faults(draw(seed))} == set(Fault)


def test_what_is_not_possible_here_is_left_out() -> None:
    found = {fault for seed in range(20) for fault in faults(draw(seed, can_cut=False, can_fill=False))}
    assert found == set(Fault) - OF_THE_NETWORK - {Fault.FULL_DISK}


def test_there_are_three_or_five_managers() -> None:
    assert {draw(seed).managers for seed in range(50)} == {3, 5}
    assert {draw(seed, managers=5).managers for seed in range(50)} == {5}


def test_some_faults_come_at_once_and_some_never_do() -> None:
    groups = [[episode.fault for episode in group] for seed in range(100) for group in draw(seed).episodes]
    at_once = [group for group in groups if len(group) > 1]
    assert at_once
    assert not [group for group in at_once if ALONE & set(group)]
