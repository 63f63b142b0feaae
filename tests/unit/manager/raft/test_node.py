"""One member without threads: refusals, a full disk, and what is done while idle."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from manager.raft.log.disk import Disk
from manager.raft.log.faults import LogFailedError
from manager.raft.node import NodeConfig
from manager.raft.types import Leadership, Role
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import SMALL, WAL, Member, frames, new_log


@pytest.fixture
def disk() -> FakeDisk:
    disk = FakeDisk()
    new_log(disk)
    return disk


def refusal(result: int | SwarmError) -> SwarmError:
    assert isinstance(result, SwarmError)
    return result


def test_a_batch_is_one_frame_and_one_sync(disk: FakeDisk) -> None:
    member = Member(disk).start()
    before, synced = len(frames(disk)), disk.operations
    assert member.propose(b"a", b"b", b"c") == [2, 3, 4]
    assert (len(frames(disk)) - before, disk.operations - synced) == (1, 2), "one write, one sync"
    assert member.applied == [b"a", b"b", b"c"]
    member.close()


def test_a_proposal_that_is_too_large_is_refused_alone(disk: FakeDisk) -> None:
    member = Member(disk, config=NodeConfig(segment_bytes=8192, max_entry_bytes=10)).start()
    small, large, last = member.propose(b"a", bytes(11), b"b")
    assert (small, last) == (2, 3)
    assert refusal(large).code is Code.INVALID_ARGUMENT
    member.close()


def test_a_full_disk_refuses_writes_and_keeps_the_rest_going(disk: FakeDisk) -> None:
    member = Member(disk).start()
    disk.capacity_bytes = disk.used_bytes
    taken: list[bytes] = []
    while True:
        data = b"%d" % len(taken) * 300
        (result,) = member.propose(data)
        if isinstance(result, SwarmError):
            break
        taken.append(data)
    assert result.code is Code.RESOURCE_EXHAUSTED
    assert member.node.status().log_full == result.message
    assert member.node.leads
    member.tick()
    member.tick()
    assert member.applied == taken
    disk.capacity_bytes = None
    member.tick()
    assert member.node.status().log_full is None
    assert isinstance(member.propose(b"after")[0], int)
    member.close()
    member = Member(disk).start()
    assert member.applied == [*taken, b"after"]
    member.close()


def test_a_snapshot_fits_into_the_reserve_of_a_full_log_and_frees_space(disk: FakeDisk) -> None:
    member = Member(disk, config=NodeConfig(segment_bytes=8192, keep_entries=0)).start()
    for _ in range(20):
        member.propose(bytes(1000))
    disk.capacity_bytes = disk.used_bytes
    while isinstance(member.propose(bytes(1000))[0], int):
        pass
    disk.capacity_bytes += 40_000  # for the snapshot's own file
    member.applied = [b"small"]
    member.snapshot()
    assert isinstance(member.propose(bytes(1000))[0], int)
    member.close()


def test_a_member_starts_on_a_full_disk_and_leads_once_there_is_space(disk: FakeDisk) -> None:
    member = Member(disk).start()
    member.propose(b"a")
    member.tick()
    member.tick()
    disk.capacity_bytes = disk.used_bytes
    while disk.used_bytes and not isinstance(member.propose(bytes(100))[0], SwarmError):
        pass
    for _ in range(10):  # restarts use up the reserve
        member.close()
        member = Member(disk).start()
    status = member.node.status()
    assert (status.role, status.log_full is not None) == (Role.FOLLOWER, True)
    assert member.applied[0] == b"a", "what is known to be committed can be read"
    assert refusal(member.propose(b"x")[0]).code is Code.RESOURCE_EXHAUSTED
    disk.capacity_bytes = None
    member.tick()
    assert member.leadership[-1].is_leader
    assert isinstance(member.propose(b"x")[0], int)
    member.close()


def test_the_commit_index_is_stored_once_when_idle(disk: FakeDisk) -> None:
    member = Member(disk).start()
    member.propose(b"a")
    before = len(frames(disk))
    member.tick()
    assert len(frames(disk)) == before, "not idle yet"
    for _ in range(3):
        member.tick()
    assert len(frames(disk)) == before + 1
    member.close()


def test_an_idle_log_proves_its_last_entry_whole(disk: FakeDisk) -> None:
    """A flipped bit in an acknowledged entry is damage, not a torn tail, once the log was idle."""
    member = Member(disk).start()
    member.propose(b"acknowledged")
    member.tick()
    member.tick()
    member.close()
    path, offset, _ = frames(disk)[-2]
    data = bytearray(disk.read(path))
    data[offset + 60] ^= 1
    disk.write(path, bytes(data))
    with pytest.raises(SwarmError, match=f"{path} is damaged at byte {offset}"):
        Member(disk)


def test_leadership_comes_with_a_new_term_at_each_start(disk: FakeDisk) -> None:
    for term in (1, 2, 3):
        member = Member(disk).start()
        assert member.leadership == [Leadership(True, term, 7)]
        member.close()


def test_a_snapshot_of_nothing_new_is_refused(disk: FakeDisk) -> None:
    member = Member(disk).start()
    member.propose(b"a")
    member.snapshot()
    for index in (1, 2, 3):
        with pytest.raises(SwarmError, match="is of no use"):
            member.node.mark_at(index)
    member.close()


def test_a_failed_sync_stops_the_member(disk: FakeDisk) -> None:
    member = Member(disk).start()
    disk.fault = lambda what, _path: errno.EIO if what == "datasync" else None
    with pytest.raises(LogFailedError):
        member.propose(b"a")
    assert member.applied == []
    member.close()


def test_the_fake_disk_is_a_disk(disk: FakeDisk) -> None:
    as_disk: Disk = disk
    assert as_disk.list_dir(WAL)
    assert as_disk.list_dir(Path("/nowhere")) == []
    assert SMALL.segment_bytes == 8192
