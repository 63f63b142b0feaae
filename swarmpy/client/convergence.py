"""How far a service is from what its spec asks for: changes are folded in, and the answer is computed. No I/O."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Final

import msgspec

from swarmpy.client.results import Change
from swarmpy.model.base import Model
from swarmpy.model.service import Service, ServiceVersion, UpdateStatus
from swarmpy.model.spec import Placement, ServiceSpec
from swarmpy.model.states import TaskState, UpdateState, word
from swarmpy.model.task import Task

_ROLLED_BACK: Final = frozenset(
    {UpdateState.ROLLBACK_STARTED, UpdateState.ROLLBACK_PAUSED, UpdateState.ROLLBACK_COMPLETED}
)
_FINISHED: Final = frozenset({UpdateState.COMPLETED, UpdateState.ROLLBACK_COMPLETED})


class SlotProgress(Model, frozen=True):
    """Where the newest task of a slot is, and in words what it waits for or died of.

    `retrying` says that the reason is the last try's, and the newest task another one.
    """

    slot: int
    state: TaskState
    done: bool = False
    reason: str = ""
    retrying: bool = False
    node_id: str = ""


class Progress(Model, frozen=True):
    """How far a service has come.

    `verified` says that the manager has watched the new tasks for as long as the update's policy asks; `failure` is
    set once the service will not get there; `note` says what holds all of it up.
    """

    service_id: str
    name: str
    wanted: int
    done: int
    slots: tuple[SlotProgress, ...] = ()
    converged: bool = False
    verified: bool = False
    failure: str = ""
    note: str = ""


class Convergence:
    """One service on its way to its spec.

    Args:
        service: as the mutation answered; the update status that it had then says nothing about this mutation.
        rollback: whether the mutation itself is a rollback, so that one is no failure.
    """

    def __init__(self, service: Service, *, rollback: bool = False) -> None:
        self._service = service
        self._before: UpdateStatus = service.update_status
        self._rollback = rollback
        self._removed = False
        self._tasks: dict[str, Task] = {}
        self._templates: dict[int, ServiceVersion] = {}

    def reset(self, service: Service, tasks: Iterable[Task]) -> None:
        """Take a new state in place of everything known."""
        self._service = service
        self._tasks = {task.id: task for task in tasks if task.service_id == service.id}

    def unknown_versions(self) -> dict[int, Task]:
        """Return one live task of each older version whose template is not known: see `learn`."""
        return {
            task.spec_version: task
            for task in self._tasks.values()
            if task.is_wanted
            and task.spec_version != self._service.spec_version
            and task.spec_version not in self._templates
        }

    def learn(self, version: ServiceVersion) -> None:
        """Take note of an older template: tasks of one that differs in its placement only are left alone."""
        self._templates[version.number] = version

    def apply(self, changes: Iterable[Change]) -> None:
        """Fold changes in; those of other services, or older than what is known, change nothing."""
        for change in changes:
            changed = change.object
            if isinstance(changed, Service) and changed.id == self._service.id:
                self._removed = self._removed or change.removed
                if changed.version >= self._service.version:
                    self._service = changed
            elif isinstance(changed, Task) and changed.service_id == self._service.id:
                self._apply_task(changed, removed=change.removed)

    def _apply_task(self, task: Task, *, removed: bool) -> None:
        known = self._tasks.get(task.id)
        if removed:
            self._tasks.pop(task.id, None)
        elif known is None or task.version >= known.version:
            self._tasks[task.id] = task

    def progress(self) -> Progress:
        """Return how far the service has come."""
        wanted = self._service.spec.mode.replicas
        by_slot: defaultdict[int, list[Task]] = defaultdict(list)
        for task in self._tasks.values():
            by_slot[task.slot].append(task)
        live = {slot for slot, tasks in by_slot.items() if any(t.is_wanted for t in tasks)}
        waiting = [slot for slot in sorted(by_slot) if slot not in live and self._is_retried(by_slot[slot])]
        shown = [self._slot(slot, by_slot[slot]) for slot in sorted((*live, *waiting))]
        done = sum(slot.done for slot in shown)
        converged = done == wanted == len(shown)
        return Progress(
            service_id=self._service.id,
            name=self._service.name,
            wanted=wanted,
            done=done,
            slots=tuple(shown),
            converged=converged,
            verified=converged and self._status.state in _FINISHED,
            failure=self._failure(),
            note=self._service.allocation_problem,
        )

    @property
    def _status(self) -> UpdateStatus:
        """The status of this mutation's update, empty before it started; it is stamped with the update's time."""
        now = self._service.update_status
        is_own = now.started_at == self._service.updated_at or now.state in _ROLLED_BACK
        return now if is_own and now != self._before else UpdateStatus()

    def _is_retried(self, tasks: list[Task]) -> bool:
        """Whether a slot without a live task is between two tries, rather than scaled away."""
        return max(tasks, key=_age).desired_state <= TaskState.SHUTDOWN and any(
            t.spec_version == self._service.spec_version and t.state > TaskState.SHUTDOWN for t in tasks
        )

    def _slot(self, slot: int, tasks: list[Task]) -> SlotProgress:
        newest = max(tasks, key=_age)
        current = [task for task in tasks if self._is_current(task)]
        done = any(task.is_endpoint for task in current)
        failed = max((t for t in tasks if t.error), key=_age, default=None)
        reason = newest.error or newest.pending_reason or newest.not_ready_reason
        retrying = False
        if done:
            reason = ""
        elif not reason and not self._is_current(newest):
            reason = "to be replaced"
        elif not reason and failed is not None and failed.spec_version == newest.spec_version:
            reason, retrying = failed.error, True
        return SlotProgress(
            slot=slot, state=newest.state, done=done, reason=reason, retrying=retrying, node_id=newest.node_id
        )

    def _is_current(self, task: Task) -> bool:
        """Whether a task runs what the spec asks for."""
        if task.spec_version == self._service.spec_version:
            return True
        version = self._templates.get(task.spec_version)
        return version is not None and _interchangeable(version, self._service.spec)

    def _failure(self) -> str:
        status = self._status
        if self._removed:
            return f"service {self._service.name} was removed"
        if status.state in (UpdateState.PAUSED, UpdateState.ROLLBACK_PAUSED):
            return f"service {self._service.name}: {status.message or 'the update is paused'}"
        if status.state in _ROLLED_BACK and not self._rollback:
            return f"service {self._service.name} was rolled back: {status.message or 'the update failed'}"
        return ""


def state_word(slot: SlotProgress) -> str:
    """Return what a person reads of a slot: `running`, `pending: no suitable node`, `trying again: exit status 1`."""
    if slot.retrying:
        return f"trying again: {slot.reason}"
    return f"{word(slot.state)}: {slot.reason}" if slot.reason else word(slot.state)


def _interchangeable(version: ServiceVersion, spec: ServiceSpec) -> bool:
    """Whether tasks of the version may stay: nothing but where they are placed has changed."""
    mine, theirs = (msgspec.structs.replace(task, placement=Placement()) for task in (version.task, spec.task))
    ports = {(port.target, port.transport) for port in version.ports}
    return mine == theirs and ports == {(port.target, port.transport) for port in spec.endpoint.ports}


def _age(task: Task) -> tuple[int, float, int]:
    return (task.spec_version, task.created_at, task.version)
