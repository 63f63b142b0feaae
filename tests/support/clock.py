"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class FakeClock:
    """A heap of sleepers that `advance()` wakes in order of their deadlines."""

    def __init__(self, start_s: float = 1000.0) -> None:
        self._now_s = start_s
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now_s

    def monotonic(self) -> float:
        return self._now_s

    async def sleep(self, delay_s: float) -> None:
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_s + delay_s, next(self._order), woken))
        await woken

    async def through(self, work: Coroutine[Any, Any, T], step_s: float = 1.0) -> T:
        """Return what `work` does; time goes on in steps until it is done, also while it waits for the machine."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                await self.advance(step_s)
        finally:
            task.cancel()
        return await task

    async def advance(self, seconds: float) -> None:
        """Move time on by `seconds`, letting each sleeper run before the next one is woken."""
        end_s = self._now_s + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            at_s, _, woken = heapq.heappop(self._sleepers)
            self._now_s = max(self._now_s, at_s)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._now_s = end_s
        await settle()


async def settle(rounds: int = 50) -> None:
    """Let everything that can run without time passing run."""
    for _ in range(rounds):
        await asyncio.sleep(0)
