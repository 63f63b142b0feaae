"""The connection to containerd, kept: an inventory after each (re)connection, then exits as they come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from swarmpy.cancelling import end_if_cancelled
from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from worker.backoff import full_jitter_s
from worker.containerd.types import Exited, Process, ProcessStatus, TaskExit
from worker.executor.container.parts import Client
from worker.executor.protocol import Found, Listener, Started
from worker.task.outcome import Exit

_FILTER: Final = 'topic=="/tasks/exit"'
_RETRY_BASE_S: Final = 0.02
_RETRY_CAP_S: Final = 1.0
_STARTED: Final = (ProcessStatus.RUNNING, ProcessStatus.PAUSED, ProcessStatus.PAUSING, ProcessStatus.STOPPED)
_log = structlog.get_logger()

Describe = Callable[[str, Exited], Awaitable[Exit]]
"""Makes of a container's exit what people are to know of it."""


class Watch:
    """Tells a listener what happens to the containers of one namespace."""

    def __init__(
        self, client: Client, clock: Clock, rng: random.Random, start_time: Callable[[int], int], describe: Describe
    ) -> None:
        """
        Args:
            start_time: returns the start time of a process in clock ticks since boot, 0 if it is gone.
        """
        self._client = client
        self._clock = clock
        self._rng = rng
        self._start_time = start_time
        self._describe = describe
        self._pids: dict[str, int] = {}
        self._new: dict[str, int] = {}  # noted since an inventory was asked for, which may not have them

    def note(self, task_id: str, pid: int) -> None:
        """Remember a container's process: exits of another one are of an earlier start, and are not told."""
        self._pids[task_id] = self._new[task_id] = pid

    def forget(self, task_id: str) -> None:
        self._pids.pop(task_id, None)
        self._new.pop(task_id, None)

    async def run(self, listener: Listener) -> None:
        """Watch until cancelled; while containerd is away, try again with back-off."""
        failures = 0
        async with asyncio.TaskGroup() as telling:
            while True:
                try:
                    await self._session(listener, telling)
                    failures = 0
                except SwarmError as error:
                    end_if_cancelled()
                    failures += 1
                    if failures == 1:
                        _log.warning("containerd is not reached", error=error.message)
                delay_s = full_jitter_s(failures + 1, self._rng, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
                await self._clock.sleep(max(0.001, delay_s))

    async def _session(self, listener: Listener, telling: asyncio.TaskGroup) -> None:
        async with self._client.events.subscribe(_FILTER) as events:
            # Asked after the subscription has begun, so that no exit falls between the two.
            self._new.clear()
            processes = await self._client.tasks.list()
            started = [p for p in processes if p.status in _STARTED]
            self._pids.update({p.container_id: p.pid for p in started})
            found = {p.container_id: await self._found(p) for p in started}
            late = {task_id: Found(Started(pid, self._start_time(pid))) for task_id, pid in self._new.items()}
            listener.inventory(late | found)
            async for event in events:
                if isinstance(event, TaskExit) and not event.exec_id and self._is_known(event):
                    exited = Exited(event.status, event.at_s)
                    telling.create_task(self.tell(listener, event.container_id, exited))

    async def tell(self, listener: Listener, task_id: str, exited: Exited) -> None:
        """Tell the listener of one exit."""
        listener.exited(task_id, await self._describe(task_id, exited))

    def _is_known(self, event: TaskExit) -> bool:
        """Whether it is the exit of the process that is noted; a shim that was killed may leave no pid to tell."""
        pid = self._pids.get(event.container_id)
        return pid is not None and event.pid in (pid, 0)

    async def _found(self, process: Process) -> Found:
        started = Started(process.pid, self._start_time(process.pid))
        if process.status is not ProcessStatus.STOPPED:
            return Found(started)
        exited = process.exited or Exited(0, self._clock.now())
        return Found(started, await self._describe(process.container_id, exited))
