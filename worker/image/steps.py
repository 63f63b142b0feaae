"""What happens in a pull or a push, passed on to somebody who may be slow: the newest of each kind, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from worker.image.types import PullEvent, Watch

Result = TypeVar("Result")
PACE_S: Final = 0.05


async def told(
    work: Callable[[Watch], Awaitable[Result]], tell: Callable[[PullEvent], Awaitable[object]], clock: Clock
) -> Result:
    """Return what `work` returns; what it says meanwhile goes to `tell`, all stages, and of each the newest figures."""
    waiting: dict[tuple[str, str], PullEvent] = {}
    news = asyncio.Event()
    over = False

    def note(event: PullEvent) -> None:
        waiting[event.digest, event.stage] = event
        news.set()

    async def pass_on() -> None:
        while True:
            await news.wait()
            news.clear()
            while waiting:
                await tell(waiting.pop(next(iter(waiting))))
            if over:
                return
            await clock.sleep(PACE_S)

    failure: SwarmError | None = None
    async with asyncio.TaskGroup() as group:
        group.create_task(pass_on())
        try:
            result = await work(note)
        except SwarmError as error:
            failure = error
        finally:
            over = True
            news.set()
    if failure is not None:
        raise failure
    return result
