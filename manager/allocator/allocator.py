"""The allocator's loop: services that lack something get it, then their tasks may be scheduled."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Final

import msgspec
import structlog

from manager.allocator.plan import Pools, allocate
from manager.store.commit import Commit
from manager.store.store import Store
from manager.store.tables import SERVICES, TASKS
from manager.store.transaction import Transaction
from manager.store.view import View
from manager.store.watch import CompactedError
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.states import TaskState

log = structlog.get_logger(__name__)

MAX_CHANGES: Final = 200


def is_allocated(service: Service) -> bool:
    """Whether the service has what its present spec asks for."""
    return service.allocated_for == service.spec.endpoint


class Allocator:
    """Runs on the leader. The pools are rebuilt from the stored endpoints whenever it starts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pools = Pools()
        self._services: dict[str, None] = {}
        self._tasks: dict[str, None] = {}
        self._freed = False

    async def run(self) -> None:
        """Allocate until cancelled."""
        while True:
            with self._store.watch(SERVICES, TASKS) as watch:
                self._start_over(self._store.view())
                try:
                    while True:
                        await self._work()
                        self._take(await watch.next())
                        for commit in watch.drain():
                            self._take(commit)
                except CompactedError as error:
                    log.warning("allocator_fell_behind", reason=error.message)

    def _start_over(self, view: View) -> None:
        self._pools = Pools()
        services = list(view.all(SERVICES))
        for service in services:
            self._pools.hold(service.endpoint)
        self._services = dict.fromkeys(s.id for s in services if not is_allocated(s))
        self._tasks = dict.fromkeys(t.id for t in view.all(TASKS) if t.state is TaskState.NEW)

    def _take(self, commit: Commit) -> None:
        for service_change in commit.of(SERVICES):
            after = service_change.after
            if after is None:
                assert service_change.before is not None, "a removed row was there before"
                self._pools.release(service_change.before.endpoint)
            had = service_change.before.endpoint if service_change.before is not None else Endpoint()
            if had != (after.endpoint if after is not None else Endpoint()) and had != Endpoint():
                self._freed = True
            if after is None:
                continue
            if not is_allocated(after):
                self._services[after.id] = None
            elif service_change.before is None or not is_allocated(service_change.before):
                new = self._store.view().find(TASKS, "service_id", after.id)
                self._tasks.update(dict.fromkeys(t.id for t in new if t.state is TaskState.NEW))
        for task_change in commit.of(TASKS):
            if task_change.after is not None and task_change.after.state is TaskState.NEW:
                self._tasks[task_change.id] = None

    def _waiting(self) -> list[str]:
        return [s.id for s in self._store.view().all(SERVICES) if s.allocation_problem]

    async def _work(self) -> None:
        while self._services or self._tasks or self._freed:
            if self._freed:
                # A number may have become free: whoever waits for one may get it.
                self._freed = False
                self._services.update(dict.fromkeys(self._waiting()))
            services, self._services = list(self._services), {}
            tasks = list(islice(self._tasks, MAX_CHANGES))
            for task_id in tasks:
                del self._tasks[task_id]
            for start in range(0, len(services), MAX_CHANGES):
                await self._store.update(self._allocate(services[start : start + MAX_CHANGES]))
            if tasks:
                await self._store.update(_release_tasks(tasks))

    def _allocate(self, service_ids: list[str]) -> Callable[[Transaction], None]:
        def change(tx: Transaction) -> None:
            for service_id in service_ids:
                service = tx.get(SERVICES, service_id)
                if service is None or is_allocated(service):
                    continue
                given = allocate(service, self._pools)
                changed = msgspec.structs.replace(
                    service,
                    endpoint=given.endpoint,
                    allocated_for=service.allocated_for if given.problem else service.spec.endpoint,
                    allocation_problem=given.problem,
                )
                if changed != service:
                    tx.update(SERVICES, changed)

        return change


def _release_tasks(task_ids: list[str]) -> Callable[[Transaction], None]:
    def change(tx: Transaction) -> None:
        for task_id in task_ids:
            task = tx.get(TASKS, task_id)
            if task is None or task.state is not TaskState.NEW:
                continue
            service = tx.get(SERVICES, task.service_id)
            if service is not None and is_allocated(service):
                tx.update(TASKS, msgspec.structs.replace(task, state=TaskState.PENDING, pending_reason=""))
            elif service is not None and service.allocation_problem != task.pending_reason:
                tx.update(TASKS, msgspec.structs.replace(task, pending_reason=service.allocation_problem))

    return change
