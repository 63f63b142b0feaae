"""Everything of a cluster but the orchestrator, scripted: allocator, scheduler and workers in one.

`FakeCluster.step()` moves every task on by one state, in order of id, in the store. What a task does once it runs
stands in a table, so that a test reads as a story.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import msgspec

from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from manager.store.view import View
from swarmpy.model.cluster import Cluster, ClusterSpec
from swarmpy.model.node import Node, NodeSpec
from swarmpy.model.service import Service, ServiceVersion, UpdateStatus, version_id
from swarmpy.model.spec import ContainerSpec, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig
from swarmpy.model.states import Availability, NodeState, TaskState
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle


class Does(enum.Enum):
    """What a task does when it is let run."""

    SERVE = "serve"
    FAIL = "fail"
    COMPLETE = "complete"
    REJECT = "reject"
    NEVER_READY = "never ready"
    HANG_ON_STOP = "hang on stop"


class ControlLoop(Protocol):
    async def run(self) -> None: ...


Script = Callable[[Task], Does]
_PREPARED: Final = {
    TaskState.NEW: TaskState.PENDING,
    TaskState.ASSIGNED: TaskState.ACCEPTED,
    TaskState.ACCEPTED: TaskState.PREPARING,
    TaskState.PREPARING: TaskState.READY,
    TaskState.STARTING: TaskState.RUNNING,
}
BATCH: Final = 200


def random_source(seed: int = 0) -> Callable[[int], bytes]:
    """Return a source of bytes that count up, so that ids are in order of their making."""
    numbers = itertools.count(seed * 10**9 + 1)
    return lambda size: next(numbers).to_bytes(size, "big")


def node(name: str, *, state: NodeState = NodeState.READY, labels: dict[str, str] | None = None) -> Node:
    return Node(id=name, spec=NodeSpec(name=name, labels=labels or {}), state=state)


def service_spec(
    name: str = "web",
    *,
    image: str = "app:1",
    replicas: int = 3,
    update: UpdateConfig | None = None,
    task: TaskSpec | None = None,
) -> ServiceSpec:
    template = task or TaskSpec()
    template = msgspec.structs.replace(template, container=ContainerSpec(image=image))
    mode = ServiceMode(replicas=replicas)
    return ServiceSpec(name=name, task=template, mode=mode, update=update or UpdateConfig())


def _version(service: Service) -> ServiceVersion:
    return ServiceVersion(
        id=version_id(service.id, service.spec_version),
        service_id=service.id,
        number=service.spec_version,
        name=service.name,
        task=service.spec.task,
    )


class Workers:
    """Allocator, scheduler and workers: what one step does to one task."""

    def __init__(self, view: Callable[[], View], now: Callable[[], float], script: Script | None = None) -> None:
        self.view = view
        self.now = now
        self.script: Script = script or (lambda task: Does.SERVE)

    def advance(self, task: Task, load: Counter[str]) -> Task:
        """Return the task one state further, or itself. `load` counts tasks by node; it is kept up."""
        if task.state.is_stopped:
            return task
        if task.state is TaskState.PENDING:
            return self._assigned(task, load)
        if task.node_id:
            where = self.view().get(NODES, task.node_id)
            if where is None or where.state is NodeState.DOWN:
                return task
            if task.desired_state > TaskState.RUNNING:
                stays = self.script(task) is Does.HANG_ON_STOP and task.state is TaskState.RUNNING
                return task if stays else self.ended(task, TaskState.SHUTDOWN)
        if task.state in _PREPARED:
            return self._reached(task, _PREPARED[task.state])
        if task.state is TaskState.READY and task.desired_state is TaskState.RUNNING:
            return self._reached(task, TaskState.STARTING)
        return self._running(task) if task.state is TaskState.RUNNING else task

    def _assigned(self, task: Task, load: Counter[str]) -> Task:
        fitting = [
            row.id
            for row in self.view().all(NODES)
            if row.state is NodeState.READY and row.spec.availability is Availability.ACTIVE
        ]
        if not fitting:
            reason = "no suitable node"
            return task if task.pending_reason else msgspec.structs.replace(task, pending_reason=reason)
        chosen = min(fitting, key=lambda name: (load[name], name))
        load[chosen] += 1
        return msgspec.structs.replace(
            task, state=TaskState.ASSIGNED, node_id=chosen, pending_reason="", status_at=self.now()
        )

    def _reached(self, task: Task, state: TaskState) -> Task:
        if state is TaskState.PREPARING and self.script(task) is Does.REJECT:
            return self.ended(task, TaskState.REJECTED)
        return msgspec.structs.replace(task, state=state, status_at=self.now())

    def _running(self, task: Task) -> Task:
        match self.script(task):
            case Does.FAIL:
                return self.ended(task, TaskState.FAILED)
            case Does.COMPLETE:
                return self.ended(task, TaskState.COMPLETE)
            case Does.NEVER_READY:
                return task
        return task if task.ready else msgspec.structs.replace(task, ready=True, ready_since=self.now())

    def ended(self, task: Task, state: TaskState) -> Task:
        if task.state.is_stopped:
            return task
        return msgspec.structs.replace(
            task,
            state=state,
            status_at=self.now(),
            ready=False,
            exit_code=0 if state is TaskState.COMPLETE else 1 if state is TaskState.FAILED else None,
            error="exit code 1" if state is TaskState.FAILED else "",
        )


class FakeCluster:
    """The control API, allocator, scheduler and workers, over a store, one step at a time."""

    def __init__(self, store: Store, clock: FakeClock, script: Script | None = None) -> None:
        self.store = store
        self.clock = clock
        self.workers = Workers(store.view, clock.now, script)

    async def add_nodes(self, *names: str) -> None:
        await self.store.update(lambda tx: [tx.create(NODES, node(name)) for name in names])

    async def limit_history(self, limit: int) -> None:
        cluster = Cluster(id="cluster", spec=ClusterSpec(task_history_limit=limit))
        await self.store.update(lambda tx: tx.create(CLUSTERS, cluster))

    async def change_node(
        self,
        name: str,
        *,
        state: NodeState | None = None,
        availability: Availability | None = None,
        labels: dict[str, str] | None = None,
    ) -> None:
        def change(tx: Transaction) -> None:
            row = tx.get(NODES, name)
            assert row is not None
            spec = msgspec.structs.replace(
                row.spec,
                availability=row.spec.availability if availability is None else availability,
                labels=row.spec.labels if labels is None else labels,
            )
            tx.update(NODES, msgspec.structs.replace(row, spec=spec, state=row.state if state is None else state))

        await self.store.update(change)

    async def remove_node(self, name: str) -> None:
        await self.store.update(lambda tx: tx.delete(NODES, name))

    async def create_service(self, spec: ServiceSpec, service_id: str = "") -> str:
        now = self.clock.now()
        service = Service(id=service_id or spec.name, spec=spec, created_at=now, updated_at=now)

        def change(tx: Transaction) -> str:
            tx.create(SERVICE_VERSIONS, _version(service))
            return tx.create(SERVICES, service).id

        return await self.store.update(change)

    async def update_service(self, service_id: str, spec: ServiceSpec) -> None:
        """Replace the spec as the control API does: another template is another version."""

        def change(tx: Transaction) -> None:
            before = tx.get(SERVICES, service_id)
            assert before is not None
            changed = before.spec.task != spec.task
            after = msgspec.structs.replace(
                before,
                spec=spec,
                previous_spec=before.spec,
                spec_version=before.spec_version + changed,
                updated_at=max(self.clock.now(), before.updated_at + 0.001),
                update_status=UpdateStatus() if changed else before.update_status,
            )
            tx.update(SERVICES, after)
            if changed:
                tx.create(SERVICE_VERSIONS, _version(after))

        await self.store.update(change)

    async def remove_service(self, service_id: str) -> None:
        await self.store.update(lambda tx: tx.delete(SERVICES, service_id))

    def service(self, service_id: str) -> Service:
        row = self.store.view().get(SERVICES, service_id)
        assert row is not None
        return row

    def tasks(self, service_id: str) -> list[Task]:
        """Return a service's tasks by slot, each slot's oldest first."""
        rows = self.store.view().find(TASKS, "service_id", service_id)
        return sorted(rows, key=lambda task: (task.slot, task.created_at, task.id))

    def running(self, service_id: str) -> list[Task]:
        return [task for task in self.tasks(service_id) if task.is_endpoint]

    async def settle(self, *, rounds: int = 400) -> None:
        """Step until nothing happens any more without time passing."""
        for _ in range(rounds):
            await settle()
            if not await self.step():
                before = self.store.revision
                await settle()
                if self.store.revision == before:
                    return
        raise AssertionError(f"the cluster does not come to rest in {rounds} rounds")

    async def end(self, task_id: str, state: TaskState = TaskState.FAILED) -> None:
        """Have a task end by itself."""
        await self._write([task_id], lambda task: self.workers.ended(task, state))

    async def step(self) -> int:
        """Move every task on by one state; return how many moved."""
        view = self.store.view()
        load = Counter(task.node_id for task in view.all(TASKS) if task.occupies_node)
        moved: dict[str, Task] = {}
        for task in sorted(view.all(TASKS), key=lambda task: task.id):
            after = self.workers.advance(task, load)
            if after is not task:
                moved[task.id] = after
        await self._write(list(moved), lambda task: self.workers.advance(task, Counter({moved[task.id].node_id: -1})))
        return len(moved)

    async def _write(self, task_ids: Sequence[str], move: Callable[[Task], Task]) -> None:
        for start in range(0, len(task_ids), BATCH):
            some = task_ids[start : start + BATCH]

            def change(tx: Transaction, some: Sequence[str] = some) -> None:
                for task_id in some:
                    task = tx.get(TASKS, task_id)
                    if task is not None and (after := move(task)) is not task:
                        tx.update(TASKS, after)

            await self.store.update(change)


@asynccontextmanager
async def leading(*loops: ControlLoop) -> AsyncIterator[None]:
    """Run control loops as a leader does, until the block ends."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(loop.run()) for loop in loops]
        try:
            await settle()
            yield
        finally:
            for task in running:
                task.cancel()
