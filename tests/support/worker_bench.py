"""What the worker's end-to-end tests share: a worker, its task host and its manager, and their clean end."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.model.service import ServiceVersion
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from tests.support.dispatcher import FakeDispatcher, service_version
from tests.support.task_host_process import TaskHostProcess
from tests.support.worker_parts import WorkerParts


@dataclass
class Bench:
    """`directory` is the worker's state directory."""

    host: TaskHostProcess
    manager: FakeDispatcher
    worker: WorkerParts

    @property
    def directory(self) -> Path:
        return self.host.directory

    async def printed(self, task_id: str = "task1", *, stream: int = 1) -> str:
        """Return all that a task has printed so far, as the manager is told."""
        lines = await self.log_lines(pb.LogSubscription(id=f"all-{len(self.manager.logs)}", task_ids=[task_id]))
        return b"".join(line.data for line in lines if line.stream == stream).decode()

    async def log_lines(self, subscription: pb.LogSubscription) -> list[pb.WorkerLogLine]:
        """Subscribe and return the lines up to the end of the subscription."""
        self.manager.send(pb.ManagerMessage(log_subscription=subscription))
        await self.manager.until(
            lambda: any(c.done for c in self.chunks(subscription.id)), f"subscription {subscription.id} is done"
        )
        return [line for chunk in self.chunks(subscription.id) for line in chunk.lines]

    def chunks(self, subscription_id: str) -> list[pb.LogChunk]:
        return [c for c in self.manager.logs if c.subscription_id == subscription_id]

    async def finished(self, version: ServiceVersion, task_id: str = "task1") -> TaskStatus:
        """Assign a task and return its final status."""
        self.manager.assign(version, task_id)
        return await self.manager.status(task_id, TaskState.COMPLETE)


@asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    async with TaskHostProcess() as host, FakeDispatcher() as manager, AsyncExitStack() as stack:
        worker = WorkerParts(host.directory, [manager.address])
        await worker.start(stack)
        await manager.until(lambda: manager.hellos, "the worker has connected")
        yield Bench(host, manager, worker)


def shell(script: str, **fields: Any) -> ServiceVersion:
    """Return a template that runs a line of shell."""
    return service_version(command=("sh", "-c"), args=(script,), **fields)


def python(script: str, **fields: Any) -> ServiceVersion:
    """Return a template that runs a piece of Python."""
    return service_version(command=(sys.executable, "-u", "-c", script), **fields)
