"""A member's directory: snapshots, their marks, whose it is, and leftovers."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from manager.raft.log import storage
from manager.raft.log.faults import LogFailedError
from manager.raft.log.snapshot_file import SnapshotReader, SnapshotWriter, snapshot_name
from manager.raft.log.storage import Storage
from manager.raft.types import ConfState, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SNAP, WAL, Member, new_log
from tests.support.wal import PLAIN, entry

MARK = SnapshotMark(9, 2, ConfState(voters=(7,), learners=(8,)))


def new_disk() -> FakeDisk:
    disk = FakeDisk()
    new_log(disk)
    return disk


def write(disk: FakeDisk, chunks: list[bytes]) -> Path:
    writer = SnapshotWriter(disk, SNAP, MARK, PLAIN)
    for chunk in chunks:
        writer.write(chunk)
    writer.finish()
    assert disk.open_files == 0
    return SNAP / snapshot_name(MARK)


def read(disk: FakeDisk, path: Path) -> tuple[SnapshotMark, list[bytes]]:
    reader = SnapshotReader(disk, path, PLAIN)
    try:
        return reader.mark, list(reader.chunks())
    finally:
        reader.close()


@pytest.mark.parametrize("chunks", [[], [b""], [b"a", b"", b"b" * 5000], [bytes(6 << 20)]])
def test_a_snapshot_comes_back_chunk_by_chunk(chunks: list[bytes]) -> None:
    disk = new_disk()
    assert read(disk, write(disk, chunks)) == (MARK, chunks)


def test_every_broken_byte_of_a_snapshot_is_refused_by_file_and_offset() -> None:
    disk = new_disk()
    path = write(disk, [b"one", b"two", b"three"])
    sound = disk.read(path)
    variants = [sound[:cut] for cut in range(len(sound))] + [sound + b"\0"]
    for at in range(len(sound)):
        flipped = bytearray(sound)
        flipped[at] ^= 0x10
        variants.append(bytes(flipped))
    for variant in variants:
        disk.write(path, variant)
        with pytest.raises(SwarmError, match=rf"{path} (is damaged at byte \d+: )") as caught:
            read(disk, path)
        assert caught.value.code is Code.CORRUPT
    assert disk.open_files == 0


def test_a_snapshot_that_does_not_finish_leaves_nothing() -> None:
    disk = new_disk()
    writer = SnapshotWriter(disk, SNAP, MARK, PLAIN)
    writer.write(b"half")
    writer.abort()
    writer.abort()
    assert disk.files(SNAP) == []


def test_a_full_disk_refuses_a_snapshot_and_a_failing_one_is_final() -> None:
    disk = new_disk()
    disk.capacity_bytes = disk.used_bytes + 1000
    writer = SnapshotWriter(disk, SNAP, MARK, PLAIN)
    with pytest.raises(SwarmError, match=f"disk full on {SNAP}") as caught:
        writer.write(bytes(2000))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    writer.abort()
    disk.capacity_bytes = None
    writer = SnapshotWriter(disk, SNAP, MARK, PLAIN)
    disk.fault = lambda what, _path: errno.EIO if what == "datasync" else None
    with pytest.raises(LogFailedError):
        writer.finish()
    writer.abort()


def test_only_the_newest_snapshot_that_counts_is_kept() -> None:
    disk = new_disk()
    member = Member(disk).start()
    for number in range(30):
        member.propose(b"%d" % number)
        if number % 10 == 9:
            member.snapshot()
    (kept,) = disk.files(SNAP)
    assert kept.name == snapshot_name(member.node.status().snapshot)
    member.close()
    for name in ("00000000000000ff-0000000000000001.snap", "00000000000000ff-0000000000000001.snap.tmp"):
        disk.create(SNAP / name).close()
    disk.create(WAL / "next.tmp").close()
    member = Member(disk).start()
    assert disk.files(SNAP) == [kept]
    assert [p for p in disk.files(WAL) if p.suffix != ".wal"] == []
    assert member.applied == [b"%d" % n for n in range(30)]
    status = member.node.status()
    assert status.first_index <= status.snapshot.index - 2, "a few entries are kept for slow followers"
    member.close()


def test_a_missing_or_exchanged_snapshot_is_refused() -> None:
    disk = new_disk()
    member = Member(disk).start()
    member.propose(b"a")
    member.snapshot()
    member.close()
    (path,) = disk.files(SNAP)
    image = disk.after_kill()
    image.unlink(path)
    with pytest.raises(SwarmError, match=f"{path} is damaged.*the file is missing"):
        Member(image)
    other = SnapshotWriter(disk, SNAP, MARK, PLAIN)
    other.finish()
    disk.rename(SNAP / snapshot_name(MARK), path)
    with pytest.raises(SwarmError, match="it holds the state at"):
        Member(disk)


def test_another_cluster_s_or_member_s_directory_is_refused() -> None:
    disk = new_disk()
    path = disk.files(WAL)[0]
    torn = disk.read(path)[:-1] + b"?"
    disk.write(path, torn)
    with pytest.raises(SwarmError, match=r"/member belongs to cluster cluster1, not to other: choose"):
        Storage.open(disk, HERE, Metadata("other", 7))
    with pytest.raises(SwarmError, match=r"/member belongs to member 7, not to 8: each"):
        Storage.open(disk, HERE, Metadata("cluster1", 8))
    with pytest.raises(SwarmError, match="holds a log already") as caught:
        new_log(disk)
    assert caught.value.code is Code.ALREADY_EXISTS
    assert disk.open_files == 0
    assert disk.read(path) == torn, "what belongs to another is not touched"


def test_a_directory_without_a_log_is_not_found() -> None:
    disk = FakeDisk()
    assert not storage.exists(disk, HERE)
    with pytest.raises(SwarmError, match="there is no log in") as caught:
        Storage.open(disk, HERE, ME)
    assert caught.value.code is Code.NOT_FOUND


def test_compaction_waits_for_the_mark() -> None:
    """A mark that cannot be stored leaves the last snapshot and all segments in place."""
    disk = new_disk()
    opened, state = Storage.open(disk, HERE, ME, segment_bytes=8192)
    opened.append([entry(1)], HardState(1, 7, 1))
    before = disk.files(WAL)
    writer = opened.snapshot_writer(SnapshotMark(1, 1, state.mark.conf))
    writer.finish()
    disk.fault = lambda what, path: errno.EIO if what == "datasync" and path.suffix == ".wal" else None
    with pytest.raises(LogFailedError):
        opened.adopt_snapshot(SnapshotMark(1, 1, state.mark.conf), HardState(1, 7, 1), keep_from=1)
    opened.close()
    assert disk.files(WAL) == before
