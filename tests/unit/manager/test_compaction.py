"""When the log is cut short: after so many entries, or so many bytes of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec

from manager.compaction import CHECK_S, LONG_LOG_BYTES, Compaction
from manager.raft.types import Commit, Role, SnapshotMark, Status
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import Cluster, ClusterSpec
from swarmpy.model.node import Node
from tests.support.clock import FakeClock
from tests.support.store import put, running_store


class FakeLog:
    """Takes snapshots and says where the last one stands."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self._status = Status(1, Role.LEADER, 1, 1, 1, 0, 0, 0, 0, 1, SnapshotMark(), None)

    async def start(self) -> None:
        raise AssertionError("compaction starts nothing")

    async def propose(self, data: bytes) -> Commit:
        raise AssertionError("compaction proposes nothing")

    async def snapshot(self, index: int, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> SnapshotMark:
        assert isinstance(chunks, Iterable)
        assert b"".join(chunks)
        self.taken.append(index)
        self._status = msgspec.structs.replace(self._status, snapshot=SnapshotMark(index=index))
        return self._status.snapshot

    def status(self) -> Status:
        return self._status

    async def failed(self) -> SwarmError:
        raise AssertionError("compaction does not ask")

    async def stop(self) -> None:
        raise AssertionError("compaction stops nothing")


class Bench:
    """A compaction of a store with one entry, whose log holds as many bytes as the test says."""

    def __init__(self, store: Store, clock: FakeClock, log: FakeLog) -> None:
        self.store = store
        self.clock = clock
        self.log = log
        self.applied_bytes = 0


@asynccontextmanager
async def compaction() -> AsyncIterator[Bench]:
    clock, log = FakeClock(), FakeLog()
    async with running_store() as store, asyncio.TaskGroup() as group:
        await put(store, CLUSTERS, Cluster(id="c", spec=ClusterSpec(snapshot_interval=3)))
        bench = Bench(store, clock, log)
        running = group.create_task(Compaction(store, log, clock, lambda: bench.applied_bytes).run())
        yield bench
        running.cancel()


async def test_a_snapshot_is_taken_after_so_many_entries() -> None:
    async with compaction() as bench:
        await put(bench.store, NODES, Node(id="a"))
        await bench.clock.advance(CHECK_S)
        assert bench.log.taken == []
        await put(bench.store, NODES, Node(id="b"))
        await bench.clock.advance(CHECK_S)
        assert bench.log.taken == [3]


async def test_few_entries_of_many_bytes_are_a_long_log_too_and_count_once() -> None:
    async with compaction() as bench:
        bench.applied_bytes = LONG_LOG_BYTES
        await bench.clock.advance(CHECK_S)
        assert bench.log.taken == [1]
        await put(bench.store, NODES, Node(id="a"))
        bench.applied_bytes += LONG_LOG_BYTES - 1
        await bench.clock.advance(CHECK_S)
        assert bench.log.taken == [1]
        bench.applied_bytes += 1
        await bench.clock.advance(CHECK_S)
        assert bench.log.taken == [1, 2]


async def test_nothing_new_is_no_reason_for_a_snapshot() -> None:
    async with compaction() as bench:
        bench.applied_bytes = LONG_LOG_BYTES
        await bench.clock.advance(CHECK_S)
        bench.applied_bytes += 2 * LONG_LOG_BYTES
        await bench.clock.advance(CHECK_S)
        assert bench.log.taken == [1]
