"""The door to Raft for the manager's main loop: proposals go to the Raft thread, committed entries come back."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import structlog

from manager.raft.api import StateMachine
from manager.raft.engine import Delivery, Ended, Engine, Order, Outbound, Proposal, Stop, Waiter
from manager.raft.handoff import Handoff
from manager.raft.log import storage
from manager.raft.log.disk import Disk, OsDisk
from manager.raft.log.faults import LogFailedError
from manager.raft.log.snapshot_file import SnapshotReader
from manager.raft.node import NodeConfig, RaftNode
from manager.raft.types import Commit, ConfState, Metadata, SnapshotMark, Status
from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError, precondition

_log: Final = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DriverConfig:
    """How the Raft thread is run.

    Args:
        tick_s: length of a tick, seconds.
        max_pending: proposals under way at once; more are refused.
        max_pending_bytes: their data together.
        max_frame_bytes: proposals are put into one frame until it holds this much.
        switch_interval_s: how long a thread may keep Python's lock while another wants it, for the whole process
            while the log runs; None leaves it (5 ms, which a proposal would wait on a busy main loop).
        node: how the member keeps its log.
    """

    tick_s: float = 0.1
    max_pending: int = 8192
    max_pending_bytes: int = 64 * 1024 * 1024
    max_frame_bytes: int = 1024 * 1024
    switch_interval_s: float | None = 0.0005
    node: NodeConfig = field(default_factory=NodeConfig)


def bootstrap(
    directory: Path, metadata: Metadata, *, salt: int, config: NodeConfig | None = None, disk: Disk | None = None
) -> None:
    """Begin the log of a new cluster's first manager, its only voter.

    Args:
        directory: the member's own; its parent exists.
        salt: a random number below 2**64, another one for every log.

    Raises:
        SwarmError: ALREADY_EXISTS, RESOURCE_EXHAUSTED (disk full).
    """
    segment_bytes = (config or NodeConfig()).segment_bytes
    conf = ConfState(voters=(metadata.member_id,))
    storage.create(disk or OsDisk(), directory, metadata, conf, salt=salt, segment_bytes=segment_bytes)


class RaftThread:
    """A `ReplicatedLog` whose node runs on a thread of its own; use it on one loop, start it once."""

    def __init__(
        self,
        directory: Path,
        metadata: Metadata,
        machine: StateMachine,
        *,
        config: DriverConfig | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
    ) -> None:
        self._dir, self._metadata, self._machine = directory, metadata, machine
        self._config, self._clock, self._disk = config or DriverConfig(), clock or SystemClock(), disk or OsDisk()
        self._pending: dict[Waiter, int] = {}  # bytes under way
        self._pending_bytes = 0
        self._refusal: SwarmError | None = precondition("the log is not started: wait for start()")
        self._snapshot_lock = asyncio.Lock()
        self._started = False

    async def start(self) -> None:
        """See `ReplicatedLog.start`."""
        loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[SwarmError] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._files = ThreadPoolExecutor(1, thread_name_prefix="raft-files")
        try:
            self._node = await self._in_files(
                lambda: RaftNode.open(self._disk, self._dir, self._metadata, self._config.node)
            )
            try:
                await self._restore()
            except BaseException:
                self._node.close()
                raise
        except BaseException:
            self._files.shutdown(wait=False)
            raise
        self._status = self._node.status()
        self._to_main: Handoff[Outbound] = Handoff(loop, self._receive)
        self._engine = Engine(
            self._node,
            self._to_main,
            clock=self._clock,
            tick_s=self._config.tick_s,
            max_frame_bytes=self._config.max_frame_bytes,
        )
        self._switch_interval_s = sys.getswitchinterval()
        if self._config.switch_interval_s is not None:
            sys.setswitchinterval(self._config.switch_interval_s)
        # Daemon: an interpreter that ends without stop() loses nothing that was acknowledged, and must not hang.
        self._thread = threading.Thread(target=self._engine.run, name="raft", daemon=True)
        self._refusal = None
        self._started = True
        self._thread.start()

    async def propose(self, data: bytes) -> Commit:
        """See `ReplicatedLog.propose`."""
        if self._refusal is not None:
            raise self._refusal
        config = self._config
        if len(self._pending) >= config.max_pending or (
            self._pending and self._pending_bytes + len(data) > config.max_pending_bytes
        ):
            raise SwarmError(
                Code.RESOURCE_EXHAUSTED,
                f"{len(self._pending)} changes ({self._pending_bytes} bytes) are under way, the limit is"
                f" {config.max_pending} ({config.max_pending_bytes} bytes): try again in a moment",
                retryable=True,
            )
        waiter = self._new_waiter(len(data))
        self._engine.inbox.post(Proposal(data, waiter))
        commit: Commit = await waiter
        return commit

    async def snapshot(self, index: int, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> SnapshotMark:
        """See `ReplicatedLog.snapshot`. The file is written on a thread of its own."""
        if self._snapshot_lock.locked():
            raise precondition("a snapshot is being written already: wait for it")
        async with self._snapshot_lock:
            try:
                mark = await self._order(lambda node: node.mark_at(index))
                await self._write_snapshot(mark, chunks)
                await self._order(lambda node: node.adopt_snapshot(mark))
            except LogFailedError as failure:
                self._fail(failure)
                raise
        return mark

    def status(self) -> Status:
        """See `ReplicatedLog.status`."""
        return msgspec.structs.replace(self._status, applied_index=self._node.applied_index)

    async def failed(self) -> SwarmError:
        """See `ReplicatedLog.failed`."""
        return await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """See `ReplicatedLog.stop`; also after a failure, and more than once. Gives up a snapshot under way."""
        if not self._started:
            return
        if not self._ended.done():
            self._refusal = self._refusal or _stopped()
            self._engine.inbox.post(Stop())
            await asyncio.shield(self._ended)
        sys.setswitchinterval(self._switch_interval_s)
        async with self._snapshot_lock:
            self._files.shutdown()

    async def _restore(self) -> None:
        reader = await self._in_files(self._node.snapshot_reader)
        if reader is None:
            return
        try:
            await self._machine.restore(reader.mark, self._read(reader))
        finally:
            await self._in_files(reader.close)

    async def _read(self, reader: SnapshotReader) -> AsyncIterator[bytes]:
        chunks = reader.chunks()
        while (chunk := await self._in_files(lambda: next(chunks, None))) is not None:
            yield chunk

    async def _write_snapshot(self, mark: SnapshotMark, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        writer = await self._in_files(lambda: self._node.snapshot_writer(mark))
        try:
            async for chunk in _in_turns(chunks):
                if self._refusal is not None:
                    raise self._refusal
                await self._in_files(functools.partial(writer.write, chunk))
            await self._in_files(writer.finish)
        finally:
            await self._in_files(writer.abort)

    async def _in_files(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._files, work)

    async def _order(self, action: Callable[[RaftNode], T]) -> T:
        if self._refusal is not None:
            raise self._refusal
        waiter = self._new_waiter(0)
        self._engine.inbox.post(Order(action, waiter))
        result: T = await waiter
        return result

    def _new_waiter(self, size_bytes: int) -> Waiter:
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._pending[waiter] = size_bytes
        self._pending_bytes += size_bytes
        return waiter

    def _receive(self) -> None:
        """Take one delivery and let the loop do other work before the next."""
        item = self._to_main.pop()
        if isinstance(item, Delivery):
            self._deliver(item)
        elif isinstance(item, Ended):
            self._end(item)
        self._to_main.again()

    def _deliver(self, delivery: Delivery) -> None:
        if self._failed.done():
            return
        if delivery.entries:
            try:
                self._machine.apply(delivery.entries)
            except Exception as error:  # noqa: BLE001 - a boundary: what is applied is not known now, so the log fails
                first, last = delivery.entries[0].index, delivery.entries[-1].index
                self._fail(_internal(f"entries {first} to {last} could not be applied", error))
                return
            self._node.applied_index = delivery.entries[-1].index
        self._status = delivery.status
        for waiter, value in delivery.settled:
            self._pending_bytes -= self._pending.pop(waiter)
            _settle(waiter, value)
        if delivery.leadership is not None:
            self._machine.leadership(delivery.leadership)

    def _end(self, ended: Ended) -> None:
        if isinstance(ended.error, SwarmError):
            self._fail(ended.error)
        elif ended.error is not None:
            self._fail(_internal("the Raft thread ended", ended.error))
        self._refusal = self._refusal or _stopped()
        self._fail_pending(self._refusal)
        self._thread.join()
        self._engine.close()
        self._ended.set_result(None)

    def _fail(self, error: SwarmError) -> None:
        """Tell everybody, once, and let the thread end."""
        if self._failed.done():
            return
        _log.error("raft failed", reason=error.message, exc_info=error)
        self._refusal = error
        self._failed.set_result(error)
        self._fail_pending(error)
        self._engine.inbox.post(Stop())

    def _fail_pending(self, error: SwarmError) -> None:
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        for waiter in pending:
            _settle(waiter, error)


async def _in_turns(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk


def _settle(waiter: Waiter, value: object) -> None:
    if waiter.done():  # its caller was cancelled
        return
    if isinstance(value, SwarmError):
        waiter.set_exception(value)
    else:
        waiter.set_result(value)


def _stopped() -> SwarmError:
    return SwarmError(
        Code.UNAVAILABLE,
        "this manager is stopping; the change may have been made or not: ask another manager, or try again",
    )


def _internal(what: str, cause: Exception) -> SwarmError:
    error = SwarmError(
        Code.INTERNAL,
        f"{what} ({type(cause).__name__}: {cause}): the manager stops; see its log, then start it again",
    )
    error.__cause__ = cause
    return error
