"""What the orchestrator may decide to do, as values."""

from __future__ import annotations

from dataclasses import dataclass

from swarmpy.model.states import TaskState
from swarmpy.model.task import Task


@dataclass(frozen=True, slots=True)
class StartTask:
    """Create a task. With `desired` READY it waits for a release.

    `hold_until` is in wall seconds. `after` is the creation time of the youngest task of the slot: the new one's
    is greater, so that a slot's tasks have an order.
    """

    slot: int
    spec_version: int
    desired: TaskState = TaskState.RUNNING
    hold_until: float = 0.0
    restarts: int = 0
    attempts: int = 0
    attempts_since: float = 0.0
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class StopTask:
    """Set a task's desired state to SHUTDOWN or REMOVE.

    An empty `reason` is for a task that ended by itself, and only for that: whoever asks a running task to stop
    says why.
    """

    task_id: str
    reason: str
    desired: TaskState = TaskState.SHUTDOWN


@dataclass(frozen=True, slots=True)
class ReleaseTask:
    """Let a task that waits at desired READY run."""

    task_id: str


Action = StartTask | StopTask | ReleaseTask


@dataclass(frozen=True, slots=True)
class SlotActions:
    """Actions that take effect together or not at all, decided while `holders` were the slot's wanted tasks."""

    slot: int
    holders: frozenset[str]
    actions: tuple[Action, ...]


def age_order(task: Task) -> tuple[float, str]:
    """Return the key that puts the tasks of a slot in the order of their creation."""
    return (task.created_at, task.id)
