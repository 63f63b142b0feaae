"""A task's output as bytes, while it comes, for one reader that is attached to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from worker.logs.format import Stream

MOST_BYTES: Final = 1024 * 1024

Pieces = list[tuple[Stream, bytes]]


class Tap:
    """Holds what its reader has not taken yet. One that is behind holds up the task, as a pipe would."""

    def __init__(self, on_room: Callable[[], None]) -> None:
        """
        Args:
            on_room: called when a full tap has been emptied.
        """
        self._on_room = on_room
        self._pieces: Pieces = []
        self._size_bytes = 0
        self._changed = asyncio.Event()
        self._ended = False

    @property
    def is_full(self) -> bool:
        return self._size_bytes >= MOST_BYTES

    def feed(self, stream: Stream, data: bytes) -> None:
        self._pieces.append((stream, data))
        self._size_bytes += len(data)
        self._changed.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._changed.set()

    async def read(self) -> Pieces:
        """Return what there is, as soon as there is anything; [] at the end."""
        while not self._pieces and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        pieces, self._pieces = self._pieces, []
        was_full, self._size_bytes = self.is_full, 0
        if was_full:
            self._on_room()
        return pieces
