"""Work that many ask for and one does: the others wait, and take over if it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from swarmpy.errors import SwarmError

Result = TypeVar("Result")


class Flights(Generic[Result]):
    """Work by key. There is no task behind it: whoever asks first does the work, as its caller's own.

    Args:
        share_failures: whether who waited gets the failure of who worked; else it tries for itself.
    """

    def __init__(self, *, share_failures: bool = True) -> None:
        self._share_failures = share_failures
        self._under_way: dict[Hashable, asyncio.Future[Result]] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        """Return what `work` returns, done by this call or by another one with the same key."""
        while (waited := self._under_way.get(key)) is not None:
            # `wait` leaves the other's work alone if we are cancelled, and does not raise if that work was.
            await asyncio.wait([waited])
            if waited.cancelled():
                continue
            error = waited.exception()
            if error is None:
                return waited.result()
            if self._share_failures:
                raise error
        return await self._work(key, work)

    async def _work(self, key: Hashable, work: Callable[[], Awaitable[Result]]) -> Result:
        mine: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._under_way[key] = mine
        try:
            result = await work()
        except SwarmError as error:
            mine.set_exception(error)
            mine.exception()  # nobody may have waited
            raise
        except BaseException:
            mine.cancel()
            raise
        else:
            mine.set_result(result)
            return result
        finally:
            del self._under_way[key]
