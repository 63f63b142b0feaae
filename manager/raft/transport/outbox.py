"""Messages on their way to one member: bounded, and taken in batches."""

from __future__ import annotations

import asyncio
from collections import deque

from manager.raft.types import Message

MESSAGE_OVERHEAD_BYTES = 64


class Outbox:
    """A queue for one loop. When it is full, the entries in it are lost first: Raft sends them again.

    Args:
        most: messages in it.
        most_bytes: their size together, roughly.
        batch_bytes: size of a batch, unless one message alone is larger.
    """

    def __init__(self, *, most: int = 1024, most_bytes: int = 96 * 1024 * 1024, batch_bytes: int = 128 * 1024) -> None:
        self._most, self._most_bytes, self._batch_bytes = most, most_bytes, batch_bytes
        self._messages: deque[tuple[Message, int]] = deque()
        self._size_bytes = 0
        self._waiting: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: Message) -> bool:
        """Add a message; False if entries were lost for want of room."""
        size_bytes = MESSAGE_OVERHEAD_BYTES + sum(len(entry.data) + MESSAGE_OVERHEAD_BYTES for entry in message.entries)
        lost = self._is_full(size_bytes)
        if lost:
            self._lose_entries()
        if not message.entries or not self._is_full(size_bytes):
            if len(self._messages) >= self._most:
                self._size_bytes -= self._messages.popleft()[1]
            self._messages.append((message, size_bytes))
            self._size_bytes += size_bytes
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        return not lost

    async def take(self) -> list[Message]:
        """Wait for messages, and take a batch of them."""
        while not self._messages:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        batch: list[Message] = []
        size_bytes = 0
        while self._messages and (not batch or size_bytes + self._messages[0][1] <= self._batch_bytes):
            message, more = self._messages.popleft()
            batch.append(message)
            size_bytes += more
        self._size_bytes -= size_bytes
        return batch

    def clear(self) -> None:
        """Lose everything."""
        self._messages.clear()
        self._size_bytes = 0

    def _is_full(self, more_bytes: int) -> bool:
        too_large = bool(self._messages) and self._size_bytes + more_bytes > self._most_bytes
        return too_large or len(self._messages) >= self._most

    def _lose_entries(self) -> None:
        kept = [one for one in self._messages if not one[0].entries]
        self._messages = deque(kept)
        self._size_bytes = sum(size for _, size in kept)
