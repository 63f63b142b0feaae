"""Rolling updates: which slots to switch next, when to pause, and when it is over.

Everything is told from the stored state, so that a plan can be made again at any moment, by any leader, and goes
on where the last one stopped. `update_status.started_at` equals the service's `updated_at` while the status is
about the present spec: a user's next update of the service, whatever it changes, begins anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final

import msgspec

from manager.orchestrator.phase import Phase
from manager.orchestrator.rollout import Rollout
from manager.orchestrator.site import Fate, Site
from manager.orchestrator.slot import SlotPlan, replacement
from swarmpy.model.service import Service, UpdateStatus
from swarmpy.model.states import FailureAction, TaskState, UpdateOrder, UpdateState
from swarmpy.model.task import Task

PROGRESS_S: Final = 600.0
"""A new task that is not ready this long after its creation counts as failed, so that no update is stuck for ever."""

_UNDER_WAY: Final = frozenset({UpdateState.UPDATING, UpdateState.PAUSED})


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """Slots to switch now, the status to store if it changes, when to look again (wall seconds), whether it is over."""

    switch: tuple[int, ...] = ()
    status: UpdateStatus | None = None
    wake_at: float | None = None
    is_over: bool = False


def plan_update(service: Service, rollout: Rollout, now: float) -> UpdatePlan:
    """Decide the next step of the update of `service`; `now` is in wall seconds."""
    stored = service.update_status
    is_current = stored.started_at == service.updated_at
    if is_current and stored.state is UpdateState.PAUSED:
        return UpdatePlan(is_over=True)
    outdated = rollout.slots(Phase.IDLE) or rollout.slots(Phase.OUTDATED)
    if not outdated and stored.state not in _UNDER_WAY:
        # A new template that no task must be replaced for is rolled out as it is: whoever waits for it is told so.
        unanswered = stored.state is UpdateState.NONE and service.spec_version > 1
        return UpdatePlan(status=_completed(service, rollout, now) if unanswered else None, is_over=True)
    status = UpdateStatus(state=UpdateState.UPDATING, started_at=service.updated_at, message="update in progress")
    overdue = _overdue(rollout, now)
    pause = _reason_to_pause(service, rollout, overdue)
    if pause:
        paused = msgspec.structs.replace(status, state=UpdateState.PAUSED, message=pause)
        return UpdatePlan(status=paused, is_over=True)
    if outdated or rollout.slots(Phase.SWITCHING) - overdue:
        switch, wake_at = _next_slots(service, rollout, overdue, now)
        return UpdatePlan(switch, None if status == stored else status, wake_at)
    end_at = max(rollout.settled_at.values(), default=now) + service.spec.update.monitor_s
    if rollout.settled_at and now < end_at:
        return UpdatePlan(status=None if status == stored else status, wake_at=end_at)
    return UpdatePlan(status=_completed(service, rollout, now), is_over=True)


def _completed(service: Service, rollout: Rollout, now: float) -> UpdateStatus:
    failed = len(rollout.slots(Phase.FAILED)) + len(rollout.slots(Phase.SWITCHING))
    return UpdateStatus(
        state=UpdateState.COMPLETED,
        started_at=service.updated_at,
        completed_at=now,
        message=f"update completed, {failed} of {rollout.total} tasks failed" if failed else "update completed",
    )


def _overdue(rollout: Rollout, now: float) -> set[int]:
    return {slot for slot in rollout.slots(Phase.SWITCHING) if rollout.of(slot).since + PROGRESS_S <= now}


def _reason_to_pause(service: Service, rollout: Rollout, overdue: set[int]) -> str:
    """Return why the update is to pause, or an empty string."""
    config = service.spec.update
    failed = rollout.slots(Phase.FAILED)
    failures = len(failed) + len(overdue)
    if not failures or config.failure_action is FailureAction.CONTINUE:
        return ""
    if failures / rollout.total <= config.max_failure_ratio:
        return ""
    if failed:
        first = rollout.of(min(failed, key=lambda slot: (rollout.settled_at[slot], slot)))
        text = f"update paused due to failure or early termination of task {first.task_id}"
    else:
        first = rollout.of(min(overdue))
        text = f"update paused: task {first.task_id} was not ready within {PROGRESS_S / 60:.0f} minutes"
    return f"{text}: {first.note}" if first.note else text


def _next_slots(
    service: Service, rollout: Rollout, overdue: set[int], now: float
) -> tuple[tuple[int, ...], float | None]:
    """Return the slots to switch now, and when there may be more to do (wall seconds) if nothing happens before."""
    config = service.spec.update
    wakes = [rollout.of(slot).since + PROGRESS_S for slot in rollout.slots(Phase.SWITCHING) - overdue]
    outdated = rollout.slots(Phase.OUTDATED)
    room = len(outdated)
    if config.parallelism:
        resting: list[float] = []
        if config.delay_s > 0:
            ends = (at + config.delay_s for at in rollout.settled_at.values())
            resting = [end for end in ends if end > now]
        busy = len(rollout.slots(Phase.SWITCHING)) - len(overdue) + len(resting)
        room = max(0, config.parallelism - busy)
        if resting and len(outdated) > room:
            wakes.append(min(resting))
    chosen = nsmallest(room, outdated)
    switch = (*sorted(rollout.slots(Phase.IDLE)), *chosen)
    wake_at = min(wakes, default=math.inf)
    return switch, None if wake_at == math.inf else wake_at


def switch_slot(site: Site, tasks: Sequence[Task]) -> SlotPlan:
    """Bring an outdated slot (its tasks oldest first) to the present version.

    stop-first: the old task is asked to stop, and the new one is prepared meanwhile and released once it has.
    start-first: the old task serves until the new one is ready.
    """
    plan = SlotPlan(waits=True)
    holders = [task for task in tasks if task.is_wanted and site.fate(task) is not Fate.LOST]
    start_first = site.service.spec.update.order is UpdateOrder.START_FIRST
    kept = None
    for task in reversed(holders):
        if start_first and kept is None and task.state is TaskState.RUNNING:
            kept = task
            continue
        plan.stop(task, f"replaced by version {site.service.spec_version}")
    plan.actions.append(replacement(site, tasks, waits=kept is None))
    return plan
