"""Whether a task that ended by itself is replaced, and when. All history is in the task's own row.

A task ended by itself if it stopped though nobody had asked it to: it was still wanted, or was only marked as
replaced afterwards, which is the one desired SHUTDOWN without a reason.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

from swarmpy.model.spec import RestartPolicy
from swarmpy.model.states import RestartCondition, TaskState
from swarmpy.model.task import Task

FIRST_BACKOFF_S: Final = 1.0
MAX_BACKOFF_S: Final = 30.0
STABLE_S: Final = 60.0
_MAX_DOUBLINGS: Final = 5


@dataclass(frozen=True, slots=True)
class Restart:
    """When the replacement may run (wall seconds; 0: at once), and the counts that it carries on."""

    hold_until: float
    restarts: int
    attempts: int
    attempts_since: float


def ended_by_itself(task: Task) -> bool:
    """Tell whether the task stopped without having been asked to."""
    return task.state.is_stopped and (task.desired_state <= TaskState.RUNNING or not task.desired_reason)


def is_settled(task: Task) -> bool:
    """Tell whether the end of a task was dealt with. If it has no successor then, it is not to have one."""
    return task.desired_state > TaskState.RUNNING and not task.desired_reason


def served_s(task: Task) -> float:
    """Return how long a stopped task was last ready, in seconds of its worker's clock; 0 if it never was."""
    return max(0.0, task.status_at - task.ready_since) if task.ready_since else 0.0


def lived_s(task: Task, now: float) -> float:
    """Return how long a task that stopped just now served or, where that is not known, was there to be run, in seconds.

    The second may count time spent waiting and preparing: a task that takes a minute to fail is none to be held back.
    Each is the difference of two times of one clock, the worker's or the managers': theirs may be hours apart.
    """
    return served_s(task) or now - max(task.created_at, task.hold_until)


def calls_for_restart(state: TaskState, condition: RestartCondition) -> bool:
    """Tell whether a policy replaces tasks that end in `state`."""
    if condition is RestartCondition.NONE:
        return False
    return condition is RestartCondition.ANY or state is not TaskState.COMPLETE


def restart(task: Task, policy: RestartPolicy, now: float) -> Restart | None:
    """Decide what follows a task that ended by itself; None if nothing does.

    Args:
        task: the stopped task.
        policy: the policy in force now, which may be newer than the task.
        now: wall seconds.
    """
    if not calls_for_restart(task.state, policy.condition):
        return None
    expired = 0 < policy.window_s < now - task.attempts_since
    attempts = 0 if expired else task.attempts
    if policy.max_attempts and attempts >= policy.max_attempts:
        return None
    in_a_row = 0 if lived_s(task, now) >= STABLE_S else task.restarts
    delay_s = backoff_s(in_a_row, task.id) if policy.delay_s is None else policy.delay_s
    return Restart(
        hold_until=now + delay_s if delay_s > 0 else 0.0,
        restarts=in_a_row + 1,
        attempts=attempts + 1,
        attempts_since=task.attempts_since if attempts else now,
    )


def backoff_s(in_a_row: int, task_id: str) -> float:
    """Return the delay after `in_a_row` restarts: 0, then about 1, 2, 4, ... up to 30 seconds.

    The jitter of up to a half comes from the id, so that tasks which fail together do not return together, and
    a decision that is made again is the same.
    """
    if in_a_row <= 0:
        return 0.0
    longest_s = min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(in_a_row - 1, _MAX_DOUBLINGS))
    jitter = zlib.crc32(task_id.encode()) / 2**32
    return longest_s * (1.0 - jitter / 2)
