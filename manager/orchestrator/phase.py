"""Where each slot of a service stands in the rolling update to the present spec. Told from stored rows alone."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from manager.orchestrator.restart import calls_for_restart, ended_by_itself, served_s
from manager.orchestrator.site import Fate, Site
from manager.orchestrator.slot import is_free
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task


class Phase(enum.Enum):
    """STEADY: no part of the update. IDLE: outdated, but nothing runs there that the update could take away.
    OUTDATED: serves with an old template. SWITCHING: its new task is not ready yet. DONE: switched and ready.
    FAILED: a new task ended before it had served for the monitored time.
    """

    STEADY = 0
    IDLE = 1
    OUTDATED = 2
    SWITCHING = 3
    DONE = 4
    FAILED = 5


@dataclass(frozen=True, slots=True)
class Standing:
    """A slot's phase, the task that put it there, and since when (wall seconds; `since` 0: unknown)."""

    phase: Phase
    task_id: str = ""
    since: float = 0.0
    note: str = ""


STEADY: Final = Standing(Phase.STEADY)


def standing(site: Site, tasks: Sequence[Task]) -> Standing | None:
    """Return where a slot (its tasks oldest first) stands; None for a free slot."""
    if is_free(tasks):
        return None
    failed = _failure(site, tasks)
    if failed is not None:
        return Standing(Phase.FAILED, failed.id, failed.status_at, failed.error or failed.message)
    holders = [task for task in tasks if task.is_wanted and site.fate(task) is not Fate.LOST]
    head = holders[-1] if holders else tasks[-1]
    if site.is_outdated(head):
        # A prepared task that was not started is in nobody's way, unless an older one serves in its place.
        runs = any(task.state >= TaskState.STARTING for task in holders) or not holders
        return Standing(Phase.OUTDATED if runs else Phase.IDLE, head.id)
    if not _was_switched(site, tasks, head):
        return STEADY
    if head.is_endpoint:
        return Standing(Phase.DONE, head.id, head.ready_since)
    if not holders:
        return Standing(Phase.DONE, head.id, head.status_at)
    return Standing(Phase.SWITCHING, head.id, head.created_at, head.not_ready_reason or head.pending_reason)


def _failure(site: Site, tasks: Sequence[Task]) -> Task | None:
    """Return the first task of this update that ended by itself within the monitored time."""
    return next((task for task in tasks if _belongs(site, task) and _failed(site, task)), None)


def _belongs(site: Site, task: Task) -> bool:
    service = site.service
    return task.spec_version == service.spec_version and task.created_at >= service.updated_at


def _failed(site: Site, task: Task) -> bool:
    """A success that the restart policy leaves alone is what the task was for, and no failure."""
    spec = site.service.spec
    if not ended_by_itself(task):
        return False
    if task.state is TaskState.COMPLETE and not calls_for_restart(task.state, spec.task.restart.condition):
        return False
    return not task.ready_since or served_s(task) <= spec.update.monitor_s


def _was_switched(site: Site, tasks: Sequence[Task], head: Task) -> bool:
    """Tell whether `head` took over from a task of another template that had reached a node."""
    if head.spec_version != site.service.spec_version:
        return False
    return any(task.node_id and task.desired_state is not TaskState.REMOVE and site.is_outdated(task) for task in tasks)
