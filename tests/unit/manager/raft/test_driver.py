"""The Raft thread as the main loop sees it: order, coalescing, failure, and a stop at any time."""

from __future__ import annotations

import asyncio
import errno
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from manager.raft.api import ReplicatedLog, StateMachine
from manager.raft.driver import DriverConfig, RaftThread, bootstrap
from manager.raft.node import NodeConfig
from manager.raft.types import Entry, EntryKind, Leadership, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SNAP, frames

CONFIG = DriverConfig(tick_s=0.01, node=NodeConfig(segment_bytes=16 * 1024, keep_entries=2))
DEADLINE_S = 10


class Machine:
    """Remembers what was applied; `restored` is what a snapshot brought."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.batches: list[int] = []
        self.index = 0
        self.leads = asyncio.Event()
        self.leadership: list[Leadership] = []
        self.thread = threading.get_ident()
        self.explode_at: bytes | None = None

    def callbacks(self) -> StateMachine:
        return StateMachine(self.apply, self.restore, self.told)

    def apply(self, entries: Sequence[Entry]) -> None:
        assert threading.get_ident() == self.thread, "on the main loop"
        self.batches.append(len(entries))
        for entry in entries:
            assert entry.index == self.index + 1
            self.index = entry.index
            if entry.kind is EntryKind.NORMAL:
                if entry.data == self.explode_at:
                    raise ValueError("boom")
                self.applied.append(entry.data)

    async def restore(self, mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        self.applied = [chunk async for chunk in chunks]
        self.index = mark.index

    def told(self, leadership: Leadership) -> None:
        self.leadership.append(leadership)
        self.leads.set()


class Gate:
    """Holds up every sync of a FakeDisk's log while it is shut."""

    def __init__(self, disk: FakeDisk) -> None:
        self.open, self.reached = threading.Event(), threading.Event()
        self.open.set()
        disk.fault = self._pass

    def _pass(self, what: str, path: Path) -> int | None:
        if what == "datasync" and not self.open.is_set():
            self.reached.set()
            assert self.open.wait(DEADLINE_S)
        return None


@pytest.fixture
def disk() -> FakeDisk:
    disk = FakeDisk()
    bootstrap(HERE, ME, salt=1, config=CONFIG.node, disk=disk)
    return disk


@asynccontextmanager
async def running(
    disk: FakeDisk, config: DriverConfig = CONFIG, machine: Machine | None = None
) -> AsyncIterator[tuple[RaftThread, Machine]]:
    machine = machine or Machine()
    log = RaftThread(HERE, ME, machine.callbacks(), config=config, disk=disk)
    await log.start()
    try:
        async with asyncio.timeout(DEADLINE_S):
            await machine.leads.wait()
            yield log, machine
    finally:
        await log.stop()
        assert disk.open_files == 0
        assert not any(thread.name == "raft" for thread in threading.enumerate())


def code(result: object) -> Code:
    assert isinstance(result, SwarmError), result
    return result.code


async def reached(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, DEADLINE_S)


async def test_a_long_backlog_is_applied_in_order(disk: FakeDisk) -> None:
    """More deliveries than the loop takes without a rest, all of one frame."""
    async with running(disk) as (log, machine):
        data = [b"%d" % number for number in range(3000)]
        await asyncio.gather(*(log.propose(each) for each in data))
        assert machine.applied == data
        assert max(machine.batches) <= CONFIG.node.core.apply_entries


