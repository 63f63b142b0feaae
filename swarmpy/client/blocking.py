"""The client for programs without an event loop: the same coroutines on a private one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from swarmpy.client.call import DEFAULT_TIMEOUT_S
from swarmpy.client.client import Client

T = TypeVar("T")


class BlockingClient:
    """Runs calls of an asynchronous client to their end. One thread at a time.

    with BlockingClient(state_dir=path) as swarm:
        for listed in swarm.run(swarm.client.services.list()):
            print(listed.service.name)
    """

    def __init__(
        self, *, state_dir: Path | None = None, timeout_s: float = DEFAULT_TIMEOUT_S, stale: bool = False
    ) -> None:
        self._runner = asyncio.Runner()
        self.client = self._runner.run(_connect(state_dir, timeout_s, stale=stale))

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Return what `call` returns, or raise what it raises."""
        return self._runner.run(call)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield the items of a list or stream as they come; leaving the loop ends the stream."""
        try:
            while True:
                yield self._runner.run(_next(items))
        except StopAsyncIteration:
            return
        finally:
            self._runner.run(_finish(items))

    def close(self) -> None:
        """Close the connections and the loop."""
        self._runner.run(self.client.aclose())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _connect(state_dir: Path | None, timeout_s: float, *, stale: bool) -> Client:
    return Client.connect(state_dir=state_dir, timeout_s=timeout_s, stale=stale)


async def _next(items: AsyncIterator[T]) -> T:
    return await anext(items)


async def _finish(items: AsyncIterator[Any]) -> None:
    close = getattr(items, "aclose", None)
    if close is not None:
        await close()
