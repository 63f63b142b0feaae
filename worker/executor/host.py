"""The connection to the task host, kept: exits and inventories come out of it, requests go into it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from worker.backoff import full_jitter_s
from worker.executor.protocol import Found, Listener, Started
from worker.task.outcome import Exit
from worker.taskhost.client import ExecRequest, ExecResult, StartRequest, TaskExit, TaskRow
from worker.taskhost.client import Started as HostStarted

LOST: Final = "exit status lost: the task host was killed"
_RETRY_BASE_S: Final = 0.02
_RETRY_CAP_S: Final = 1.0
_log = structlog.get_logger()


class TaskHost(Protocol):
    """What is needed of a connection to the task host (`worker.taskhost.client.TaskHostClient`)."""

    closed: asyncio.Event

    async def start(self, request: StartRequest) -> HostStarted: ...
    async def signal(self, task_id: str, signum: int) -> bool: ...
    async def tasks(self) -> list[TaskRow]: ...
    async def forget(self, task_id: str) -> None: ...
    async def subscribe(self) -> None: ...
    async def exec(self, request: ExecRequest) -> ExecResult: ...
    async def close(self) -> None: ...


Connect = Callable[[Callable[[TaskExit], None]], Awaitable[TaskHost]]


class HostLink:
    """One connection at a time, made again with back-off when it ends."""

    def __init__(self, connect: Connect, clock: Clock, rng: random.Random) -> None:
        """
        Args:
            connect: opens a connection whose exits go to the given function; raises SwarmError UNAVAILABLE.
        """
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._host: TaskHost | None = None

    @property
    def host(self) -> TaskHost:
        """The present connection.

        Raises:
            SwarmError: UNAVAILABLE, there is none; it is being made.
        """
        if self._host is None or self._host.closed.is_set():
            raise SwarmError(Code.UNAVAILABLE, "the task host is not connected; swarmpyd is starting it")
        return self._host

    async def run(self, listener: Listener, describe: Callable[[str, TaskExit], Exit]) -> None:
        """Keep connected until cancelled.

        Args:
            describe: makes of a task's exit what people are to know of it.
        """
        failures = 0
        while True:
            try:
                await self._session(listener, describe)
                failures = 0
            except SwarmError as error:
                failures += 1
                if failures == 1:
                    _log.warning("no task host", error=error.message)
            delay_s = full_jitter_s(failures + 1, self._rng, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
            await self._clock.sleep(max(0.001, delay_s))

    async def _session(self, listener: Listener, describe: Callable[[str, TaskExit], Exit]) -> None:
        host = await self._connect(lambda e: listener.exited(e.id, describe(e.id, e)))
        try:
            rows = await host.tasks()
            self._host = host
            listener.inventory({row.id: _found(row, describe) for row in rows})
            await host.subscribe()
            await host.closed.wait()
        finally:
            self._host = None
            await host.close()


def _found(row: TaskRow, describe: Callable[[str, TaskExit], Exit]) -> Found:
    ended = describe(row.id, row.exit) if row.exit is not None else None
    return Found(Started(row.pid, row.start_time), ended)


def plain_exit(ended: TaskExit) -> Exit:
    """Return a task host's exit in the runner's words."""
    if ended.status is None or ended.lost:
        return Exit(None, ended.at_s, problem=LOST)
    return Exit(os.waitstatus_to_exitcode(ended.status), ended.at_s)
