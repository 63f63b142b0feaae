"""A write-ahead log on a fake disk, as the tests of the log use it."""

from __future__ import annotations

from pathlib import Path

from manager.raft.log.replay import Replayed, replay
from manager.raft.log.wal import WriteAheadLog
from manager.raft.types import ConfState, Entry, EntryKind, HardState, Metadata, SnapshotMark
from tests.support.disk import FakeDisk

DIR = Path("/wal")
ME = Metadata("cluster1", 7)
CONF = ConfState(voters=(7,))
SEGMENT_BYTES = 16 * 1024


def new_disk() -> FakeDisk:
    disk = FakeDisk()
    disk.make_dir(DIR)
    WriteAheadLog.create(disk, DIR, ME, SnapshotMark(conf=CONF), salt=42, segment_bytes=SEGMENT_BYTES)
    return disk


def reopen(disk: FakeDisk) -> tuple[WriteAheadLog, Replayed]:
    state = replay(disk, DIR)
    return WriteAheadLog.resume(disk, DIR, state, segment_bytes=SEGMENT_BYTES), state


def entry(index: int, size: int = 20, term: int = 1) -> Entry:
    return Entry(term, index, EntryKind.NORMAL, bytes([index % 256]) * size)


def written(count: int, size: int = 1500) -> FakeDisk:
    """Return a disk with a log of `count` entries, each in a frame of its own."""
    disk = new_disk()
    log, _ = reopen(disk)
    for index in range(1, count + 1):
        log.append([entry(index, size)], HardState(1, 7, index - 1))
    log.close()
    return disk


def indexes(disk: FakeDisk) -> list[int]:
    log, state = reopen(disk)
    log.close()
    assert disk.open_files == 0
    return [e.index for e in state.entries]
