"""The scheduler's loop: pending tasks in groups, placed and assigned; those that find no node wait with a reason."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

import msgspec
import structlog

from manager.scheduler.filters import Demand, accepts_tasks
from manager.scheduler.fleet import Fleet, Need, need_of
from manager.scheduler.place import Placement, place
from manager.store.commit import Change, Commit
from manager.store.store import Store
from manager.store.tables import NODES, SERVICE_VERSIONS, TASKS
from manager.store.transaction import Transaction
from manager.store.watch import CompactedError, Watch
from swarmpy.clock import Clock
from swarmpy.model.node import Node
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task

log = structlog.get_logger(__name__)

MAX_CHANGES: Final = 200
WRITES_AT_ONCE: Final = 8
GROUP_SLICE: Final = 1000

Item = TypeVar("Item")


def is_waiting(task: Task) -> bool:
    """Whether the task is to be given a node."""
    return task.state is TaskState.PENDING and task.desired_state <= TaskState.RUNNING


class Scheduler:
    """Runs on the leader. What it knows of the nodes is rebuilt from the store whenever it starts."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._fleet = Fleet()
        self._groups: dict[str, dict[str, None]] = {}
        self._due: dict[str, None] = {}
        self._demands: dict[str, Demand] = {}
        self._room_appeared = False

    async def run(self) -> None:
        """Schedule until cancelled."""
        while True:
            with self._store.watch(NODES, SERVICE_VERSIONS, TASKS) as watch:
                self._start_over()
                try:
                    while True:
                        await self._schedule(watch)
                        self._take(await watch.next())
                        self._take_all(watch)
                except CompactedError as error:
                    log.warning("scheduler_fell_behind", reason=error.message)

    def _start_over(self) -> None:
        self._fleet, self._groups, self._due, self._demands = Fleet(), {}, {}, {}
        view = self._store.view()
        for node in view.all(NODES):
            self._fleet.set_node(node)
        needs: dict[str, Need] = {v.id: need_of(v) for v in view.all(SERVICE_VERSIONS)}
        failed: list[Task] = []
        now_s = self._clock.now()
        for task in view.all(TASKS):
            if task.occupies_node and task.service_version_id in needs:
                self._fleet.place(task.id, task.node_id, needs[task.service_version_id])
            elif is_waiting(task):
                self._add(task)
            elif task.state in (TaskState.FAILED, TaskState.REJECTED):
                failed.append(task)
        for task in sorted(failed, key=lambda t: t.status_at):
            self._fleet.note_failure(task, min(task.status_at, now_s))

    def _add(self, task: Task) -> None:
        self._groups.setdefault(task.service_version_id, {})[task.id] = None
        self._due[task.service_version_id] = None

    def _drop(self, task: Task) -> None:
        group = self._groups.get(task.service_version_id)
        if group is not None and group.pop(task.id, True) is None and not group:
            del self._groups[task.service_version_id]

    def _take_all(self, watch: Watch) -> None:
        for commit in watch.drain():
            self._take(commit)

    def _take(self, commit: Commit) -> None:
        for node_change in commit.of(NODES):
            if node_change.after is None:
                self._fleet.remove_node(node_change.id)
            else:
                self._fleet.set_node(node_change.after)
                if _may_help(node_change):
                    self._room_appeared = True
        for version_change in commit.of(SERVICE_VERSIONS):
            if version_change.after is None:
                self._demands.pop(version_change.id, None)
                self._fleet.forget_version(version_change.id)
        for task_change in commit.of(TASKS):
            self._take_task(task_change)

    def _take_task(self, change: Change[Task]) -> None:
        before, after = change.before, change.after
        waited = before is not None and is_waiting(before)
        if after is not None and is_waiting(after):
            if not waited:
                self._add(after)
            return
        if before is not None and waited:
            self._drop(before)
        if after is not None and after.occupies_node:
            return
        if self._fleet.release(change.id):
            self._room_appeared = True
        stopped_now = after is not None and not (before and before.state.is_stopped)
        if after is not None and stopped_now and after.state in (TaskState.FAILED, TaskState.REJECTED):
            self._fleet.note_failure(after, self._clock.now())

    async def _schedule(self, watch: Watch) -> None:
        """Place every due group, a slice at a time, and take new commits in after each: none sees old room."""
        while self._due or self._room_appeared:
            if self._room_appeared:
                # Every group that waits may get it.
                self._room_appeared = False
                self._due.update(dict.fromkeys(self._groups))
                continue
            version_id = next(iter(self._due))
            del self._due[version_id]
            task_ids = [t for t in self._groups.get(version_id, ()) if self._still_waiting(t)]
            demand = self._demand(version_id)
            if not task_ids or demand is None:
                self._groups.pop(version_id, None)
                continue
            some, rest = task_ids[:GROUP_SLICE], task_ids[GROUP_SLICE:]
            placement = place(demand, some, self._fleet.nodes, self._clock.now())
            if placement.waiting:
                # The tasks of a group are alike: where one finds no node, none of the others does.
                placement = replace(placement, waiting=[*placement.waiting, *rest])
            elif rest:
                self._due[version_id] = None
            await self._assign(version_id, demand, placement)
            self._take_all(watch)

    def _still_waiting(self, task_id: str) -> bool:
        task = self._store.view().get(TASKS, task_id)
        return task is not None and is_waiting(task)

    def _demand(self, version_id: str) -> Demand | None:
        known = self._demands.get(version_id)
        if known is None:
            version = self._store.view().get(SERVICE_VERSIONS, version_id)
            if version is None:
                return None
            known = self._demands[version_id] = Demand.of(version)
        return known

    async def _assign(self, version_id: str, demand: Demand, placement: Placement) -> None:
        group = self._groups[version_id]
        for task_id, node_id in placement.nodes.items():
            self._fleet.place(task_id, node_id, demand.need)
            group.pop(task_id, None)
        if not group:
            del self._groups[version_id]
        chosen = list(placement.nodes.items())
        # The counts in the reason change with every node. Where very many tasks wait, only other words are written.
        exact = len(placement.waiting) <= MAX_CHANGES
        waiting = [t for t in placement.waiting if self._reason_differs(t, placement.reason, exact=exact)]
        changes = [_assigner(dict(some)) for some in _chunks(chosen)]
        changes += [_explainer(some, placement.reason) for some in _chunks(waiting)]
        skipped: list[str] = []
        for start in range(0, len(changes), WRITES_AT_ONCE):
            async with asyncio.TaskGroup() as writes:
                tasks = [writes.create_task(self._store.update(c)) for c in changes[start : start + WRITES_AT_ONCE]]
            skipped += [task_id for task in tasks for task_id in task.result()]
        for task_id in skipped:
            self._fleet.release(task_id)
            task = self._store.view().get(TASKS, task_id)
            if task is not None and is_waiting(task):
                self._add(task)

    def _reason_differs(self, task_id: str, reason: str, *, exact: bool) -> bool:
        task = self._store.view().get(TASKS, task_id)
        if task is None or task.pending_reason == reason:
            return False
        return exact or _words(task.pending_reason) != _words(reason)


