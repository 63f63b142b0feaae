"""Has this node's manager process run while its certificate says that it is a manager, and at no other time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from swarmpy.model.states import NodeRole

log = structlog.get_logger(__name__)

RETRY_S: Final = 1.0


class ManagerControl(Protocol):
    """This node's manager process."""

    async def run(self) -> None:
        """Have it run, without waiting for it; one that runs is left alone."""

    async def forget(self) -> None:
        """Stop it and remove all that it has stored, if there is anything."""


class Duty:
    """Begins with a look: the last word to swarmpyd may have been lost with the worker that was to say it.

    Args:
        role: returns what the certificate says.
        lock: held while it acts; shared with whatever else starts and stops the manager.
    """

    def __init__(self, manager: ManagerControl, role: Callable[[], NodeRole], clock: Clock, lock: asyncio.Lock) -> None:
        self._manager, self._role, self._clock, self._lock = manager, role, clock, lock
        self._changed = asyncio.Event()
        self._anew = False

    def look(self) -> None:
        """Look again: the certificate is another one."""
        self._changed.set()

    def begin_anew(self) -> None:
        """Have the manager forget what it has stored, and join the others as another member."""
        self._anew = True
        self._changed.set()

    async def run(self) -> None:
        """See to it until cancelled; what fails is tried again."""
        while True:
            self._changed.clear()
            try:
                async with self._lock:
                    await self._see_to_it()
            except SwarmError as error:
                log.warning("manager_not_seen_to", role=self._role().name, reason=error.message)
                await self._clock.sleep(RETRY_S)
            else:
                await self._changed.wait()

    async def _see_to_it(self) -> None:
        is_manager = self._role() is NodeRole.MANAGER
        if self._anew or not is_manager:
            await self._manager.forget()
            self._anew = False
        if is_manager:
            await self._manager.run()
