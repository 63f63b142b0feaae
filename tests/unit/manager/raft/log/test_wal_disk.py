"""The write-ahead log on disks that are full, fail, or lose what was not synced."""

from __future__ import annotations

import errno
import random
from pathlib import Path

import pytest

from manager.raft.log.disk import OsDisk
from manager.raft.log.faults import LogFailedError
from manager.raft.log.wal import WriteAheadLog
from manager.raft.types import HardState, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import Crash
from tests.support.wal import CONF, DIR, ME, PLAIN, SEGMENT_BYTES, entry, indexes, new_disk, reopen, replay, written


def test_what_a_failing_disk_cannot_sync_at_open_is_not_believed() -> None:
    disk = written(2)
    disk.fault = lambda step, _path: errno.EIO if step == "datasync" else None
    with pytest.raises(LogFailedError, match="opening"):
        reopen(disk)
    assert disk.open_files == 0


def test_what_was_read_at_open_is_durable() -> None:
    """A killed process leaves a whole frame that was never synced; believing it means to sync it first."""
    disk = written(2, 10)
    log, _ = reopen(disk)
    disk.crash_at = disk.operations + 2
    with pytest.raises(Crash):
        log.append([entry(3)], None)
    disk = disk.after_kill()
    assert indexes(disk) == [1, 2, 3]
    for seed in range(20):
        assert indexes(disk.after_power_loss(random.Random(seed))) == [1, 2, 3]


def test_a_full_disk_refuses_before_anything_is_written_and_recovers() -> None:
    disk = new_disk()
    log, _ = reopen(disk)
    disk.capacity_bytes = disk.used_bytes
    accepted = 0
    with pytest.raises(SwarmError, match=r"^disk full on /wal: \d+ more bytes") as caught:
        for index in range(1, 100):
            log.make_room(1, 1000)
            log.append([entry(index, 1000)], None)
            accepted = index
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retryable
    log.make_room(0, 0, control=True)
    log.append([], HardState(1, 7, accepted))
    assert [p.name for p in disk.files(DIR) if p.suffix != ".wal"] == []
    disk.capacity_bytes = None
    log.make_room(1, 1000)
    log.append([entry(accepted + 1, 1000)], None)
    log.close()
    assert indexes(disk) == list(range(1, accepted + 2))


@pytest.mark.parametrize("what", ["pwrite", "datasync"])
def test_a_failed_write_or_sync_is_final(what: str) -> None:
    disk = new_disk()
    log, _ = reopen(disk)
    log.append([entry(1)], None)
    calls = 0

    def fail(step: str, _path: Path) -> int | None:
        nonlocal calls
        calls += step == what
        return errno.EIO if step == what else None

    disk.fault = fail
    with pytest.raises(LogFailedError, match=r"writing /wal/0.*\.wal failed \(Input/output error\)"):
        log.append([entry(2)], None)
    disk.fault = lambda _step, _path: None
    before = disk.operations
    with pytest.raises(LogFailedError):
        log.make_room(1, 10)
    with pytest.raises(LogFailedError):
        log.append([entry(2)], None)
    assert (disk.operations, calls) == (before, 1), "never tried again"
    log.close()


@pytest.mark.parametrize("what", ["pwrite", "datasync", "rename", "sync_dir", "create", "allocate"])
def test_a_failure_while_segments_are_switched_is_final(what: str) -> None:
    disk = written(2)
    log, _ = reopen(disk)
    disk.fault = lambda step, _path: errno.EIO if step == what else None
    with pytest.raises(LogFailedError):
        log.make_room(1, SEGMENT_BYTES)
    disk.fault = lambda _step, _path: None
    with pytest.raises(LogFailedError):
        log.append([entry(3)], None)
    log.close()
    assert indexes(disk) == [1, 2]


def test_the_next_segment_is_ready_before_it_is_needed() -> None:
    disk = new_disk()
    log, _ = reopen(disk)
    log.prepare_next()
    assert len(disk.files(DIR)) == 1
    log.append([entry(1, SEGMENT_BYTES // 2)], None)
    log.prepare_next()
    assert len(disk.files(DIR)) == 2
    disk.capacity_bytes = disk.used_bytes
    log.make_room(1, SEGMENT_BYTES // 2)
    log.append([entry(2, SEGMENT_BYTES // 2)], None)
    log.close()
    assert indexes(disk) == [1, 2]


def test_the_machine_s_own_disk_serves_as_well(tmp_path: Path) -> None:
    disk = OsDisk()
    WriteAheadLog.create(disk, tmp_path, ME, SnapshotMark(conf=CONF), PLAIN, salt=1, segment_bytes=SEGMENT_BYTES)
    log = WriteAheadLog.resume(disk, tmp_path, replay(disk, tmp_path), PLAIN, segment_bytes=SEGMENT_BYTES)
    for index in range(1, 30):
        log.make_room(1, 1500)
        log.append([entry(index, 1500)], HardState(1, 7, index - 1))
        log.prepare_next()
    log.close()
    state = replay(disk, tmp_path)
    assert [e.index for e in state.entries] == list(range(1, 30))
    assert all(p.stat().st_size == SEGMENT_BYTES for p in tmp_path.glob("*.wal"))
    assert state.hard_state == HardState(1, 7, 28)
