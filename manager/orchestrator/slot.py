"""One slot's needs: a task that holds it, and at most one more while a successor takes over.

A slot's tasks in order of creation tell everything. The youngest wanted one is its *head*. An older wanted one
serves on until the head is ready (start-first updates, drained nodes). What the head replaces may still be stopping.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from manager.orchestrator.actions import Action, ReleaseTask, SlotActions, StartTask, StopTask
from manager.orchestrator.restart import ended_by_itself, is_settled, restart
from manager.orchestrator.site import Fate, Site
from swarmpy.model.states import RestartCondition, TaskState
from swarmpy.model.task import Task

HANDOVER_S: Final = 60.0
"""How long a task waits for the one that it replaces to stop, and a task on a drained node for its successor."""

STUCK_RESTARTS: Final = 5
"""A successor that failed this often keeps no task on a drained node."""


@dataclass(slots=True)
class SlotPlan:
    """What to do now.

    `waits`: progress of the slot's tasks can call for more; so can `wake_at` (wall seconds).
    """

    actions: list[Action] = field(default_factory=list)
    waits: bool = False
    wake_at: float | None = None

    @property
    def starts(self) -> bool:
        return any(isinstance(action, StartTask) for action in self.actions)

    def stop(self, task: Task, reason: str) -> None:
        self.actions.append(StopTask(task.id, reason))

    def wake(self, at: float) -> None:
        self.wake_at = at if self.wake_at is None else min(self.wake_at, at)

    def foresee(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Return the tasks as they will be once the stops of this plan are written."""
        stops = {action.task_id: action for action in self.actions if isinstance(action, StopTask)}
        if not stops:
            return tasks
        return [
            msgspec.structs.replace(task, desired_state=stop.desired, desired_reason=stop.reason)
            if (stop := stops.get(task.id)) is not None
            else task
            for task in tasks
        ]

    def group(self, slot: int, tasks: Sequence[Task]) -> SlotActions:
        """Return the actions as one group that is valid while the slot's wanted tasks are those of `tasks`."""
        return SlotActions(slot, frozenset(task.id for task in tasks if task.is_wanted), tuple(self.actions))


def is_free(tasks: Sequence[Task]) -> bool:
    """Tell whether a slot (its tasks oldest first) is nobody's: scaled down, or never used."""
    return not tasks or (tasks[-1].desired_state is TaskState.REMOVE and not any(t.is_wanted for t in tasks))


def plan_slot(site: Site, tasks: Sequence[Task]) -> SlotPlan:
    """Decide what one used slot needs: replacements for what ended or must leave, hand-overs, releases.

    Args:
        site: what the slot is judged by.
        tasks: all tasks of the slot, oldest first, at least one.
    """
    plan = SlotPlan()
    holders = []
    for task in tasks:
        if not task.is_wanted:
            continue
        if site.fate(task) is Fate.LOST:
            plan.stop(task, site.why(task))
        else:
            holders.append(task)
    holders = _hand_over(site, holders, plan)
    _give_up_leaving(site, tasks, holders, plan)
    successor = _successor(site, tasks, holders, plan)
    if successor is not None:
        plan.actions.append(successor)
        plan.waits = True
    elif holders and holders[-1].desired_state is TaskState.READY:
        _release(site, tasks, holders[-1], plan)
    plan.waits = plan.waits or len(holders) > 1
    return plan


def _hand_over(site: Site, holders: list[Task], plan: SlotPlan) -> list[Task]:
    """Where two tasks hold the slot, stop the one that is not needed any more; return who is left."""
    if len(holders) < 2:
        return holders
    *older, head = holders
    if head.is_endpoint:
        for task in older:
            leaving = site.fate(task) is Fate.LEAVING
            plan.stop(task, site.why(task) if leaving else f"task {head.id} took its place")
        return [head]
    returned = [t for t in older if t.is_endpoint and site.fate(t) is Fate.STAYS and not site.is_outdated(t)]
    if returned:
        keep = returned[-1]
        for task in holders:
            if task is not keep:
                plan.stop(task, f"task {keep.id} stays in its place")
        return [keep]
    kept = []
    for task in older:
        leaving = site.fate(task) is Fate.LEAVING
        if task.state < TaskState.RUNNING:
            plan.stop(task, f"task {head.id} takes its place")
        elif leaving and _is_stuck(site, head):
            plan.stop(task, site.why(task))
        else:
            kept.append(task)
            if leaving:
                plan.wake(head.created_at + HANDOVER_S)
    return [*kept, head]


def _is_stuck(site: Site, head: Task) -> bool:
    """Tell whether a task on a drained node has waited enough for its successor."""
    return (
        (bool(head.pending_reason) and not head.node_id)
        or head.restarts >= STUCK_RESTARTS
        or site.now >= head.created_at + HANDOVER_S
    )


