"""The tally of an update, and its trust in workers' clocks."""

from __future__ import annotations

import pytest

from manager.orchestrator.phase import STEADY, Phase, Standing
from manager.orchestrator.rollout import Rollout

NOW = 1000.0


@pytest.mark.parametrize(("since", "settled_at"), [(990.0, 990.0), (5000.0, NOW), (0.0, NOW)])
def test_what_was_done_before_this_leader_looked_counts_from_then_but_not_from_the_future(
    since: float, settled_at: float
) -> None:
    rollout = Rollout()
    rollout.put(1, Standing(Phase.DONE, "t1", since), NOW)
    assert rollout.settled_at == {1: settled_at}


def test_what_this_leader_saw_counts_by_its_own_clock() -> None:
    rollout = Rollout()
    rollout.put(1, Standing(Phase.SWITCHING, "t1", NOW), NOW)
    rollout.put(1, Standing(Phase.DONE, "t1", 5000.0), NOW + 1)
    rollout.put(1, Standing(Phase.DONE, "t1", 5000.0), NOW + 9)
    assert rollout.settled_at == {1: NOW + 1}
    rollout.put(1, Standing(Phase.SWITCHING, "t2", NOW + 10), NOW + 10)
    assert rollout.settled_at == {}


def test_a_slot_is_counted_where_it_stands_now() -> None:
    rollout = Rollout()
    for slot in (1, 2, 3):
        rollout.put(slot, Standing(Phase.OUTDATED, f"t{slot}"), NOW)
    rollout.put(4, STEADY, NOW)
    assert (rollout.total, rollout.slots(Phase.OUTDATED)) == (3, {1, 2, 3})
    rollout.put(2, Standing(Phase.FAILED, "t5", NOW, "exit code 1"), NOW)
    rollout.put(3, None, NOW)
    assert (rollout.total, rollout.slots(Phase.OUTDATED), rollout.slots(Phase.FAILED)) == (2, {1}, {2})
    assert rollout.of(2).task_id == "t5"
