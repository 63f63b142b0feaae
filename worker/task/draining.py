"""Tasks that are withdrawn and not yet told to stop: how far the cluster has let go of them, and who has not.

The data planes tell of connections that run through them, by way of the managers. Tasks on networks, and containers
with ports in mode host, are connected to directly, which only their own node sees: it looks, once every node sends new
connections elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from swarmpy.clock import Clock
from worker.task.held import Held

LOOK_S: Final = 0.05
QUIET_LOOKS: Final = 2
"""Looks in a row without a connection: the first may have come before one that was on its way."""

Connections = Callable[[Sequence[str]], Awaitable[Mapping[str, int]]]


class Draining:
    """The withdrawn tasks of one runner. `run` must be under way for those on networks."""

    def __init__(self, connections: Connections, clock: Clock, poke: Callable[[Held], None]) -> None:
        """
        Args:
            connections: returns how many connections others have to tasks by their networks, as far as it can see.
            poke: has a task take its next steps.
        """
        self._connections = connections
        self._clock = clock
        self._poke = poke
        self._tasks: dict[str, Held] = {}
        self._looks: dict[str, int] = {}
        self._wake = asyncio.Event()
        self.settled = 0
        self.busy: frozenset[str] = frozenset()

    def add(self, held: Held) -> None:
        """A task has been withdrawn."""
        self._tasks[held.id] = held
        self._wake.set()

    def discard(self, task_id: str) -> None:
        """A task is wanted again, or gone."""
        self._looks.pop(task_id, None)
        held = self._tasks.pop(task_id, None)
        if held is not None:
            held.quiet = False

    def settle(self, settled: int, busy: Iterable[str]) -> None:
        """Take in how far the endpoints are withdrawn everywhere, and which tasks still have connections."""
        self.settled = settled
        self.busy = frozenset(busy)
        for held in list(self._tasks.values()):
            if held.status.state.is_stopped:
                self.discard(held.id)
            else:
                self._poke(held)
        self._wake.set()

    async def run(self) -> None:
        """Look after connections until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while waiting := [held for held in self._tasks.values() if self._is_waiting(held)]:
                await self._look(waiting)
                await self._clock.sleep(LOOK_S)

    def _is_waiting(self, held: Held) -> bool:
        over = held.quiet or held.signalled_s is not None or held.status.state.is_stopped
        return not over and held.is_reached_directly and held.is_withdrawn_everywhere(self.settled, self.busy)

    async def _look(self, waiting: Sequence[Held]) -> None:
        """Look at tasks once. One that cannot be seen is not quiet: its drain timeout ends the wait."""
        counts = await self._connections([held.id for held in waiting])
        for held in waiting:
            if held.id not in self._tasks or held.id not in counts:
                continue
            self._looks[held.id] = 0 if counts[held.id] else self._looks.get(held.id, 0) + 1
            if self._looks[held.id] >= QUIET_LOOKS:
                held.quiet = True
                self._poke(held)


async def nobody_is_connected(task_ids: Sequence[str]) -> Mapping[str, int]:
    """What is asked on a node whose tasks are on no networks."""
    return dict.fromkeys(task_ids, 0)
