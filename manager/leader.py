"""What runs only while this manager leads: the control loops, together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from manager.raft.types import Leadership
from swarmpy.errors import Code, SwarmError

log = structlog.get_logger(__name__)


class Loop(Protocol):
    """A control loop: runs until it is cancelled, and fails rather than go on with what it does not understand."""

    async def run(self) -> None: ...


class Leader:
    """Starts the loops when leadership comes, ends them when it goes; the first loop that fails ends this manager.

    Args:
        prepare: run to its end before the loops, on every taking of the lead.
        loops: makes fresh loops by name for each term: what they remember belongs to one term.
    """

    def __init__(self, prepare: Callable[[], Loop], loops: Callable[[], Mapping[str, Loop]]) -> None:
        self._prepare = prepare
        self._loops = loops
        self._leadership: Leadership | None = None
        self._changed = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        return self._leadership is not None and self._leadership.is_leader

    @property
    def term(self) -> int:
        return self._leadership.term if self._leadership is not None else 0

    def set_leadership(self, leadership: Leadership) -> None:
        """Be told who leads now."""
        self._leadership = leadership
        self._changed.set()

    async def run(self) -> None:
        """Lead whenever it is our turn. A loop's failure comes out of here."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self.is_leader:
                await self._lead()

    async def _lead(self) -> None:
        log.info("leading", term=self.term)
        await self._prepare().run()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_named(name, loop)) for name, loop in self._loops().items()]
            await self._changed.wait()
            log.info("not_leading", term=self.term)
            for task in tasks:
                task.cancel()


async def _named(name: str, loop: Loop) -> None:
    """Run a loop so that its failure is logged under its name before it brings the others down."""
    try:
        await loop.run()
    except Exception as error:
        log.error("loop_failed", loop=name, exc_info=error)
        if isinstance(error, SwarmError) and error.code is not Code.CORRUPT:
            # What one loop stumbled on says nothing of this manager's configuration: it may be started again.
            raise SwarmError(Code.INTERNAL, f"the {name} loop failed: {error.message}") from error
        raise
    raise AssertionError(f"the {name} loop returned: it must run until it is cancelled")
