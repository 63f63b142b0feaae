"""A container's log, read back and followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Final

from worker.logs.format import LogLine
from worker.logs.reader import LogCursor
from worker.logs.store import LogStore
from worker.logs.subscriptions import parts

_NO_END: Final = float("inf")


async def read_log(
    store: LogStore,
    container_id: str,
    is_live: Callable[[str], bool],
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float = 0.0,
    until: float = 0.0,
) -> AsyncGenerator[tuple[LogLine, ...]]:
    """Yield the lines of a log in parts that fit into a message; with `follow` on until the container has ended.

    Args:
        is_live: tells whether the log may still grow.
        tail: how many lines from the end to begin with; None is all.
        since, until: wall seconds; 0 is no limit.
    """
    changed = asyncio.Event()
    listening: list[list[Callable[[], None]]] = []
    directory = store.directory(container_id)
    try:
        with LogCursor(directory, tail=tail, since=since, until=until or _NO_END) as cursor:
            while True:
                # Asked before reading, so that what was written before the end is not missed.
                live = follow and is_live(container_id)
                log = store.get(container_id)
                listeners = log.file.listeners if log is not None else store.opened_listeners
                if not any(listeners is known for known in listening):
                    listeners.append(changed.set)
                    listening.append(listeners)
                while lines := cursor.read():
                    for part in parts(lines):
                        yield part
                    await asyncio.sleep(0)  # a log that is all in memory must not hold up the tasks
                if not live or cursor.ended:
                    return
                await changed.wait()
                changed.clear()
    finally:
        for listeners in listening:
            if changed.set in listeners:
                listeners.remove(changed.set)
