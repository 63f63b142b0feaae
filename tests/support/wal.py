"""A write-ahead log on a fake disk, as the tests of the log use it."""

from __future__ import annotations

from pathlib import Path

from manager.raft.log.crypt import Plain, Sealer
from manager.raft.log.disk import Disk
from manager.raft.log.replay import Replayed
from manager.raft.log.replay import replay as replay_with
from manager.raft.log.wal import WriteAheadLog
from manager.raft.types import ConfState, Entry, EntryKind, HardState, Metadata, SnapshotMark
from tests.support.disk import FakeDisk

DIR = Path("/wal")
ME = Metadata("cluster1", 7)
CONF = ConfState(voters=(7,))
SEGMENT_BYTES = 16 * 1024
PLAIN = Plain(Path("/raft-key"))


def new_disk(sealer: Sealer = PLAIN) -> FakeDisk:
    disk = FakeDisk()
    disk.make_dir(DIR)
    WriteAheadLog.create(disk, DIR, ME, SnapshotMark(conf=CONF), sealer, salt=42, segment_bytes=SEGMENT_BYTES)
    return disk


def replay(disk: Disk, directory: Path = DIR, sealer: Sealer = PLAIN) -> Replayed:
    return replay_with(disk, directory, sealer)


def reopen(disk: FakeDisk, sealer: Sealer = PLAIN) -> tuple[WriteAheadLog, Replayed]:
    state = replay(disk, DIR, sealer)
    return WriteAheadLog.resume(disk, DIR, state, sealer, segment_bytes=SEGMENT_BYTES), state


def entry(index: int, size: int = 20, term: int = 1) -> Entry:
    return Entry(term, index, EntryKind.NORMAL, bytes([index % 256]) * size)


def written(count: int, size: int = 1500, *, committed: int | None = None, sealer: Sealer = PLAIN) -> FakeDisk:
    """Return a disk with a log of `count` entries, each in a frame of its own, all but the last one committed.

    Args:
        committed: the last entry that is, if it is another one.
    """
    disk = new_disk(sealer)
    log, _ = reopen(disk, sealer)
    for index in range(1, count + 1):
        log.append([entry(index, size)], HardState(1, 7, min(index - 1, count if committed is None else committed)))
    log.close()
    return disk


def indexes(disk: FakeDisk, sealer: Sealer = PLAIN) -> list[int]:
    log, state = reopen(disk, sealer)
    log.close()
    assert disk.open_files == 0
    return [e.index for e in state.entries]
