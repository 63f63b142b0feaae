"""What the cluster says that this node is, and whether its manager is still a member of the managers' group."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.model.states import NodeRole

log = structlog.get_logger(__name__)

RETRY_S: Final = 1.0


@dataclass(frozen=True)
class Standing:
    """What the cluster says of this node.

    `member_id` is the member of the managers' group that the node is, 0 if none; `next_member_id` the group's next new
    one, 0 if the manager that says so is of a release that does not tell.
    """

    role: NodeRole
    member_id: int = 0
    next_member_id: int = 0


def is_let_go(own_id: int, standing: Standing) -> bool:
    """Tell whether the group has let member `own_id` go. One that is newer than the word has come since."""
    return 0 < own_id < standing.next_member_id and own_id != standing.member_id


class StandingWatch:
    """Has a manager that was let go while it was away, and is to be one again, join anew.

    Args:
        own_id: returns which member this node's manager is; None while it does not answer.
        begin_anew: sees to it that the manager forgets what it has stored, and joins as another member.
    """

    def __init__(
        self, clock: Clock, own_id: Callable[[], Awaitable[int | None]], begin_anew: Callable[[], None]
    ) -> None:
        self._clock, self._own_id, self._begin_anew = clock, own_id, begin_anew
        self._standing = Standing(NodeRole.WORKER)
        self._told = asyncio.Event()

    def tell(self, standing: Standing) -> None:
        """Be told what the cluster says now."""
        self._standing = standing
        self._told.set()

    async def run(self) -> None:
        """Look after every word, until cancelled."""
        while True:
            await self._told.wait()
            self._told.clear()
            while not await self._look():
                await self._clock.sleep(RETRY_S)

    async def _look(self) -> bool:
        """Return whether the newest word is dealt with."""
        if self._standing.role is not NodeRole.MANAGER:
            return True
        own_id = await self._own_id()
        if own_id is None:
            return False
        # The word may be another one than before the question.
        if self._standing.role is NodeRole.MANAGER and is_let_go(own_id, self._standing):
            log.warning("manager_was_let_go", member=own_id, consequence="joining anew, as another member")
            self._begin_anew()
        return True
