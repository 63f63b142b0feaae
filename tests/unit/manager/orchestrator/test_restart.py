"""What follows a task that ended by itself."""

from __future__ import annotations

import pytest

from manager.orchestrator.restart import Restart, calls_for_restart, ended_by_itself, is_settled, restart, served_s
from swarmpy.model.spec import RestartPolicy
from swarmpy.model.states import RestartCondition, TaskState
from swarmpy.model.task import Task

NOW = 5000.0


def ended(state: TaskState = TaskState.FAILED, **fields: object) -> Task:
    known = {
        "created_at": NOW - 20,
        "id": "t1",
        "service_id": "web",
        "spec_version": 1,
        "slot": 1,
        "state": state,
        "status_at": NOW,
    }
    return Task(**{**known, **fields})  # type: ignore[arg-type]  # as written by each test


@pytest.mark.parametrize(
    ("state", "condition", "expected"),
    [
        (TaskState.FAILED, RestartCondition.ANY, True),
        (TaskState.COMPLETE, RestartCondition.ANY, True),
        (TaskState.FAILED, RestartCondition.ON_FAILURE, True),
        (TaskState.REJECTED, RestartCondition.ON_FAILURE, True),
        (TaskState.SHUTDOWN, RestartCondition.ON_FAILURE, True),
        (TaskState.COMPLETE, RestartCondition.ON_FAILURE, False),
        (TaskState.FAILED, RestartCondition.NONE, False),
    ],
)
def test_the_condition_decides_by_the_state(state: TaskState, condition: RestartCondition, expected: bool) -> None:
    assert calls_for_restart(state, condition) is expected
    assert (restart(ended(state), RestartPolicy(condition=condition), NOW) is not None) is expected


def test_without_a_delay_the_first_restart_is_at_once_and_later_ones_back_off() -> None:
    assert restart(ended(), RestartPolicy(), NOW) == Restart(0.0, 1, 1, NOW)
    second = restart(ended(restarts=1, attempts=1, attempts_since=NOW - 1), RestartPolicy(), NOW)
    assert second is not None
    assert NOW + 0.5 <= second.hold_until <= NOW + 1
    assert (second.restarts, second.attempts, second.attempts_since) == (2, 2, NOW - 1)


@pytest.mark.parametrize("restarts", [0, 1, 9])
def test_a_given_delay_is_kept(restarts: int) -> None:
    five = restart(ended(restarts=restarts), RestartPolicy(delay_s=5.0), NOW)
    none = restart(ended(restarts=restarts), RestartPolicy(delay_s=0.0), NOW)
    assert five is not None
    assert none is not None
    assert (five.hold_until, none.hold_until) == (NOW + 5, 0.0)


def test_a_stable_minute_heals_the_back_off_but_not_the_attempts() -> None:
    task = ended(restarts=7, attempts=7, attempts_since=100.0, ready_since=NOW - 60)
    assert restart(task, RestartPolicy(), NOW) == Restart(0.0, 1, 8, 100.0)
    assert served_s(task) == 60


def test_without_word_of_its_readiness_a_task_that_lived_for_a_minute_is_stable() -> None:
    assert restart(ended(restarts=7, created_at=NOW - 60), RestartPolicy(), NOW) == Restart(0.0, 1, 1, NOW)
    held = restart(ended(restarts=7, created_at=NOW - 60, hold_until=NOW - 30), RestartPolicy(), NOW)
    assert held is not None
    assert held.restarts == 8


@pytest.mark.parametrize("fast_s", [-3600.0, 3600.0])
def test_a_worker_whose_clock_is_wrong_neither_forgives_nor_forgets(fast_s: float) -> None:
    """Else a task that fails at once on a node with a fast clock would be started again without any delay, for ever."""
    at_once = ended(restarts=7, created_at=NOW - 1, status_at=NOW + fast_s)
    held = restart(at_once, RestartPolicy(), NOW)
    assert held is not None
    assert held.restarts == 8
    stable = ended(restarts=7, created_at=NOW - 60, status_at=NOW + fast_s)
    assert restart(stable, RestartPolicy(), NOW) == Restart(0.0, 1, 1, NOW)


def test_attempts_are_limited_over_the_version_or_over_a_window() -> None:
    used_up = ended(attempts=3, attempts_since=NOW - 100)
    assert restart(used_up, RestartPolicy(max_attempts=3), NOW) is None
    assert restart(used_up, RestartPolicy(max_attempts=3, window_s=100.0), NOW) is None
    again = restart(used_up, RestartPolicy(max_attempts=3, window_s=99.0, delay_s=0.0), NOW)
    assert again == Restart(0.0, 1, 1, NOW)


def test_who_was_asked_to_stop_did_not_end_by_itself() -> None:
    assert ended_by_itself(ended())
    assert ended_by_itself(ended(desired_state=TaskState.SHUTDOWN))
    assert is_settled(ended(desired_state=TaskState.SHUTDOWN))
    assert not is_settled(ended())
    assert not ended_by_itself(ended(desired_state=TaskState.SHUTDOWN, desired_reason="node a is down"))
    assert not ended_by_itself(ended(state=TaskState.RUNNING))
