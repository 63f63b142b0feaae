"""What the benchmarks of a cluster share: specs of plain processes, and tasks followed by the store's changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Final, Self

from swarmpy.client import Changes, Client, ObjectKind, TaskFilter
from swarmpy.model.service import Service
from swarmpy.model.spec import ContainerSpec, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import Task

WAIT_S: Final = 120.0


def process_spec(name: str, *, replicas: int, seconds: int = 3600, update: UpdateConfig | None = None) -> ServiceSpec:
    """Return a service whose tasks are `sleep`."""
    task = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(command=("sleep", str(seconds))))
    return ServiceSpec(name=name, task=task, mode=ServiceMode(replicas=replicas), update=update or UpdateConfig())


class Followed:
    """The tasks of a service, kept up to date by the store's changes rather than by asking again."""

    def __init__(self, client: Client, service: Service) -> None:
        self._client = client
        self._service = service
        self._changes: AsyncGenerator[Changes] | None = None
        self.tasks: dict[str, Task] = {}

    async def __aenter__(self) -> Self:
        tasks, revision = await self._client.tasks.snapshot(TaskFilter(service_ids=(self._service.id,)))
        self.tasks = {task.id: task for task in tasks}
        self._changes = self._client.watch(kinds=(ObjectKind.TASK,), since=revision, service_id=self._service.id)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._changes is not None:
            await self._changes.aclose()

    def running(self, spec_version: int = 0) -> list[Task]:
        """Return the wanted tasks that run, of one version of the spec or (0) of any."""
        return [
            task
            for task in self.tasks.values()
            if task.state is TaskState.RUNNING and task.is_wanted and spec_version in (0, task.spec_version)
        ]

    async def until(self, done: Callable[[Followed], bool], *, within_s: float = WAIT_S) -> None:
        """Take in changes until `done`. TimeoutError: it took too long."""
        assert self._changes is not None, "used inside `async with`"
        async with asyncio.timeout(within_s):
            while not done(self):
                self._take(await anext(self._changes))

    def _take(self, changes: Changes) -> None:
        for change in changes.changes:
            if isinstance(change.object, Task):
                if change.removed:
                    self.tasks.pop(change.object.id, None)
                else:
                    self.tasks[change.object.id] = change.object


async def gone(client: Client, service_id: str) -> None:
    """Wait until no task of a removed service is left."""
    from swarmpy.client.waiting import tasks_gone

    async with asyncio.timeout(WAIT_S):
        await tasks_gone(client, (service_id,))
