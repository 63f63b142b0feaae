"""Who on the main loop waits for the Raft thread: counted, bounded, and all told when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeAlias

from manager.raft.outlet import Waiter
from swarmpy.errors import Code, SwarmError

Future: TypeAlias = "asyncio.Future[Any]"


class Pending:
    """The waiters of one loop, each with the bytes that it has under way.

    Args:
        most: proposals under way at once.
        most_bytes: their data together; one is always let in.
    """

    def __init__(self, *, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._sizes: dict[Waiter, int] = {}
        self._size_bytes = 0

    def check(self, size_bytes: int) -> None:
        """Refuse what would be too much at once.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, which passes.
        """
        if len(self._sizes) >= self._most or (self._sizes and self._size_bytes + size_bytes > self._most_bytes):
            raise SwarmError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(self._sizes)} changes ({self._size_bytes} bytes) are under way, the limit is"
                f" {self._most} ({self._most_bytes} bytes): try again in a moment",
                retryable=True,
            )

    def new(self, size_bytes: int = 0) -> Future:
        """Return a waiter that `settle` ends, sooner or later."""
        waiter: Future = asyncio.get_running_loop().create_future()
        self._sizes[waiter] = size_bytes
        self._size_bytes += size_bytes
        return waiter

    def settle(self, waiter: Waiter, value: object) -> None:
        """End a waiter of ours with a value, or a SwarmError; it may have been given up already."""
        assert isinstance(waiter, asyncio.Future), "every waiter is made by new()"
        self._size_bytes -= self._sizes.pop(waiter, 0)
        _settle(waiter, value)

    def fail_all(self, error: SwarmError) -> None:
        """End all waiters with `error`."""
        sizes, self._sizes, self._size_bytes = self._sizes, {}, 0
        for waiter in sizes:
            assert isinstance(waiter, asyncio.Future), "every waiter is made by new()"
            _settle(waiter, error)


class Barriers:
    """Waits of one kind that share rounds: the first begins one, those that come meanwhile share the next.

    Args:
        ask: begins a round, and returns what it ends with.
    """

    def __init__(self, ask: Callable[[], Future]) -> None:
        self._ask = ask
        self._asked: list[Future] = []
        self._next: list[Future] = []

    async def wait(self) -> None:
        """Wait for a round that begins after this call; raises what `ask` raises, and what the round ends with."""
        waiter: Future = asyncio.get_running_loop().create_future()
        self._next.append(waiter)
        if not self._asked:
            self._begin()
        await waiter

    def _begin(self) -> None:
        self._asked, self._next = self._next, []
        try:
            self._ask().add_done_callback(self._end)
        except SwarmError as error:
            self._finish(error)

    def _end(self, done: Future) -> None:
        error = done.exception()
        assert error is None or isinstance(error, SwarmError), "waiters end with a value or a SwarmError"
        self._finish(error)

    def _finish(self, value: object) -> None:
        asked, self._asked = self._asked, []
        for waiter in asked:
            _settle(waiter, value)
        if self._next:
            self._begin()


def _settle(waiter: Future, value: object) -> None:
    if waiter.done():  # its caller was cancelled
        return
    if isinstance(value, SwarmError):
        waiter.set_exception(value)
    else:
        waiter.set_result(value)
