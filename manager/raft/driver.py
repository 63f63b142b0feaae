"""The door to Raft for the manager's main loop: proposals go to the Raft thread, committed entries come back."""

from __future__ import annotations

import asyncio
import functools
import random
import sys
import threading
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import structlog

from manager.raft import files
from manager.raft.api import Peer, StateMachine
from manager.raft.engine import Engine
from manager.raft.gate import Gate
from manager.raft.handoff import Handoff
from manager.raft.items import Ask, Ended, Handed, Order, Outbound, Proposal, Stop, Wiring
from manager.raft.log import storage
from manager.raft.log.crypt import Sealer
from manager.raft.log.disk import Disk, OsDisk
from manager.raft.log.faults import LogFailedError
from manager.raft.log.snapshot_file import SnapshotReader
from manager.raft.node import RaftNode
from manager.raft.outlet import Delivery, Waiter
from manager.raft.pending import Barriers, Future, Pending
from manager.raft.progress import timed
from manager.raft.settings import DriverConfig, NodeConfig
from manager.raft.transport.links import Network
from manager.raft.transport.switchboard import Answer
from manager.raft.types import Commit, ConfChange, ConfState, Metadata, SnapshotMark, Status
from swarmpy.clock import Clock, SystemClock
from swarmpy.errors import Code, SwarmError, precondition

_log: Final = structlog.get_logger()
LONG_BACKLOG, REST_S = 16, 0.001  # deliveries, seconds
T = TypeVar("T")

__all__ = ["DriverConfig", "RaftThread", "bootstrap"]


def bootstrap(
    directory: Path,
    metadata: Metadata,
    *,
    salt: int,
    joins: bool = False,
    config: NodeConfig | None = None,
    disk: Disk | None = None,
    sealer: Sealer | None = None,
) -> None:
    """Begin a member's log: a new cluster's first manager, its only voter; or one that joins and knows nobody yet.

    Args:
        directory: the member's own; its parent exists.
        salt: a random number below 2**64, another one for every log.
        joins: the member is to be added by the cluster's leader.
        sealer: encrypts what is stored; None leaves it plain.

    Raises:
        SwarmError: ALREADY_EXISTS, RESOURCE_EXHAUSTED (disk full).
    """
    segment_bytes = (config or NodeConfig()).segment_bytes
    conf = ConfState() if joins else ConfState(voters=(metadata.member_id,))
    storage.create(disk or OsDisk(), directory, metadata, conf, salt=salt, segment_bytes=segment_bytes, sealer=sealer)


