"""Hands things to an event loop from another thread, with one wake-up for all that come meanwhile."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Handoff(Generic[T]):
    """A one-way lane to `loop`, where `receive` is called to take what came with `pop()`.

    It holds no limit of its own: whoever posts has one (proposals are counted, deliveries answer proposals).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[], None]) -> None:
        self._loop, self._receive = loop, receive
        self._items: deque[T] = deque()
        self._armed = self._resting = False

    def __len__(self) -> int:
        return len(self._items)

    def post(self, item: T) -> None:
        """Add `item`, from any thread; raises RuntimeError if the loop is closed."""
        self._items.append(item)
        # Cleared before `receive` takes anything, so an item is either taken or wakes the loop again.
        if not self._armed:
            self._armed = True
            self._loop.call_soon_threadsafe(self._wake)

    def put(self, item: T) -> None:
        """Add `item`, on the loop's own thread: what can be taken at once is."""
        self._items.append(item)
        if not self._armed:
            self._receive()

    def pop(self) -> T | None:
        """Take the oldest item, on the loop's thread."""
        return self._items.popleft() if self._items else None

    def again(self) -> None:
        """Ask for another `receive`, after a turn of the loop, if anything waits; on the loop's thread."""
        if self._items and not self._armed:
            self._armed = True
            self._loop.call_soon(self._wake)

    def rest(self, delay_s: float) -> None:
        """Ask for another `receive` after so long; whoever posts meanwhile does not wake the loop. On its thread."""
        self._armed = self._resting = True
        self._loop.call_later(delay_s, self._rested)

    def _rested(self) -> None:
        self._resting = False
        self._wake()

    def _wake(self) -> None:
        if self._resting:
            return
        self._armed = False
        self._receive()