async def test_a_proposal_is_applied_before_it_returns(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        typed: ReplicatedLog = log
        commit = await typed.propose(b"a")
        assert (machine.applied, commit.index, commit.term) == ([b"a"], 2, 1)
        status = log.status()
        assert (status.applied_index, status.commit_index, status.leader_id) == (2, 2, 7)
        assert machine.leadership == [Leadership(True, 1, 7)]


async def test_proposals_keep_the_order_of_their_calls(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        data = [b"%d" % i for i in range(2000)]
        commits = await asyncio.gather(*(log.propose(d) for d in data))
        assert machine.applied == data
        assert [c.index for c in commits] == list(range(2, 2002))
        assert len(machine.batches) < 500


async def test_what_comes_during_a_sync_shares_the_next_frame(disk: FakeDisk) -> None:
    async with running(disk, DriverConfig(tick_s=3600, node=CONFIG.node)) as (log, machine):
        gate = Gate(disk)
        gate.open.clear()
        before = len(frames(disk))
        first = asyncio.ensure_future(log.propose(b"first"))
        await reached(gate.reached)
        others = [asyncio.ensure_future(log.propose(b"%d" % i)) for i in range(50)]
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(first, *others)
        assert len(frames(disk)) - before == 2
        assert machine.batches[-2:] == [1, 50]


async def test_a_frame_has_a_largest_size(disk: FakeDisk) -> None:
    config = DriverConfig(tick_s=3600, max_frame_bytes=1000, node=CONFIG.node)
    async with running(disk, config) as (log, _):
        await asyncio.gather(*(log.propose(bytes(400)) for _ in range(30)))
        assert max(frame.records for _, _, frame in frames(disk)) <= 4


async def test_too_much_under_way_is_refused(disk: FakeDisk) -> None:
    config = DriverConfig(max_pending=10, max_pending_bytes=1000, node=CONFIG.node)
    async with running(disk, config) as (log, machine):
        results = await asyncio.gather(*(log.propose(b"x") for _ in range(20)), return_exceptions=True)
        assert [code(r) for r in results[10:]] == [Code.RESOURCE_EXHAUSTED] * 10
        results = await asyncio.gather(*(log.propose(bytes(600)) for _ in range(2)), return_exceptions=True)
        assert code(results[1]) is Code.RESOURCE_EXHAUSTED
        await log.propose(bytes(5000))
        assert len(machine.applied) == 12


async def test_a_cancelled_caller_takes_nothing_back(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        gate = Gate(disk)
        gate.open.clear()
        caller = asyncio.ensure_future(log.propose(b"a"))
        await reached(gate.reached)
        caller.cancel()
        gate.open.set()
        await log.propose(b"b")
        assert machine.applied == [b"a", b"b"]
        assert caller.cancelled()


async def test_a_restart_restores_the_snapshot_and_then_the_entries(disk: FakeDisk) -> None:
    data = [b"%d" % i for i in range(300)]
    async with running(disk) as (log, machine):
        await asyncio.gather(*(log.propose(d) for d in data[:200]))
        mark = await log.snapshot(machine.index, list(machine.applied))
        assert log.status().snapshot.index == 201
        await asyncio.gather(*(log.propose(d) for d in data[200:]))
        assert mark.conf.voters == (7,)
    async with running(disk) as (log, machine):
        assert machine.applied == data
        assert machine.leadership == [Leadership(True, 2, 7)]


async def test_proposals_go_on_while_a_snapshot_is_written(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        await log.propose(b"a")

        async def chunks() -> AsyncIterator[bytes]:
            for i in range(5):
                await log.propose(b"during")
                yield b"%d" % i

        index = machine.index
        await log.snapshot(index, chunks())
        assert machine.applied.count(b"during") == 5
        assert log.status().snapshot.index == index


async def test_a_snapshot_that_fails_leaves_the_last_one(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        await log.propose(b"a")

        async def broken() -> AsyncIterator[bytes]:
            yield b"x"
            with pytest.raises(SwarmError, match="being written already"):
                await log.snapshot(1, [])
            raise KeyError("no more")

        with pytest.raises(KeyError):
            await log.snapshot(machine.index, broken())
        with pytest.raises(SwarmError, match="is of no use"):
            await log.snapshot(machine.index + 1, [])
        assert disk.files(SNAP) == []
        await log.propose(b"b")


@pytest.mark.parametrize("what", ["pwrite", "datasync"])
async def test_a_failing_disk_reaches_everybody(disk: FakeDisk, what: str) -> None:
    async with running(disk) as (log, machine):
        watcher = asyncio.ensure_future(log.failed())
        disk.fault = lambda step, _path: errno.EIO if step == what else None
        results = await asyncio.gather(*(log.propose(b"x") for _ in range(5)), return_exceptions=True)
        reason = await watcher
        assert "Input/output error" in reason.message
        assert {code(r) for r in results} == {Code.INTERNAL}
        with pytest.raises(SwarmError, match="Input/output error"):
            await log.propose(b"late")
        with pytest.raises(SwarmError, match="Input/output error"):
            await log.snapshot(1, [])
        assert machine.applied == []


async def test_a_disk_that_fails_while_idle_is_noticed(disk: FakeDisk) -> None:
    async with running(disk) as (log, _):
        await log.propose(b"x")
        disk.fault = lambda step, _path: errno.EIO if step == "datasync" else None
        assert (await log.failed()).code is Code.INTERNAL


async def test_a_disk_that_fails_under_a_snapshot_stops_the_log(disk: FakeDisk) -> None:
    async with running(disk, DriverConfig(tick_s=3600, node=CONFIG.node)) as (log, machine):
        await log.propose(b"x")
        disk.fault = lambda step, path: errno.EIO if step == "datasync" and path.suffix == ".tmp" else None
        with pytest.raises(SwarmError, match="Input/output error"):
            await log.snapshot(machine.index, [b"x"])
        assert (await log.failed()).code is Code.INTERNAL


async def test_an_entry_that_cannot_be_applied_fails_the_log(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        machine.explode_at = b"bad"
        results = await asyncio.gather(*(log.propose(d) for d in (b"bad", b"after")), return_exceptions=True)
        assert {code(r) for r in results} == {Code.INTERNAL}
        assert "boom" in (await log.failed()).message
        assert machine.applied == []


async def test_a_full_disk_refuses_and_recovers(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        disk.capacity_bytes = disk.used_bytes
        with pytest.raises(SwarmError, match="disk full on /member/wal") as caught:
            for _ in range(100):
                await log.propose(bytes(1000))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert log.status().log_full == caught.value.message
        disk.capacity_bytes = None
        await log.propose(b"again")
        assert machine.applied[-1] == b"again"


async def test_a_stop_while_busy_settles_everybody(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        gate = Gate(disk)
        gate.open.clear()
        first = asyncio.ensure_future(log.propose(b"first"))
        await reached(gate.reached)
        second = asyncio.ensure_future(log.propose(b"second"))
        await asyncio.sleep(0)
        stopping = asyncio.ensure_future(log.stop())
        await asyncio.sleep(0)
        with pytest.raises(SwarmError, match="is stopping"):
            await log.propose(b"third")
        gate.open.set()
        await stopping
        await asyncio.gather(first, second)
        assert machine.applied == [b"first", b"second"]
        await log.stop()


async def test_a_stop_gives_up_a_snapshot(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        await log.propose(b"x")
        writing, go_on = asyncio.Event(), asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            writing.set()
            await go_on.wait()
            yield b"x"

        snapshot = asyncio.ensure_future(log.snapshot(machine.index, chunks()))
        await writing.wait()
        stopping = asyncio.ensure_future(log.stop())
        go_on.set()
        with pytest.raises(SwarmError, match="is stopping"):
            await snapshot
        await stopping
        assert disk.files(SNAP) == []


async def test_a_stopped_log_is_left_sealed(disk: FakeDisk) -> None:
    async with running(disk) as (log, _):
        await log.propose(b"x")
    assert frames(disk)[-1][2].records == 1, "only the commit index"


async def test_a_directory_that_cannot_be_used_is_refused_at_start(disk: FakeDisk) -> None:
    machine = Machine()
    log = RaftThread(HERE, Metadata("other", 7), machine.callbacks(), config=CONFIG, disk=disk)
    with pytest.raises(SwarmError, match="not started"):
        await log.propose(b"x")
    with pytest.raises(SwarmError, match="belongs to cluster cluster1"):
        await log.start()
    await log.stop()
    assert disk.open_files == 0


async def test_a_damaged_snapshot_is_refused_at_start(disk: FakeDisk) -> None:
    async with running(disk) as (log, machine):
        await log.propose(b"x")
        await log.snapshot(machine.index, [b"x", b"y"])
    (path,) = disk.files(SNAP)
    data = bytearray(disk.read(path))
    data[-30] ^= 1
    disk.write(path, bytes(data))
    log = RaftThread(HERE, ME, Machine().callbacks(), config=CONFIG, disk=disk)
    with pytest.raises(SwarmError, match=f"{path} is damaged at byte") as caught:
        await log.start()
    assert caught.value.code is Code.CORRUPT
    await log.stop()
    assert disk.open_files == 0


async def test_the_switch_interval_is_given_back(disk: FakeDisk) -> None:
    before = sys.getswitchinterval()
    async with running(disk, DriverConfig(switch_interval_s=0.001, node=CONFIG.node)):
        assert sys.getswitchinterval() == pytest.approx(0.001)
    assert sys.getswitchinterval() == before
