"""The state machine's side of a run: applies what the node delivers to a real store, and serves the clients from it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from manager.raft.log.snapshot_file import SnapshotReader
from manager.raft.outlet import Delivery
from manager.raft.types import EntryKind
from manager.store.store import Store
from manager.store.tables import CLUSTERS
from manager.store.transaction import Transaction
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import Cluster, ClusterSpec
from tests.sim.raft.history import Kind, Operation
from tests.sim.raft.loop import Event
from tests.sim.raft.shadow import ViolationError

if TYPE_CHECKING:
    from tests.sim.raft.run import Run

HARMLESS: Final = frozenset(
    {Code.UNAVAILABLE, Code.NOT_LEADER, Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION, Code.DEADLINE_EXCEEDED}
)


class Machine:
    """One run's store and the queue in front of it.

    Attributes:
        applied: index of the last entry that is in force here.
    """

    def __init__(self, run: Run) -> None:
        self._run, self._world = run, run.world
        self.store = Store(self)
        self.applied = 0
        self._queue: deque[tuple[Delivery, SnapshotReader | None]] = deque()
        self._next: Event | None = None
        self._restoring = False

    async def propose(self, data: bytes) -> object:
        """See `manager.store.proposer.Proposer`."""
        waiter = self._run.new_waiter()
        self._run.post_proposal(data, waiter)
        place: object = await waiter
        self._world.checks.acknowledged(self._run.member_id, place)
        return place

    # What the node delivers

    def deliver(self, delivery: Delivery, reader: SnapshotReader | None) -> None:
        """Take a delivery, with the snapshot that it restores."""
        self._queue.append((delivery, reader))
        self._arm()

    def _arm(self) -> None:
        if self._next is None and self._queue and not self._restoring:
            self._next = self._run.later(self._world.apply_delay_us(), self._take)

    def _take(self) -> None:
        self._next = None
        delivery, reader = self._queue.popleft()
        if reader is not None:
            self._restoring = True
            self._run.spawn(self._restore_then(delivery, reader))
        else:
            self._apply(delivery)
            self._arm()

    async def _restore_then(self, delivery: Delivery, reader: SnapshotReader) -> None:
        await self.restore(reader)
        await self._world.timeline.sleep(self._world.apply_delay_us())
        self._restoring = False
        self._apply(delivery)
        self._arm()

    async def restore(self, reader: SnapshotReader) -> None:
        """Let a snapshot replace the state."""
        try:
            await self.store.restore(reader.chunks())
        finally:
            reader.close()
        if reader.mark.index < self.applied:
            sentence = f"member {self._run.member_id} restores {reader.mark.index}, it applied {self.applied}"
            raise ViolationError("never back", sentence)
        self.applied = reader.mark.index
        self._run.note("restored", self.applied)
        self._check_state()

    def _apply(self, delivery: Delivery) -> None:
        checks, store = self._world.checks, self.store
        for entry in delivery.entries:
            if entry.kind is EntryKind.NORMAL:
                revision = store.revision
                store.apply(entry.index, entry.data)
                if store.revision != revision:
                    checks.came_into_force(entry.index, entry.data)
            self.applied = entry.index
            self._check_state()
        for waiter, value in delivery.settled:
            _settle(waiter, value)
        if delivery.last_index:
            self._run.applied(delivery.last_index)
        told = delivery.leadership
        if told is not None and told.is_leader:
            checks.told_to_lead(self._run.member_id, told.term, self.applied)

    def _check_state(self) -> None:
        state = self.store._state
        self._world.checks.state_after(self._run.member_id, self.applied, state.revision, state.digest)

    # What clients ask

    async def carry_out(self, operation: Operation, request_id: str) -> str:
        """Return the answer to an operation; raises SwarmError if it is not known."""
        if operation.kind is Kind.READ:
            return await self._read(operation.key)
        return await self.store.update(lambda tx: _change(tx, operation), request_id=request_id)

    async def _read(self, key: str) -> str:
        floor = self._world.checks.commit_max
        waiter = self._run.new_waiter()
        self._run.post(lambda: self._run.node.read(waiter))
        await waiter
        self._world.checks.read_served(self._run.member_id, floor, self.applied)
        row = self.store.view().get(CLUSTERS, key)
        return row.spec.name if row is not None else ""

    # Snapshots

    async def take_snapshots(self, every_entries: int) -> None:
        """Store the state again and again, as the manager's compaction does."""
        while True:
            await self._world.timeline.sleep(self._world.snapshot_pause_us())
            if not self._restoring and self.store.index - self._run.node.status().snapshot.index >= every_entries:
                try:
                    await self._take_snapshot()
                except SwarmError as error:
                    if error.code not in HARMLESS:
                        raise
                    self._run.note("no snapshot", error.code.value)

    async def _take_snapshot(self) -> None:
        snapshot, node = self.store.snapshot(), self._run.node
        self._world.checks.content(self._run.member_id, snapshot.index, content_of(self.store))
        mark = await self._run.order(lambda: node.mark_at(snapshot.index))
        self._world.checks.conf_at(self._run.member_id, mark.index, mark.conf)
        writer = node.snapshot_writer(mark)
        try:
            for chunk in snapshot:
                await self._world.timeline.sleep(self._world.apply_delay_us())
                writer.write(chunk)
            writer.finish()
        finally:
            if self._run.alive:
                writer.abort()
        await self._run.order(lambda: node.adopt_snapshot(mark))
        self._run.note("snapshot", mark.index)


def _change(tx: Transaction, operation: Operation) -> str:
    row = tx.get(CLUSTERS, operation.key)
    value = row.spec.name if row is not None else ""
    answer = ""
    if operation.kind is Kind.CAS:
        if value != operation.expected:
            return "no"
        value, answer = operation.argument, "yes"
    elif operation.kind is Kind.APPEND:
        value = answer = value + operation.argument
    else:
        value = operation.argument
    spec = ClusterSpec(name=value)
    if row is None:
        tx.create(CLUSTERS, Cluster(operation.key, spec))
    else:
        tx.update(CLUSTERS, msgspec.structs.replace(row, spec=spec))
    return answer


def _settle(waiter: object, value: object) -> None:
    assert isinstance(waiter, asyncio.Future)
    if waiter.done():
        return
    if isinstance(value, SwarmError):
        waiter.set_exception(value)
    else:
        waiter.set_result(value)


def content_of(store: Store) -> bytes:
    """Return a digest of everything that a store holds, whatever the order in which it keeps it."""
    state = store._state
    rows = sorted(msgspec.msgpack.encode(row) for row in state.rows(CLUSTERS).all())
    parts: list[Any] = [state.revision, state.index, state.digest, rows, list(state.requests._results.items())]
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=16).digest()
