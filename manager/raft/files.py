"""Snapshots' files, read and written on a thread of their own, so that no loop waits for a disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from manager.raft.log.snapshot_file import SnapshotReader, SnapshotWriter
from swarmpy.errors import SwarmError

T = TypeVar("T")


class Sink:
    """A snapshot's file that is being written.

    Args:
        check: raises once the work is to be given up.
    """

    def __init__(self, writer: SnapshotWriter, files: Executor, check: Callable[[], None]) -> None:
        self._writer, self._files, self._check = writer, files, check

    async def write(self, chunk: bytes) -> None:
        """Append a chunk; see `SnapshotWriter.write`."""
        self._check()
        await run(self._files, lambda: self._writer.write(chunk))

    async def finish(self) -> None:
        """Make it durable; see `SnapshotWriter.finish`."""
        await run(self._files, self._writer.finish)


@asynccontextmanager
async def writing(
    files: Executor, begin: Callable[[], SnapshotWriter], check: Callable[[], None]
) -> AsyncIterator[Sink]:
    """Begin a snapshot's file; it is removed unless it is finished."""
    begun: list[SnapshotWriter] = []  # filled on the files' thread, even if nobody waits for it any more

    def give_up() -> None:
        for writer in begun:
            writer.abort()

    try:
        await run(files, lambda: begun.append(begin()))
        yield Sink(begun[0], files, check)
    finally:
        await asyncio.shield(run(files, give_up))


@asynccontextmanager
async def held_open(files: Executor, begin: Callable[[], SnapshotReader | None]) -> AsyncIterator[None]:
    """Hold a snapshot's file open that is to be removed.

    It gives back its space when it is closed, then: that takes 80 ms for 150 MB, and nobody waits for this thread.
    """
    begun: list[SnapshotReader | None] = []

    def open_it() -> None:
        with suppress(SwarmError):  # one that is damaged goes all the same
            begun.append(begin())

    def close() -> None:
        for reader in begun:
            if reader is not None:
                reader.close()

    try:
        await run(files, open_it)
        yield
    finally:
        await asyncio.shield(run(files, close))


async def read(files: Executor, reader: SnapshotReader) -> AsyncGenerator[bytes, None]:
    """Yield a snapshot's chunks."""
    chunks = reader.chunks()
    while (chunk := await run(files, lambda: next(chunks, None))) is not None:
        yield chunk


async def run(files: Executor, work: Callable[[], T]) -> T:
    """Return what `work` returns, done on the files' thread."""
    return await asyncio.get_running_loop().run_in_executor(files, work)


async def in_turns(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield chunks of either kind."""
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
