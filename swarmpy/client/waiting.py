"""Waiting, driven by the store's changes: for a service to converge, and for tasks to be gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol

from swarmpy.client.convergence import Convergence, Progress
from swarmpy.client.results import Changes, ObjectKind
from swarmpy.client.selection import TaskFilter
from swarmpy.client.services import Services
from swarmpy.client.tasks import Tasks
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.service import Service
from swarmpy.model.task import Task

_QUEUE_SIZE: Final = 64

Received = Changes | SwarmError


class Watches(Protocol):
    """What waiting needs of a client."""

    @property
    def services(self) -> Services: ...

    @property
    def tasks(self) -> Tasks: ...

    def watch(
        self, *, kinds: tuple[ObjectKind, ...] = (), since: int = 0, service_id: str = ""
    ) -> AsyncGenerator[Changes, None]: ...


async def converge(
    client: Watches,
    service: Service,
    *,
    monitor_s: float,
    show: Callable[[Progress], None],
    rollback: bool = False,
) -> None:
    """Return once the service has been as its spec asks for `monitor_s` seconds on end, or its update is complete.

    Args:
        service: as the mutation answered.
        show: called with each new state of things.
        rollback: whether the mutation is a rollback.

    Raises:
        SwarmError: FAILED_PRECONDITION, the update paused or was rolled back, or the service was removed.
    """
    state = Convergence(service, rollback=rollback)
    while True:
        tasks, revision = await client.tasks.snapshot(TaskFilter(service_ids=(service.id,)))
        state.reset((await client.services.get(service.id)).service, tasks)
        for task in state.unknown_versions().values():
            state.learn((await client.tasks.get(task.id))[1])
        changes = client.watch(kinds=(ObjectKind.SERVICE, ObjectKind.TASK), since=revision, service_id=service.id)
        try:
            async with _received(changes) as queue:
                await _until_stable(state, queue, monitor_s, show)
        except SwarmError as error:
            if error.code is not Code.COMPACTED:
                raise
        else:
            return


async def _until_stable(
    state: Convergence, queue: asyncio.Queue[Received], monitor_s: float, show: Callable[[Progress], None]
) -> None:
    loop = asyncio.get_running_loop()
    shown: Progress | None = None
    stable_at_s: float | None = None
    while True:
        progress = state.progress()
        if progress != shown:
            show(progress)
            shown = progress
        if progress.failure:
            raise precondition(progress.failure)
        if progress.verified:
            return
        if not progress.converged:
            stable_at_s = None
        elif stable_at_s is None:
            stable_at_s = loop.time() + monitor_s
        try:
            async with asyncio.timeout_at(stable_at_s):
                state.apply(_changes(await queue.get()).changes)
        except TimeoutError:
            return


async def tasks_gone(
    client: Watches, service_ids: Collection[str], *, show: Callable[[int], None] = lambda left: None
) -> None:
    """Return once no task of these (removed) services is left.

    Args:
        show: called with the number of tasks left, whenever it changes.
    """
    wanted = frozenset(service_ids)
    while wanted:
        tasks, revision = await client.tasks.snapshot(TaskFilter(service_ids=tuple(wanted)))
        left = {task.id for task in tasks}
        try:
            async with _received(client.watch(kinds=(ObjectKind.TASK,), since=revision)) as queue:
                show(len(left))
                while left:
                    before = len(left)
                    _follow(left, _changes(await queue.get()), wanted)
                    if len(left) != before:
                        show(len(left))
        except SwarmError as error:
            if error.code is not Code.COMPACTED:
                raise
        else:
            return


def _follow(left: set[str], changes: Changes, wanted: frozenset[str]) -> None:
    for change in changes.changes:
        task = change.object
        if isinstance(task, Task) and task.service_id in wanted:
            if change.removed:
                left.discard(task.id)
            else:
                left.add(task.id)


@asynccontextmanager
async def _received(changes: AsyncGenerator[Changes, None]) -> AsyncIterator[asyncio.Queue[Received]]:
    """Read a stream into a queue, so that waiting for the next item can be given up without ending the stream."""
    queue: asyncio.Queue[Received] = asyncio.Queue(_QUEUE_SIZE)

    async def read() -> None:
        try:
            async with aclosing(changes):
                async for item in changes:
                    await queue.put(item)
            await queue.put(SwarmError(Code.UNAVAILABLE, "the manager ended the stream of changes; try again"))
        except SwarmError as error:
            await queue.put(error)

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(read())
        try:
            yield queue
        except SwarmError as error:
            failure: SwarmError | None = error
        else:
            failure = None
        finally:
            reader.cancel()
    # Raised out here: a TaskGroup would wrap it in an exception group.
    if failure is not None:
        raise failure


def _changes(received: Received) -> Changes:
    if isinstance(received, SwarmError):
        raise received
    return received