def _words(reason: str) -> list[str]:
    """Return a reason's kinds, whatever their counts and their order."""
    kinds = re.sub(r" on \d+ nodes?", "", reason).removeprefix("no suitable node (").removesuffix(")")
    return sorted(kinds.split("; "))


def _chunks(items: Sequence[Item]) -> list[Sequence[Item]]:
    """Cut into as much as one transaction may change."""
    return [items[start : start + MAX_CHANGES] for start in range(0, len(items), MAX_CHANGES)]


def _may_help(change: Change[Node]) -> bool:
    """Whether a node's change can make room for a task that waits."""
    before, after = change.before, change.after
    if after is None or after.state is not NodeState.READY:
        return False
    if before is None:
        return True
    return (before.state, before.spec, before.description) != (after.state, after.spec, after.description)


def _assigner(nodes: Mapping[str, str]) -> Callable[[Transaction], list[str]]:
    """Return a change that assigns tasks, and that returns those which do not fit the state any more."""

    def change(tx: Transaction) -> list[str]:
        skipped = []
        for task_id, node_id in nodes.items():
            task, node = tx.get(TASKS, task_id), tx.get(NODES, node_id)
            if task is None or not is_waiting(task) or node is None or not accepts_tasks(node):
                skipped.append(task_id)
                continue
            tx.update(
                TASKS,
                msgspec.structs.replace(task, node_id=node_id, state=TaskState.ASSIGNED, pending_reason=""),
            )
        return skipped

    return change


def _explainer(task_ids: Sequence[str], reason: str) -> Callable[[Transaction], list[str]]:
    """Return a change that writes why tasks wait."""

    def change(tx: Transaction) -> list[str]:
        for task_id in task_ids:
            task = tx.get(TASKS, task_id)
            if task is not None and is_waiting(task) and task.pending_reason != reason:
                tx.update(TASKS, msgspec.structs.replace(task, pending_reason=reason))
        return []

    return change
