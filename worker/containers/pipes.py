"""Both ends of what a container's program reads and writes: its input, and the output of commands beside it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from worker.logs.format import Stream
from worker.logs.tap import Tap

READ_BYTES: Final = 64 * 1024
_MOST_LEFT: Final = 64
_BEGIN_WITHIN_S: Final = 5.0
_LOOK_S: Final = 0.02


class Input:
    """Writes to a FIFO that a shim reads, waiting while it is full. What nobody reads any more is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None
        self._gone = False

    async def write(self, data: bytes) -> None:
        descriptor = None if self._gone else await self._open()
        if descriptor is not None:
            try:
                await write_all(descriptor, data)
            except BrokenPipeError:
                self._gone = True

    async def _open(self) -> int | None:
        """Open the FIFO once somebody reads it, which the shim does when it makes the container."""
        if self._descriptor is None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_BEGIN_WITHIN_S):
                    while self._descriptor is None:
                        try:
                            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                        except OSError:
                            await asyncio.sleep(_LOOK_S)
        self._gone = self._descriptor is None
        return self._descriptor

    def close(self) -> None:
        """Close our end; the shim has one, too, until it is told to close it."""
        self._gone = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


async def write_all(descriptor: int, data: bytes) -> None:
    """Write to a pipe that does not block, waiting while it is full.

    Raises:
        BrokenPipeError: nobody reads it.
    """
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _woken(loop.add_writer, loop.remove_writer, descriptor)


async def read_some(descriptor: int, size: int) -> bytes:
    """Return what comes from a pipe that does not block; nothing at its end."""
    while True:
        try:
            return os.read(descriptor, size)
        except BlockingIOError:
            loop = asyncio.get_running_loop()
            await _woken(loop.add_reader, loop.remove_reader, descriptor)


async def _woken(
    add: Callable[[int, Callable[[], None]], object], remove: Callable[[int], object], descriptor: int
) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


class Output:
    """Reads the FIFOs of a command into a tap, or nowhere once its reader has gone."""

    def __init__(self, fifos: dict[Stream, Path]) -> None:
        self._loop = asyncio.get_running_loop()
        self._descriptors: dict[Stream, int] = {}
        self._paused = self._flows = False
        self.tap: Tap | None = Tap(self._go_on)
        for stream, path in fifos.items():
            # Open for writing too, or it would end between two writers.
            self._descriptors[stream] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._listen()

    def leave(self) -> None:
        """Nobody wants the rest: read and drop it, so that the command can go on."""
        self.tap = None
        self._go_on()

    def finish(self) -> None:
        """The command has ended: read what is left, and end the tap."""
        for stream in self._descriptors:
            for _ in range(_MOST_LEFT):
                if not self._read(stream):
                    break
        for descriptor in self._descriptors.values():
            self._loop.remove_reader(descriptor)
            os.close(descriptor)
        self._descriptors.clear()
        if self.tap is not None:
            self.tap.end()

    def flow(self) -> None:
        """Wait for the reader no more: the command has ended, and what is left is no more than pipes hold."""
        self._flows = True
        self._go_on()

    def _listen(self) -> None:
        for stream, descriptor in self._descriptors.items():
            self._loop.add_reader(descriptor, self._read, stream)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self._listen()

    def _read(self, stream: Stream) -> bool:
        try:
            data = os.read(self._descriptors[stream], READ_BYTES)
        except BlockingIOError:
            return False
        if self.tap is not None:
            self.tap.feed(stream, data)
            if self.tap.is_full and not self._paused and not self._flows:
                self._paused = True
                for descriptor in self._descriptors.values():
                    self._loop.remove_reader(descriptor)
        return True
