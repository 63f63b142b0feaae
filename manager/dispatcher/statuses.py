"""Task statuses on their way from the workers into the store: merged, in order, acknowledged once committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from manager.store.store import Store
from manager.store.tables import TASKS
from manager.store.transaction import Transaction
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task, TaskStatus

log = structlog.get_logger(__name__)

MAX_CHANGES: Final = 200
MAX_BATCHES: Final = 4096
IN_FLIGHT: Final = 4


@dataclass(frozen=True)
class Report:
    """What one worker says of one of its tasks."""

    task_id: str
    status: TaskStatus


@dataclass(frozen=True)
class Batch:
    """Reports of one node, and what to call once they are committed."""

    node_id: str
    reports: Sequence[Report]
    committed: Callable[[], None]


def accepts(task: Task | None, node_id: str, status: TaskStatus) -> bool:
    """Tell whether a report changes its task: a state never moves back, and a stopped task does not change."""
    if task is None or task.node_id != node_id or task.state.is_stopped:
        return False
    return TaskState.ACCEPTED <= status.state >= task.state and task.status != status


class StatusWriter:
    """Takes batches from all sessions and writes them, several transactions at once, none larger than the limit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: asyncio.Queue[Batch] = asyncio.Queue(MAX_BATCHES)
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def put(self, batch: Batch) -> None:
        """Hand a batch over; waits while too many are queued, which slows the worker's stream down."""
        await self._queue.put(batch)

    async def run(self) -> None:
        """Write what is handed over, until cancelled. A transaction that fails ends leadership."""
        async with asyncio.TaskGroup() as group:
            while True:
                batches = [await self._queue.get()]
                size = len(batches[0].reports)
                while size < MAX_CHANGES and not self._queue.empty():
                    batches.append(self._queue.get_nowait())
                    size += len(batches[-1].reports)
                await self._slots.acquire()
                group.create_task(self._write(batches))

    async def _write(self, batches: Sequence[Batch]) -> None:
        try:
            rows = [(b.node_id, report) for b in batches for report in b.reports]
            chunks = [rows[i : i + MAX_CHANGES] for i in range(0, len(rows), MAX_CHANGES)]
            async with asyncio.TaskGroup() as group:
                for chunk in chunks:
                    # Also where nothing seems to change: what it is held against may be in flight still, and then
                    # the store waits for it, so that an acknowledgement never runs ahead.
                    group.create_task(self._store.update(_writer(chunk)))
            for batch in batches:
                batch.committed()
        finally:
            self._slots.release()


def _writer(rows: Iterable[tuple[str, Report]]) -> Callable[[Transaction], None]:
    def write(tx: Transaction) -> None:
        for node_id, report in rows:
            task = tx.get(TASKS, report.task_id)
            if task is not None and accepts(task, node_id, report.status):
                tx.update(TASKS, task.with_status(report.status))

    return write
