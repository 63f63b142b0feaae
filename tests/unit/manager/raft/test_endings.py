"""However the Raft thread ends, the main loop hears of it: no wait is left behind, and the reason is said."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from manager.raft.api import StateMachine
from manager.raft.driver import DriverConfig, RaftThread, bootstrap
from manager.raft.node import NodeConfig
from manager.raft.types import Entry, Leadership, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SNAP

CONFIG = DriverConfig(tick_s=0.01, node=NodeConfig(segment_bytes=16 * 1024, keep_entries=2))
DEADLINE_S = 10


class Machine:
    """Counts what it was given; `explodes` makes it refuse to lead."""

    def __init__(self, *, explodes: bool = False) -> None:
        self.index = 0
        self.leads = asyncio.Event()
        self._explodes = explodes

    def callbacks(self) -> StateMachine:
        return StateMachine(self._apply, self._restore, self._lead)

    def _apply(self, entries: Sequence[Entry]) -> None:
        self.index = entries[-1].index

    async def _restore(self, mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        async for _ in chunks:
            self.index = mark.index

    def _lead(self, _leadership: Leadership) -> None:
        if self._explodes:
            raise ValueError("boom")
        self.leads.set()


@pytest.fixture
def disk() -> FakeDisk:
    disk = FakeDisk()
    bootstrap(HERE, ME, salt=1, config=CONFIG.node, disk=disk)
    return disk


async def started(disk: FakeDisk, machine: Machine) -> RaftThread:
    log = RaftThread(HERE, ME, machine.callbacks(), config=CONFIG, disk=disk)
    await log.start()
    return log


async def stopped(log: RaftThread) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await log.stop()


def close_fails(what: str, _path: Path) -> int | None:
    return errno.EIO if what == "close" else None


async def test_a_file_that_cannot_be_closed_does_not_hold_up_a_stop(disk: FakeDisk) -> None:
    machine = Machine()
    log = await started(disk, machine)
    async with asyncio.timeout(DEADLINE_S):
        await machine.leads.wait()
    disk.fault = close_fails
    await stopped(log)
    assert "Input/output error" in (await log.failed()).message
    assert disk.open_files == 0


async def test_the_first_reason_is_the_one_that_is_told(disk: FakeDisk) -> None:
    machine = Machine()
    log = await started(disk, machine)
    async with asyncio.timeout(DEADLINE_S):
        await machine.leads.wait()
        disk.fault = lambda what, _path: {"datasync": errno.EROFS, "close": errno.EIO}.get(what)
        with pytest.raises(SwarmError, match="Read-only file system") as caught:
            await log.propose(b"x")
    assert caught.value.code is Code.INTERNAL
    await stopped(log)
    assert "Read-only file system" in (await log.failed()).message


async def test_a_machine_that_cannot_lead_fails_the_log(disk: FakeDisk) -> None:
    log = await started(disk, Machine(explodes=True))
    async with asyncio.timeout(DEADLINE_S):
        assert "boom" in (await log.failed()).message
        with pytest.raises(SwarmError, match="boom"):
            await log.propose(b"x")
    await stopped(log)
    assert disk.open_files == 0


async def test_snapshots_refused_on_a_full_disk_cost_no_descriptors(disk: FakeDisk) -> None:
    machine = Machine()
    log = await started(disk, machine)
    async with asyncio.timeout(DEADLINE_S):
        await machine.leads.wait()
        await log.propose(b"x")
        before = disk.open_files
        disk.capacity_bytes = disk.used_bytes
        for _ in range(20):
            with pytest.raises(SwarmError) as caught:
                await log.snapshot(machine.index, [b"x"])
            assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert (disk.open_files, disk.files(SNAP)) == (before, [])
        disk.capacity_bytes = None
        await log.snapshot(machine.index, [b"x"])
    await stopped(log)


async def test_a_snapshot_given_up_at_its_beginning_leaves_no_file(disk: FakeDisk) -> None:
    machine = Machine()
    log = await started(disk, machine)
    async with asyncio.timeout(DEADLINE_S):
        await machine.leads.wait()
        await log.propose(b"x")
        begun, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def slow(what: str, path: Path) -> None:
            if what == "create" and path.parent == SNAP:
                loop.call_soon_threadsafe(begun.set)
                assert go_on.wait(DEADLINE_S)

        disk.fault = slow
        before = disk.open_files
        snapshot = asyncio.ensure_future(log.snapshot(machine.index, [b"x"]))
        await begun.wait()
        snapshot.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await snapshot
        assert (disk.open_files, disk.files(SNAP)) == (before, [])
    await stopped(log)
