"""Callbacks at monotonic times: one asyncio task serves any number of them.

Waiting tasks, grace periods, back-offs and heartbeats all end here, so that a worker with thousands of
tasks (or a process with a thousand simulated workers) needs no asyncio task for each wait.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Final

from swarmpy.clock import Clock

_NEVER: Final = float("inf")


class Alarm:
    """One pending callback; `cancel()` is safe at any time and any number of times."""

    __slots__ = ("_callback", "at_s")

    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s = at_s
        self._callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self._callback = None

    def fire(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Alarms:
    """A heap of alarms over a clock. Callbacks run on the event loop and must not block or raise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()
        self._sleeping_until_s = -_NEVER
        self._sleeper: asyncio.Task[None] | None = None

    def at(self, when_s: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` once the monotonic clock has reached `when_s` seconds."""
        alarm = Alarm(when_s, callback)
        heapq.heappush(self._heap, (when_s, next(self._order), alarm))
        if when_s < self._sleeping_until_s and self._sleeper is not None:
            self._sleeper.cancel()
        return alarm

    def after(self, delay_s: float, callback: Callable[[], None]) -> Alarm:
        """Call `callback` in `delay_s` seconds."""
        return self.at(self._clock.monotonic() + delay_s, callback)

    async def run(self) -> None:
        """Fire what falls due until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._fire_due()
                self._sleeping_until_s = self._heap[0][0] if self._heap else _NEVER
                delay_s = self._sleeping_until_s - self._clock.monotonic()
                # A cancelled sleeper (an earlier alarm came) is no failure of the group.
                self._sleeper = group.create_task(self._sleep(delay_s))
                await asyncio.wait((self._sleeper,))
                self._sleeping_until_s = -_NEVER

    async def _sleep(self, delay_s: float) -> None:
        if delay_s == _NEVER:
            await asyncio.get_running_loop().create_future()
        await self._clock.sleep(max(0.0, delay_s))

    def _fire_due(self) -> None:
        now_s = self._clock.monotonic()
        while self._heap and self._heap[0][0] <= now_s:
            heapq.heappop(self._heap)[2].fire()
