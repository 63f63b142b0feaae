"""Carrying decisions out: in the transaction each is looked at again, and dropped if it no longer applies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from manager.orchestrator.actions import Action, ReleaseTask, SlotActions, StartTask, StopTask
from manager.store.tables import SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.model.service import Service, UpdateStatus
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task

MAX_CHANGES: Final = 200
_CREATION_STEP_S: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for one service as it was then; `service` None: it is gone."""

    service: Service | None
    groups: tuple[SlotActions, ...]
    status: UpdateStatus | None = None


def batches(decision: Decision) -> Iterator[Decision]:
    """Split a decision into transactions of at most 200 changes. Groups stay whole; the status goes with the first."""
    status = decision.status
    room = MAX_CHANGES - (status is not None)
    groups: list[SlotActions] = []
    for group in decision.groups:
        if groups and len(group.actions) > room:
            yield Decision(decision.service, tuple(groups), status)
            status, groups, room = None, [], MAX_CHANGES
        groups.append(group)
        room -= len(group.actions)
    if groups or status is not None:
        yield Decision(decision.service, tuple(groups), status)


def apply(tx: Transaction, decision: Decision, *, now: float, new_id: Callable[[], str]) -> list[Action]:
    """Write a decision and return the actions that were carried out.

    Nothing is done if the user has changed the service meanwhile: the watch has the change, and all is decided anew.
    """
    decided_for = decision.service
    if decided_for is not None:
        service = tx.get(SERVICES, decided_for.id)
        if service is None or _intent(service) != _intent(decided_for):
            return []
        if decision.status is not None:
            tx.update(SERVICES, msgspec.structs.replace(service, update_status=decision.status))
    done: list[Action] = []
    for group in decision.groups:
        if decided_for is None or _still_holds(tx, decided_for.id, group):
            done.extend(_apply_group(tx, decided_for, group.actions, now, new_id))
    return done


def _intent(service: Service) -> tuple[int, float]:
    return (service.spec_version, service.updated_at)


def _still_holds(tx: Transaction, service_id: str, group: SlotActions) -> bool:
    """Tell whether no task unknown to the decision holds the slot."""
    if not any(isinstance(action, StartTask) for action in group.actions):
        return True
    rows = tx.find(TASKS, "slot", f"{service_id}/{group.slot}")
    return all(task.id in group.holders for task in rows if task.is_wanted)


def _apply_group(
    tx: Transaction,
    service: Service | None,
    actions: Iterable[Action],
    now: float,
    new_id: Callable[[], str],
) -> Iterator[Action]:
    for action in actions:
        match action:
            case StartTask():
                assert service is not None, "a task is started for a service"
                tx.create(TASKS, _created(action, service, now, new_id()))
                yield action
            case StopTask():
                task = tx.get(TASKS, action.task_id)
                if task is not None and task.desired_state < action.desired:
                    tx.update(TASKS, _stopped(task, action, now))
                    yield action
            case ReleaseTask():
                task = tx.get(TASKS, action.task_id)
                if task is not None and task.is_wanted and task.desired_state is TaskState.READY:
                    tx.update(TASKS, msgspec.structs.replace(task, desired_state=TaskState.RUNNING))
                    yield action


def _created(action: StartTask, service: Service, now: float, task_id: str) -> Task:
    # Not before the update that called for it, whatever this manager's clock says: failures of an update are
    # told from earlier ones by their times.
    created_at = max(now, service.updated_at, action.after + _CREATION_STEP_S)
    return Task(
        id=task_id,
        service_id=service.id,
        spec_version=action.spec_version,
        slot=action.slot,
        created_at=created_at,
        desired_state=action.desired,
        hold_until=action.hold_until,
        restarts=action.restarts,
        attempts=action.attempts,
        attempts_since=action.attempts_since,
        status_at=created_at,
    )


def _stopped(task: Task, action: StopTask, now: float) -> Task:
    task = msgspec.structs.replace(task, desired_state=action.desired, desired_reason=action.reason)
    if task.state > TaskState.PENDING:
        return task
    # It never reached a node, so that no worker will ever report its end.
    return msgspec.structs.replace(
        task, state=TaskState.SHUTDOWN, status_at=now, message="stopped before it was assigned", pending_reason=""
    )
