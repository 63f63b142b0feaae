"""Waiting for what comes true by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

DEADLINE_S: Final = 30.0
LOOK_S: Final = 0.02

T = TypeVar("T")


async def until(ask: Callable[[], Awaitable[T | None]], *, what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first true answer.

    Raises:
        TimeoutError: there was none in time.
    """
    end_s = time.monotonic() + deadline_s
    while not (answer := await ask()):
        if time.monotonic() > end_s:
            raise TimeoutError(f"did not come true in {deadline_s:g} s: {what}")
        await asyncio.sleep(LOOK_S)
    return answer
