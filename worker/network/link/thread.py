"""The links of a node for asyncio: all calls in order, on one thread that does nothing else."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Concatenate, ParamSpec, Self, TypeVar

from worker.network.link.links import Links

P = ParamSpec("P")
T = TypeVar("T")


class LinkThread:
    """A context: the thread opens the links when it is entered, and closes them when it is left.

    A call that is cancelled before its turn is not made; one that is at work is finished, and nobody hears of it.
    """

    def __init__(self, make: Callable[[], Links]) -> None:
        self._make = make
        self._links: Links | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="links")

    async def __aenter__(self) -> Self:
        try:
            self._links = await self._run(self._make)
        except BaseException:
            self._thread.shutdown(wait=False, cancel_futures=True)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        links, self._links = self._links, None
        assert links is not None
        try:
            await asyncio.shield(self._run(links.close))
        finally:
            self._thread.shutdown(wait=False)

    async def call(self, method: Callable[Concatenate[Links, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a method returns: `await links.call(Links.join_gateway, task_id)`."""
        assert self._links is not None, "the context is not entered"
        return await self._run(functools.partial(method, self._links, *args, **kwargs))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