class RaftThread:
    """A `ReplicatedLog` whose node runs on a thread of its own; use it on one loop, start it once.

    Args:
        network: how the other members are reached; without one this member stays alone.
        rng: for time-outs and pauses.
        sealer: holds the key of the log; see `Storage.open`.
    """

    def __init__(
        self,
        directory: Path,
        metadata: Metadata,
        machine: StateMachine,
        *,
        config: DriverConfig | None = None,
        clock: Clock | None = None,
        disk: Disk | None = None,
        network: Network | None = None,
        rng: random.Random | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self._dir, self._metadata, self._machine, self._network = directory, metadata, machine, network
        self._config, self._clock, self._disk = config or DriverConfig(), clock or SystemClock(), disk or OsDisk()
        self._rng, self._sealer = rng or random.Random(), sealer
        self._pending = Pending(most=self._config.max_pending, most_bytes=self._config.max_pending_bytes)
        self._barriers = Barriers(self._ask_barrier)
        self._refusal: SwarmError | None = precondition("the log is not started: wait for start()")
        self._peers: Mapping[int, Peer] = {}
        self._snapshot_lock = asyncio.Lock()
        self._restoring: asyncio.Task[None] | None = None
        self._is_stale = False  # a restore was given up, at the end: nothing can be applied any more
        self._started = False

    # The log's life

    async def start(self) -> None:
        """See `ReplicatedLog.start`."""
        loop = asyncio.get_running_loop()
        self._failed: asyncio.Future[SwarmError] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._files = ThreadPoolExecutor(1, thread_name_prefix="raft-files")
        try:
            self._node = await files.run(self._files, self._open)
            try:
                reader = await files.run(self._files, self._node.snapshot_reader)
                if reader is not None:
                    try:
                        await self._restore(reader)
                    finally:
                        await asyncio.shield(files.run(self._files, reader.close))
            except BaseException:
                self._node.close()
                raise
        except BaseException:
            self._files.shutdown(wait=False)
            raise
        self._run_thread(loop)

    def _open(self) -> RaftNode:
        return RaftNode.open(
            self._disk, self._dir, self._metadata, self._config.node, rng=self._rng, sealer=self._sealer
        )

    def _run_thread(self, loop: asyncio.AbstractEventLoop) -> None:
        self._applied_index = self._node.applied_index
        self._to_main: Handoff[Outbound] = Handoff(loop, self._receive)
        self._answers: Handoff[Answer] = Handoff(loop, self._answer)
        self._engine = Engine(
            self._node,
            self._metadata,
            self._to_main,
            self._answers,
            network=self._network,
            clock=self._clock,
            rng=self._rng,
            file_thread=self._files,
            tick_s=self._config.tick_s,
            max_frame_bytes=self._config.max_frame_bytes,
        )
        self.gate = Gate(
            self._metadata,
            self._engine,
            self._node,
            check=self._check,
            fail=self._fail,
            order=self._order,
            file_thread=self._files,
        )
        self._switch_interval_s = sys.getswitchinterval()
        if self._config.switch_interval_s is not None:
            sys.setswitchinterval(self._config.switch_interval_s)
        # Daemon: an interpreter that ends without stop() loses nothing that was acknowledged, and must not hang.
        self._thread = threading.Thread(target=self._engine.run, name="raft", daemon=True)
        self._refusal = None
        self._started = True
        self._thread.start()
        self.set_peers(self._peers)

    async def failed(self) -> SwarmError:
        """See `ReplicatedLog.failed`."""
        return await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """See `ReplicatedLog.stop`; also after a failure, and more than once. Gives up a snapshot under way."""
        if not self._started:
            return
        self._refusal = self._refusal or _stopped()
        await self.gate.close()
        if not self._ended.done():
            if self._restoring is not None:
                self._restoring.cancel()
            self._engine.inbox.post(Stop())
            await asyncio.shield(self._ended)
        sys.setswitchinterval(self._switch_interval_s)
        async with self._snapshot_lock:
            self._files.shutdown()

    # What is asked of it

    async def propose(self, data: bytes) -> Commit:
        """See `ReplicatedLog.propose`."""
        self._check()
        self._pending.check(len(data))
        waiter = self._pending.new(len(data))
        self._engine.inbox.post(Proposal(data, waiter))
        commit: Commit = await waiter
        return commit

    async def read_barrier(self) -> None:
        """See `ReplicatedLog.read_barrier`."""
        self._check()
        await self._barriers.wait()

    async def change_members(self, change: ConfChange) -> ConfState:
        """See `ReplicatedLog.change_members`."""
        conf: ConfState = await self._ask(lambda node, waiter: node.change_members(change, waiter))
        return conf

    async def transfer(self, to: int = 0) -> None:
        """See `ReplicatedLog.transfer`."""
        await self._ask(lambda node, waiter: node.transfer(to, waiter))

    async def resign(self) -> None:
        """See `ReplicatedLog.resign`."""
        await self._order(RaftNode.resign)

    def set_peers(self, peers: Mapping[int, Peer]) -> None:
        """See `ReplicatedLog.set_peers`; also before the start."""
        self._peers = dict(peers)
        if self._started and not self._ended.done():
            self.gate.peers = self._peers
            self._engine.inbox.post(Wiring(lambda streams: streams.set_peers(self.gate.peers)))

    async def snapshot(self, index: int, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> SnapshotMark:
        """See `ReplicatedLog.snapshot`. The file is written on a thread of its own."""
        if self._snapshot_lock.locked():
            raise precondition("a snapshot is being written already: wait for it")
        async with self._snapshot_lock:
            try:
                mark = await self._order(lambda node: node.mark_at(index))
                begin = functools.partial(self._node.snapshot_writer, mark)
                async with files.writing(self._files, begin, self._check) as sink:
                    async for chunk in files.in_turns(chunks):
                        await sink.write(chunk)
                    await sink.finish()
                async with files.held_open(self._files, self._node.snapshot_reader):
                    await self._order(lambda node: node.adopt_snapshot(mark))
            except LogFailedError as failure:
                self._fail(failure)
                raise
        return mark

    def status(self) -> Status:
        """See `ReplicatedLog.status`."""
        found, applied = self._engine.status, self._applied_index
        return msgspec.structs.replace(
            found,
            last_index=max(found.last_index, applied),
            commit_index=max(found.commit_index, applied),
            applied_index=applied,
            peers=tuple(timed(peer, self._config.tick_s) for peer in found.peers),
        )

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def _ask_barrier(self) -> Future:
        self._check()
        waiter = self._pending.new()
        self._engine.inbox.post(Ask(lambda node: node.read(waiter)))
        return waiter

    async def _ask(self, action: Callable[[RaftNode, Waiter], None]) -> Any:
        """Ask the node for something that it settles by itself."""
        self._check()
        waiter = self._pending.new()
        self._engine.inbox.post(Ask(lambda node: action(node, waiter)))
        return await waiter

    async def _order(self, action: Callable[[RaftNode], T]) -> T:
        """Do something on the Raft thread, and return what comes of it."""
        self._check()
        waiter = self._pending.new()
        self._engine.inbox.post(Order(action, waiter))
        result: T = await waiter
        return result

    # What comes from the Raft thread

    def _receive(self) -> None:
        """Take one delivery and let the loop do other work before the next; all wait while a snapshot is restored."""
        if self._restoring is not None:
            return
        item = self._to_main.pop()
        if isinstance(item, Handed) and item.reader is not None:
            self._take_over(item.delivery, item.reader)
        elif isinstance(item, Handed):
            self._deliver(item.delivery)
        elif isinstance(item, Ended):
            self._end(item)
        if len(self._to_main) > LONG_BACKLOG and self._engine.has_work:
            # A loop that gives Python's lock up only for moments, turn after turn, hardly ever lets a thread have it.
            self._to_main.rest(REST_S)
        else:
            self._to_main.again()

    def _answer(self) -> None:
        while (item := self._answers.pop()) is not None:
            inbound, data = item
            if data is None:
                inbound.consumed()
            else:
                inbound.answer(data)

    def _deliver(self, delivery: Delivery) -> None:
        if self._failed.done() or self._is_stale:
            return
        if delivery.entries:
            try:
                self._machine.apply(delivery.entries)
            except Exception as error:  # noqa: BLE001 - a boundary: what is applied is not known now, so the log fails
                first, last = delivery.entries[0].index, delivery.entries[-1].index
                self._fail(_internal(f"entries {first} to {last} could not be applied", error))
                return
        if delivery.last_index:
            self._applied_index = delivery.last_index
            self._engine.applied(delivery.last_index)
        for waiter, value in delivery.settled:
            self._pending.settle(waiter, value)
        if delivery.leadership is not None:
            try:
                self._machine.leadership(delivery.leadership)
            except Exception as error:  # noqa: BLE001 - a boundary: a member that half leads must not go on
                self._fail(_internal("the change of the lead could not be taken", error))

    def _take_over(self, delivery: Delivery, reader: SnapshotReader) -> None:
        """Let a leader's snapshot replace the state, then go on with what waits behind it."""

        def done(task: asyncio.Task[None]) -> None:
            self._restoring = None
            self._files.submit(reader.close)  # behind a read that may be under way
            if task.cancelled() or (self._refusal is not None and task.exception() is not None):
                self._is_stale = True  # given up by a stop, whatever the machine made of that
            elif isinstance(error := task.exception(), SwarmError):
                self._fail(error)
            elif error is not None:
                self._fail(_internal(f"the snapshot at entry {reader.mark.index} could not be restored", error))
            else:
                self._deliver(delivery)
            self._to_main.again()

        if self._failed.done() or self._is_stale:
            self._files.submit(reader.close)
            return
        _log.info("raft restores a snapshot", index=reader.mark.index)
        self._restoring = asyncio.get_running_loop().create_task(self._restore(reader))
        self._restoring.add_done_callback(done)

    async def _restore(self, reader: SnapshotReader) -> None:
        async with aclosing(files.read(self._files, reader)) as chunks:
            await self._machine.restore(reader.mark, chunks)

    def _end(self, ended: Ended) -> None:
        if isinstance(ended.error, SwarmError):
            self._fail(ended.error)
        elif ended.error is not None:
            self._fail(_internal("the Raft thread ended", ended.error))
        self._refusal = self._refusal or _stopped()
        self._pending.fail_all(self._refusal)
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
        self._pending.fail_all(error)
        if not self._ended.done():
            self._engine.inbox.post(Stop())


def _stopped() -> SwarmError:
    return SwarmError(
        Code.UNAVAILABLE,
        "this manager is stopping; the change may have been made or not: ask another manager, or try again",
    )


def _internal(what: str, cause: BaseException) -> SwarmError:
    error = SwarmError(
        Code.INTERNAL,
        f"{what} ({type(cause).__name__}: {cause}): the manager stops; see its log, then start it again",
    )
    error.__cause__ = cause
    return error
