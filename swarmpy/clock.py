"""Time as an argument: what decides or waits is given a Clock, never the time module."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for stamps, monotonic time for decisions, and a sleep that a test can drive."""

    def now(self) -> float:
        """Return wall-clock seconds since the epoch; for people to read, never to decide with."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds (>= 0) of monotonic time."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
