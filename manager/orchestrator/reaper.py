"""The control loop that deletes task rows and service versions whose time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import structlog

from manager.orchestrator.actions import age_order
from manager.orchestrator.history import can_be_removed, expired, unused_versions
from manager.store.commit import Change, Commit
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES, SERVICE_VERSIONS, SERVICES, TASKS, T, Table
from manager.store.transaction import Transaction
from manager.store.view import View
from manager.store.watch import CompactedError, Watch
from swarmpy.model.cluster import Cluster, ClusterSpec
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.states import NodeState, TaskState
from swarmpy.model.task import Task

_BATCH: Final = 200
_SLICE: Final = 100

Slot = tuple[str, int]


class Reaper:
    """Deletes at once what there is to delete when idle, and in batches of up to 200 rows when there is more."""

    def __init__(self, store: Store, *, logger: structlog.typing.FilteringBoundLogger | None = None) -> None:
        self._store = store
        self._log = logger or structlog.get_logger()
        self._slots: set[Slot] = set()
        self._services: set[str] = set()
        self._all_slots = False

    async def run(self) -> None:
        """Work until cancelled. Raises what the store raises when this manager loses its leadership."""
        while True:
            try:
                with self._store.watch(CLUSTERS, NODES, SERVICES, TASKS) as watch:
                    await self._follow(watch)
            except CompactedError as error:
                self._log.info("reaper_starts_over", revision=error.revision)

    async def _follow(self, watch: Watch) -> None:
        self._slots.clear()
        view = self._store.view()
        self._services = {service.id for service in view.all(SERVICES)}
        self._services.update(version.service_id for version in view.all(SERVICE_VERSIONS))
        self._all_slots = True
        while True:
            while self._slots or self._services or self._all_slots:
                await self._gather_all()
                await self._reap_slots(watch)
                await self._reap_versions(watch)
            self._absorb([await watch.next(), *watch.drain()])

    async def _gather_all(self) -> None:
        """Mark every slot that could hold something to delete, if all are to be looked at."""
        if not self._all_slots:
            return
        self._all_slots = False
        tasks = list(self._store.view().all(TASKS))
        for start in range(0, len(tasks), _SLICE * 10):
            for task in tasks[start : start + _SLICE * 10]:
                if not task.is_wanted:
                    self._slots.add((task.service_id, task.slot))
            await asyncio.sleep(0)

    def _absorb(self, commits: Iterable[Commit]) -> None:
        for commit in commits:
            for task_change in commit.of(TASKS):
                self._task_changed(task_change)
            for service_change in commit.of(SERVICES):
                self._service_changed(service_change)
            for node_change in commit.of(NODES):
                self._node_changed(node_change)
            for cluster_change in commit.of(CLUSTERS):
                if _history_limit(cluster_change.before) != _history_limit(cluster_change.after):
                    self._all_slots = True

    def _task_changed(self, change: Change[Task]) -> None:
        before, task = change.before, change.after
        if task is None:
            if before is not None:
                self._template_left(before)
        elif before is None or (
            (task.state.is_stopped or task.desired_state is TaskState.REMOVE)
            and (before.state, before.desired_state) != (task.state, task.desired_state)
        ):
            # A new task pushes the slot's oldest out; one that stopped may go itself.
            self._slots.add((task.service_id, task.slot))

    def _template_left(self, task: Task) -> None:
        """Note that a template may have lost its last task: of a service that is gone, or of an old version."""
        service = self._store.view().get(SERVICES, task.service_id)
        if service is None or task.spec_version < service.spec_version - 1:
            self._services.add(task.service_id)

    def _service_changed(self, change: Change[Service]) -> None:
        before, service = change.before, change.after
        if before is None or service is None or before.spec_version != service.spec_version:
            self._services.add(change.id)
        elif before.update_status.state != service.update_status.state:
            # What an update had to remember may go at its end.
            for task in self._store.view().find(TASKS, "service_id", service.id):
                if task.state.is_stopped:
                    self._slots.add((task.service_id, task.slot))

    def _node_changed(self, change: Change[Node]) -> None:
        if change.after is None or change.after.state is NodeState.DOWN:
            for task in self._store.view().find(TASKS, "node_id", change.id):
                if not task.is_wanted:
                    self._slots.add((task.service_id, task.slot))

    async def _reap_slots(self, watch: Watch) -> None:
        slots, self._slots = sorted(self._slots), set()
        doomed: list[str] = []
        for turn, slot in enumerate(slots, 1):
            doomed += [task.id for task in self._expired_in(slot)]
            if turn % _SLICE == 0:
                await asyncio.sleep(0)
            if len(doomed) >= _BATCH or turn == len(slots):
                await self._delete(TASKS, doomed)
                self._absorb(watch.drain())
                doomed = []

    def _expired_in(self, slot: Slot) -> list[Task]:
        view = self._store.view()
        service_id, number = slot
        tasks = sorted(view.find(TASKS, "slot", f"{service_id}/{number}"), key=age_order)
        service = view.get(SERVICES, service_id)

        def node_of(node_id: str) -> Node | None:
            return view.get(NODES, node_id)

        if service is None:
            return [task for task in tasks if can_be_removed(task, node_of)]
        return expired(tasks, service, history_limit(view), node_of)

    async def _reap_versions(self, watch: Watch) -> None:
        service_ids, self._services = sorted(self._services), set()
        doomed: list[str] = []
        for turn, service_id in enumerate(service_ids, 1):
            doomed += await self._unused_versions_of(service_id)
            if doomed and (len(doomed) >= _BATCH or turn == len(service_ids)):
                await self._delete(SERVICE_VERSIONS, doomed)
                doomed = []
            self._absorb(watch.drain())
        if doomed:
            await self._delete(SERVICE_VERSIONS, doomed)

    async def _unused_versions_of(self, service_id: str) -> list[str]:
        view = self._store.view()
        versions = list(view.find(SERVICE_VERSIONS, "service_id", service_id))
        if len(versions) <= 1 and view.get(SERVICES, service_id) is not None:
            return []
        tasks = list(view.find(TASKS, "service_id", service_id))
        in_use: set[int] = set()
        for start in range(0, len(tasks), _SLICE * 10):
            in_use.update(task.spec_version for task in tasks[start : start + _SLICE * 10])
            await asyncio.sleep(0)
        service = self._store.view().get(SERVICES, service_id)
        return [version.id for version in unused_versions(service, versions, in_use)]

    async def _delete(self, table: Table[T], row_ids: Sequence[str]) -> None:
        """Delete the rows with these ids that are still there."""
        for start in range(0, len(row_ids), _BATCH):
            rows = await self._store.update(partial(_delete_present, table, row_ids[start : start + _BATCH]))
            self._log.debug("reaped", table=table.name, rows=rows)


def _delete_present(table: Table[T], row_ids: Sequence[str], tx: Transaction) -> int:
    present = [row_id for row_id in row_ids if tx.get(table, row_id) is not None]
    for row_id in present:
        tx.delete(table, row_id)
    return len(present)


def history_limit(view: View) -> int:
    """Return how many tasks of a slot the cluster keeps."""
    return next((_history_limit(cluster) for cluster in view.all(CLUSTERS)), ClusterSpec().task_history_limit)


def _history_limit(cluster: Cluster | None) -> int:
    return ClusterSpec().task_history_limit if cluster is None else cluster.spec.task_history_limit