def _give_up_leaving(site: Site, tasks: Sequence[Task], holders: list[Task], plan: SlotPlan) -> None:
    """Stop what sits on a drained node and either serves nobody or will have no successor; drop it from `holders`."""
    if not holders or site.fate(holders[-1]) is not Fate.LEAVING:
        return
    head, youngest = holders[-1], tasks[-1]
    once = site.service.spec.task.restart.condition is RestartCondition.NONE
    without_successor = head is not youngest and is_settled(youngest)
    if head.state is not TaskState.RUNNING or once or without_successor:
        plan.stop(head, site.why(head))
        holders.pop()


def _successor(site: Site, tasks: Sequence[Task], holders: Sequence[Task], plan: SlotPlan) -> StartTask | None:
    """Return the task that must be created to hold the slot, if any. Marks the end of the youngest as dealt with."""
    youngest = tasks[-1]
    head = holders[-1] if holders else None
    if head is youngest:
        leaving = site.fate(head) is Fate.LEAVING
        return replacement(site, tasks, waits=False) if leaving else None
    outdated = head is not None and site.is_outdated(head)
    leaving = head is not None and site.fate(head) is Fate.LEAVING
    if ended_by_itself(youngest):
        return _restarted(site, tasks, head, plan, needed=head is None or outdated or leaving)
    needed = (head is None or leaving) and youngest.desired_state is not TaskState.REMOVE
    if not needed or _ran_for_good(site, youngest):
        return None
    return replacement(site, tasks, waits=head is None)


def _ran_for_good(site: Site, task: Task) -> bool:
    """Tell whether a task that had to stop was of the kind that runs only once, and may have run."""
    once = site.service.spec.task.restart.condition is RestartCondition.NONE
    return once and task.state >= TaskState.STARTING


def _restarted(
    site: Site, tasks: Sequence[Task], head: Task | None, plan: SlotPlan, *, needed: bool
) -> StartTask | None:
    """Apply the restart policy to the youngest task, which ended by itself."""
    youngest = tasks[-1]
    if is_settled(youngest):
        return None
    number = site.version_for(youngest)
    same = number == youngest.spec_version
    if needed and same and youngest.hold_until > site.now:
        # It failed while it was only being prepared: the delay that it did not sit out holds for its successor.
        plan.wake(youngest.hold_until)
        return None
    plan.stop(youngest, "")
    decision = restart(youngest, site.service.spec.task.restart, site.now) if needed else None
    if decision is None:
        if head is not None and site.fate(head) is Fate.LEAVING:
            plan.stop(head, site.why(head))
        elif head is not None and youngest.state is TaskState.COMPLETE and not site.is_outdated(youngest):
            plan.stop(head, f"task {youngest.id} took its place and completed")
        return None
    waits = decision.hold_until > 0 or (head is None and any(site.blocks(task) for task in tasks))
    return StartTask(
        youngest.slot,
        number,
        TaskState.READY if waits else TaskState.RUNNING,
        decision.hold_until,
        decision.restarts if same else 0,
        decision.attempts if same else 0,
        decision.attempts_since if same else 0.0,
        after=youngest.created_at,
    )


def replacement(site: Site, tasks: Sequence[Task], *, waits: bool) -> StartTask:
    """Return the task that takes over from the slot's youngest through no fault of that: it keeps delay and counts.

    With `waits` it runs only once those that may still run in its slot have stopped.
    """
    youngest = tasks[-1]
    number = site.version_for(youngest)
    same = number == youngest.spec_version
    hold_until = youngest.hold_until if same and youngest.hold_until > site.now else 0.0
    blocked = waits and any(
        (task.is_wanted and task.occupies_node and site.fate(task) is not Fate.LOST) or site.blocks(task)
        for task in tasks
    )
    return StartTask(
        youngest.slot,
        number,
        TaskState.READY if blocked or hold_until else TaskState.RUNNING,
        hold_until,
        youngest.restarts if same else 0,
        youngest.attempts if same else 0,
        youngest.attempts_since if same else 0.0,
        after=youngest.created_at,
    )


def _release(site: Site, tasks: Sequence[Task], head: Task, plan: SlotPlan) -> None:
    """Let the head run once its delay is over and what it replaces has stopped, or has had a minute for that."""
    at = head.hold_until
    if any(site.blocks(task) for task in tasks):
        plan.waits = True
        at = max(at, head.created_at + HANDOVER_S)
    if site.now >= at:
        plan.actions.append(ReleaseTask(head.id))
    else:
        plan.wake(at)
