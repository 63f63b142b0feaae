"""A stream that another member dialled, between the main loop, which serves it, and the Raft thread."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

MOST_UNREAD_BYTES: Final = 8 * 1024 * 1024
MOST_ANSWERS: Final = 1024


class Inbound:
    """One such stream. All of it belongs to the main loop, but `consumed_bytes`, which only the Raft thread raises.

    Args:
        member_id: who dialled it.
        addr: where that member says it is reached (host:port); empty if it does not say.
    """

    def __init__(self, member_id: int, addr: str = "") -> None:
        self.member_id, self.addr = member_id, addr
        self.consumed_bytes = 0
        self.is_waiting = False
        self._taken_bytes = 0
        self._room = asyncio.Event()
        self._answers: deque[bytes] = deque()
        self._more = asyncio.Event()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def room(self, size_bytes: int) -> None:
        """Count a batch, and wait until the Raft thread has taken most of what was handed to it."""
        self._taken_bytes += size_bytes
        while True:
            self._room.clear()
            self.is_waiting = True  # said before the look: whoever consumes after the look sees it
            if self._taken_bytes - self.consumed_bytes <= MOST_UNREAD_BYTES:
                self.is_waiting = False
                return
            await self._room.wait()

    def consumed(self) -> None:
        """Learn that the Raft thread took something while `room` waited."""
        self._room.set()

    def answer(self, data: bytes) -> None:
        """Send a batch back; the oldest is lost if the other end does not take them."""
        if len(self._answers) >= MOST_ANSWERS:
            self._answers.popleft()
        self._answers.append(data)
        self._more.set()

    async def next_answer(self) -> bytes:
        """Wait for a batch to send back."""
        while not self._answers:
            self._more.clear()
            await self._more.wait()
        return self._answers.popleft()

    def end(self) -> None:
        """End the stream from this side."""
        if not self.ended.done():
            self.ended.set_result(None)
