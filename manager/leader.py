"""What runs only while this manager leads: the control loops, together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from manager.raft.types import Leadership
from swarmpy.errors import Code, SwarmError

log = structlog.get_logger(__name__)


class Loop(Protocol):
    """A control loop: runs until it is cancelled, and fails rather than go on with what it does not understand."""

    async def run(self) -> None: ...


async def _nobody() -> bool:
    return False


class Leader:
    """Starts the loops when leadership comes, ends them when it goes.

    The first loop that fails takes all of them down, and this manager hands the lead over; one that has nobody to
    hand it to fails.

    Args:
        prepare: run to its end before the loops, on every taking of the lead.
        loops: makes fresh loops by name for each term: what they remember belongs to one term.
        hand_over: gives the lead to another manager; returns whether there is one that can take it.
    """

    def __init__(
        self,
        prepare: Callable[[], Loop],
        loops: Callable[[], Mapping[str, Loop]],
        hand_over: Callable[[], Awaitable[bool]] = _nobody,
    ) -> None:
        self._prepare = prepare
        self._loops = loops
        self._hand_over = hand_over
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
        """Lead whenever it is our turn. A loop's failure comes out of here if no other manager can lead."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self.is_leader:
                try:
                    await self._lead()
                except Exception as failure:
                    if not await self._outlive(failure):
                        raise

    async def _outlive(self, failure: Exception) -> bool:
        """Return whether this manager can go on without leading."""
        if not self.is_leader:
            # What failed because the lead was lost has ended with it.
            log.info("stopped_leading_in_mid_work", reason=str(failure))
            return True
        return await self._hand_over()

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
