"""Serves the manager's log subscriptions: reads the tasks' logs and hands on chunks as fast as they are taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

import structlog

from worker.logs.format import LogLine
from worker.logs.reader import LogCursor
from worker.logs.store import LogStore

MOST_LINES: Final = 256
MOST_BYTES: Final = 64 * 1024
MOST_SUBSCRIPTIONS: Final = 64
_NO_END: Final = float("inf")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Subscription:
    """What is asked for. `tail` is per task; `since` and `until` are wall seconds, 0 for no bound."""

    id: str
    task_ids: tuple[str, ...]
    follow: bool = False
    tail: int | None = None
    since: float = 0.0
    until: float = 0.0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some lines of one task; `done` is the last one of a subscription, `problem` says what is missing."""

    subscription_id: str
    task_id: str = ""
    lines: tuple[LogLine, ...] = ()
    done: bool = False
    problem: str = ""


@dataclass(slots=True)
class _Reading:
    """A subscription being served: its tasks, the group of their readers, and what runs it all."""

    task_ids: set[str]
    group: asyncio.TaskGroup | None
    runner: asyncio.Task[None] | None = None


class Subscriptions:
    """The log subscriptions of one session: they end with it."""

    def __init__(
        self,
        store: LogStore,
        is_live: Callable[[str], bool],
        send: Callable[[Chunk], Awaitable[None]],
        group: asyncio.TaskGroup,
    ) -> None:
        """
        Args:
            is_live: tells whether a task is held and has not stopped, so that its log may still grow.
            send: takes a chunk, waiting until there is room for it.
            group: runs the readers.
        """
        self._store = store
        self._is_live = is_live
        self._send = send
        self._group = group
        self._running: dict[str, _Reading] = {}

    def start(self, subscription: Subscription) -> None:
        """Begin to serve a subscription; one that is being served takes on the tasks that are new to it."""
        reading = self._running.get(subscription.id)
        if reading is None and len(self._running) >= MOST_SUBSCRIPTIONS:
            self._group.create_task(self._refuse(subscription.id))
        elif reading is None:
            reading = self._running[subscription.id] = _Reading(set(), None)
            reading.runner = self._group.create_task(self._serve(subscription, reading))
        elif reading.group is not None:
            self._read_all(subscription, reading, reading.group)

    def cancel(self, subscription_id: str) -> None:
        """Stop serving a subscription; nothing more is sent of it."""
        reading = self._running.pop(subscription_id, None)
        if reading is not None and reading.runner is not None:
            reading.runner.cancel()

    def close(self) -> None:
        """Stop serving all of them."""
        for subscription_id in list(self._running):
            self.cancel(subscription_id)

    async def _refuse(self, subscription_id: str) -> None:
        problem = f"this node serves {MOST_SUBSCRIPTIONS} log readers already; end some of them"
        await self._send(Chunk(subscription_id, done=True, problem=problem))

    async def _serve(self, subscription: Subscription, reading: _Reading) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reading.group = group
                self._read_all(subscription, reading, group)
            reading.group = None
            await self._send(Chunk(subscription.id, done=True))
        finally:
            reading.group = None
            if self._running.get(subscription.id) is reading:
                self._running.pop(subscription.id)

    def _read_all(self, subscription: Subscription, reading: _Reading, group: asyncio.TaskGroup) -> None:
        for task_id in subscription.task_ids:
            if task_id not in reading.task_ids:
                reading.task_ids.add(task_id)
                group.create_task(self._serve_task(subscription, task_id))

    async def _serve_task(self, subscription: Subscription, task_id: str) -> None:
        directory = self._store.directory(task_id)
        if not self._is_live(task_id) and not directory.is_dir():
            await self._send(Chunk(subscription.id, task_id, problem=f"task {task_id} has no log on this node"))
            return
        changed = asyncio.Event()
        until = subscription.until or _NO_END
        try:
            with LogCursor(directory, tail=subscription.tail, since=subscription.since, until=until) as cursor:
                while True:
                    # Asked before reading, so that what was written before the end is not missed.
                    live = subscription.follow and self._is_live(task_id)
                    self._listen(task_id, changed)
                    await self._send_all(subscription, task_id, cursor)
                    if not live or cursor.ended:
                        return
                    await changed.wait()
                    changed.clear()
        except OSError as error:
            _log.warning("log cannot be read", task=task_id, error=str(error))
            problem = f"the log of task {task_id} cannot be read: {error.strerror}"
            await self._send(Chunk(subscription.id, task_id, problem=problem))
        finally:
            self._deafen(task_id, changed)

    async def _send_all(self, subscription: Subscription, task_id: str, cursor: LogCursor) -> None:
        while lines := cursor.read():
            for part in parts(lines):
                await self._send(Chunk(subscription.id, task_id, part))
            await asyncio.sleep(0)  # a log that is all in memory must not hold up the tasks

    def _listen(self, task_id: str, changed: asyncio.Event) -> None:
        """Have `changed` set when the task's log grows or ends, or, before it is open, when any log is opened."""
        log = self._store.get(task_id)
        listeners = log.file.listeners if log is not None else self._store.opened_listeners
        if changed.set not in listeners:
            listeners.append(changed.set)

    def _deafen(self, task_id: str, changed: asyncio.Event) -> None:
        log = self._store.get(task_id)
        for listeners in (self._store.opened_listeners, log.file.listeners if log is not None else []):
            if changed.set in listeners:
                listeners.remove(changed.set)


def parts(lines: list[LogLine]) -> Iterator[tuple[LogLine, ...]]:
    """Cut lines into parts of at most 256 lines and 64 KiB (or one line)."""
    part: list[LogLine] = []
    size = 0
    for line in lines:
        if part and (len(part) == MOST_LINES or size + len(line.data) > MOST_BYTES):
            yield tuple(part)
            part, size = [], 0
        part.append(line)
        size += len(line.data)
    if part:
        yield tuple(part)
