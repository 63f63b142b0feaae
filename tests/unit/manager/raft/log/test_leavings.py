"""What a refused or failed write leaves behind: no open file, no half a file, and a reason in words."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from manager.raft.log.faults import LogFailedError
from manager.raft.node import NodeConfig
from manager.raft.types import SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, SNAP, WAL, Member, new_log


def fault(what: str, number: int, suffix: str = "") -> Callable[[str, Path], int | None]:
    return lambda step, path: number if step == what and path.name.endswith(suffix) else None


def no_fault(_what: str, _path: Path) -> None:
    return None


@pytest.fixture
def disk() -> FakeDisk:
    disk = FakeDisk()
    new_log(disk)
    return disk


@pytest.fixture
def member(disk: FakeDisk) -> Member:
    member = Member(disk).start()
    member.propose(b"a")
    return member


def leavings(disk: FakeDisk) -> list[Path]:
    return [path for path in disk.files(SNAP) + disk.files(WAL) if path.suffix == ".tmp"]


def write_snapshot(member: Member) -> SnapshotMark:
    """Write a snapshot as the driver does: what was begun is given up whatever comes."""
    mark = member.node.mark_at(member.node.applied_index)
    writer = member.node.snapshot_writer(mark)
    try:
        writer.write(b"state")
        writer.finish()
    finally:
        writer.abort()
    return mark


def test_a_snapshot_refused_at_its_first_byte_leaves_no_file_however_often(disk: FakeDisk, member: Member) -> None:
    disk.capacity_bytes = disk.used_bytes
    before = disk.open_files
    for _ in range(50):
        with pytest.raises(SwarmError) as caught:
            member.snapshot()
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert (disk.open_files, leavings(disk)) == (before, [])
    disk.capacity_bytes = None
    member.snapshot()
    member.close()
    assert disk.open_files == 0


@pytest.mark.parametrize("what", ["pwrite", "datasync", "rename"])
def test_a_snapshot_refused_at_any_step_leaves_no_file(disk: FakeDisk, member: Member, what: str) -> None:
    before = disk.open_files
    disk.fault = fault(what, errno.ENOSPC, "" if what == "rename" else ".tmp")
    with pytest.raises(SwarmError) as caught:
        write_snapshot(member)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert (disk.open_files, disk.files(SNAP)) == (before, [])
    disk.fault = no_fault
    member.snapshot()
    member.close()


@pytest.mark.parametrize("what", ["close", "unlink"])
def test_a_snapshot_that_cannot_be_given_up_is_final(disk: FakeDisk, member: Member, what: str) -> None:
    mark = member.node.mark_at(member.node.applied_index)
    writer = member.node.snapshot_writer(mark)
    disk.fault = fault(what, errno.EIO)
    with pytest.raises(LogFailedError, match=r"removing /member/snap/\S+ failed \(Input/output error\)"):
        writer.abort()
    disk.fault = no_fault
    member.close()
    assert disk.open_files == 0


@pytest.mark.parametrize("what", ["close", "unlink"])
def test_a_spare_segment_that_cannot_be_given_up_is_final(disk: FakeDisk, member: Member, what: str) -> None:
    def full_and_failing(step: str, path: Path) -> int | None:
        if path.name != "next.tmp":
            return None
        return {"allocate": errno.ENOSPC, what: errno.EIO}.get(step)

    disk.fault = full_and_failing
    with pytest.raises(LogFailedError, match=r"removing /member/wal/next.tmp failed"):
        member.propose(bytes(20_000))
    disk.fault = no_fault
    with pytest.raises(LogFailedError):
        member.propose(b"b")
    member.close()
    assert disk.open_files == 0


@pytest.mark.parametrize("what", ["allocate", "pwrite", "datasync", "rename"])
def test_a_log_refused_at_its_beginning_leaves_the_space_it_took(what: str) -> None:
    disk = FakeDisk()
    disk.fault = fault(what, errno.ENOSPC)
    with pytest.raises(SwarmError, match="disk full on /member/wal") as caught:
        new_log(disk)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert (disk.used_bytes, disk.open_files, leavings(disk)) == (0, 0, [])
    disk.fault = no_fault
    new_log(disk)
    Member(disk).start().close()


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, Code.RESOURCE_EXHAUSTED), (errno.EROFS, Code.INTERNAL)])
def test_a_directory_that_cannot_be_made_is_refused_by_name(number: int, code: Code) -> None:
    disk = FakeDisk()
    disk.fault = fault("make_dir", number, "snap")
    with pytest.raises(SwarmError, match=str(SNAP)) as caught:
        new_log(disk)
    assert caught.value.code is code
    disk.fault = no_fault
    new_log(disk)


def test_leavings_that_cannot_be_removed_at_start_are_named(disk: FakeDisk) -> None:
    disk.create(WAL / "next.tmp").close()
    disk.fault = fault("unlink", errno.EIO, ".tmp")
    with pytest.raises(LogFailedError, match=r"removing /member/wal/next.tmp failed"):
        Member(disk, HERE, NodeConfig())
    assert disk.open_files == 0
