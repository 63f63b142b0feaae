"""Snapshots that a leader sent, beside those of this member's own, their writers and readers at work at once."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from manager.raft.log import storage
from manager.raft.log.disk import OsDisk
from manager.raft.log.faults import LogFailedError
from manager.raft.log.snapshot_file import SnapshotReader, SnapshotWriter, snapshot_name
from manager.raft.log.storage import Storage
from manager.raft.types import ConfState, HardState, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SALT, SNAP, WAL
from tests.support.wal import entry

SEGMENT_BYTES = 8 * 1024
CONF = ConfState(voters=(1, 2, 7))
OWN = SnapshotMark(4, 1, CONF)
SENT = SnapshotMark(50, 3, CONF)
BEHIND_SENT = HardState(3, 0, 50)


def opened(disk: FakeDisk) -> Storage:
    return Storage.open(disk, HERE, ME, segment_bytes=SEGMENT_BYTES)[0]


def joiner() -> tuple[FakeDisk, Storage]:
    """Return a log without members or entries."""
    disk = FakeDisk()
    storage.create(disk, HERE, ME, salt=SALT, segment_bytes=SEGMENT_BYTES)
    return disk, opened(disk)


def follower() -> tuple[FakeDisk, Storage]:
    """Return a log of eight entries, six of them committed."""
    disk, store = joiner()
    for index in range(1, 9):
        store.make_room(1, 1200)
        store.append([entry(index, 1200)], HardState(1, 7, min(index, 6)))
    return disk, store


def finish(writer: SnapshotWriter, content: bytes) -> None:
    writer.write(content)
    writer.finish()


def content(reader: SnapshotReader | None) -> bytes:
    assert reader is not None
    try:
        return b"".join(reader.chunks())
    finally:
        reader.close()


def test_a_joiner_s_log_has_nobody_in_it_and_waits() -> None:
    disk, store = joiner()
    store.close()
    store, state = Storage.open(disk, HERE, ME, segment_bytes=SEGMENT_BYTES)
    assert (state.entries, state.hard_state, state.mark) == ([], HardState(), SnapshotMark())
    assert store.snapshot_reader() is None
    finish(store.receive_snapshot(SENT), b"all of it")
    store.install_snapshot(SENT, BEHIND_SENT)
    store.append([entry(51, term=3)], None)
    store.close()
    store, state = Storage.open(disk, HERE, ME, segment_bytes=SEGMENT_BYTES)
    assert (state.mark, state.hard_state, [e.index for e in state.entries]) == (SENT, BEHIND_SENT, [51])
    assert content(store.snapshot_reader()) == b"all of it"
    store.close()
    assert disk.open_files == 0


def test_a_received_snapshot_takes_the_place_of_snapshot_log_and_segments() -> None:
    disk, store = follower()
    finish(store.snapshot_writer(OWN), b"own")
    store.adopt_snapshot(OWN, HardState(1, 7, 6), keep_from=1)
    assert len(disk.files(WAL)) > 1
    finish(store.receive_snapshot(SENT), b"sent")
    store.install_snapshot(SENT, BEHIND_SENT)
    assert disk.files(SNAP) == [SNAP / snapshot_name(SENT)]
    assert len(disk.files(WAL)) == 1
    store.close()


def test_own_and_received_writers_do_not_hurt_each_other() -> None:
    """Two leaders may even send the same snapshot at once, and the first one's message may be of no effect."""
    disk, store = follower()
    own, first, second = store.snapshot_writer(OWN), store.receive_snapshot(SENT), store.receive_snapshot(SENT)
    for writer in (own, first, second):
        writer.write(b"half, ")
    finish(first, b"first")
    finish(second, b"second")
    store.discard_snapshot(SENT)
    finish(own, b"own")
    store.adopt_snapshot(OWN, HardState(1, 7, 6), keep_from=3)
    assert content(store.snapshot_reader()) == b"half, own"
    store.install_snapshot(SENT, BEHIND_SENT)
    assert content(store.snapshot_reader()) == b"half, second"
    store.discard_snapshot(SENT)
    assert disk.files(SNAP) == [SNAP / snapshot_name(SENT)], "one that counts is not discarded"
    store.close()


def test_a_snapshot_of_its_own_that_was_overtaken_is_refused_and_removed() -> None:
    disk, store = follower()
    own = store.snapshot_writer(OWN)
    finish(store.receive_snapshot(SENT), b"sent")
    store.install_snapshot(SENT, BEHIND_SENT)
    finish(own, b"own")
    with pytest.raises(SwarmError, match="the snapshot at entry 4 is not needed any more: one at 50 counts") as caught:
        store.adopt_snapshot(OWN, BEHIND_SENT, keep_from=1)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert store.mark == SENT
    store.discard_snapshot(OWN)
    assert disk.files(SNAP) == [SNAP / snapshot_name(SENT)]
    store.close()


def test_one_of_its_own_that_waits_to_count_is_not_discarded() -> None:
    _, store = follower()
    finish(store.snapshot_writer(OWN), b"own")
    store.discard_snapshot(OWN)
    store.adopt_snapshot(OWN, HardState(1, 7, 6), keep_from=1)
    assert content(store.snapshot_reader()) == b"own"
    store.close()


def test_a_received_snapshot_that_nobody_asked_about_is_gone_after_a_restart() -> None:
    disk, store = follower()
    finish(store.receive_snapshot(SENT), b"sent")
    store.receive_snapshot(SENT).write(b"half")
    store.close()
    opened(disk.after_kill()).close()
    image = disk.after_kill()
    opened(image).close()
    assert image.files(SNAP) == []


@pytest.mark.parametrize(
    ("mark", "what"),
    [
        (SnapshotMark(50, 4), r"/member/snap refuses a snapshot at entry 50: it was not received"),
        (SnapshotMark(6, 3), r"/member/snap refuses to restart at entry 6: entries up to 6 are committed"),
    ],
)
def test_a_snapshot_that_cannot_take_the_log_s_place_changes_nothing(mark: SnapshotMark, what: str) -> None:
    disk, store = follower()
    if mark.index == 6:
        finish(store.receive_snapshot(mark), b"")
    before = disk.operations
    with pytest.raises(SwarmError, match=what) as caught:
        store.install_snapshot(mark, HardState(4, 0, mark.index))
    assert (caught.value.code, disk.operations) == (Code.INTERNAL, before)
    store.close()


def test_readers_at_once_each_read_on_whatever_takes_their_file_s_place() -> None:
    disk, store = follower()
    finish(store.snapshot_writer(OWN), b"own")
    store.adopt_snapshot(OWN, HardState(1, 7, 6), keep_from=1)
    first, second = store.snapshot_reader(), store.snapshot_reader()
    finish(store.receive_snapshot(SENT), b"sent")
    store.install_snapshot(SENT, BEHIND_SENT)
    third = store.snapshot_reader()
    assert [content(reader) for reader in (second, third, first)] == [b"own", b"sent", b"own"]
    store.close()
    assert disk.open_files == 0


def test_a_reader_may_open_while_newer_snapshots_come(tmp_path: Path) -> None:
    disk, directory = OsDisk(), tmp_path / "member"
    storage.create(disk, directory, ME, salt=SALT, segment_bytes=SEGMENT_BYTES)
    store, _ = Storage.open(disk, directory, ME, segment_bytes=SEGMENT_BYTES)
    read: list[bytes] = []
    ended = threading.Event()

    def keep_reading() -> None:
        while not ended.is_set():
            reader = store.snapshot_reader()
            if reader is not None:
                read.append(b"%d" % reader.mark.index)
                assert content(reader) == read[-1]
        ended.clear()

    thread = threading.Thread(target=keep_reading)
    thread.start()
    for index in range(1, 60):
        mark = SnapshotMark(index, 1, CONF)
        finish(store.receive_snapshot(mark), b"%d" % index)
        store.install_snapshot(mark, HardState(1, 0, index))
    ended.set()
    thread.join()
    store.close()
    assert not ended.is_set(), "it never failed"
    assert read


@pytest.mark.parametrize("what", ["rename", "sync_dir", "pwrite", "datasync", "unlink"])
def test_a_disk_that_fails_on_the_way_is_final(what: str) -> None:
    disk, store = follower()
    finish(store.receive_snapshot(SENT), b"sent")
    disk.fault = lambda step, _path: errno.EIO if step == what else None
    with pytest.raises(LogFailedError):
        store.install_snapshot(SENT, BEHIND_SENT)
    disk.fault = lambda _step, _path: None
    with pytest.raises(LogFailedError):
        store.append((), BEHIND_SENT)
    store.close()


def test_a_full_disk_has_room_for_a_received_snapshot_s_mark_or_refuses_it_beforehand() -> None:
    disk, store = follower()
    finish(store.receive_snapshot(SENT), b"sent")
    disk.capacity_bytes = disk.used_bytes
    votes = 0
    with pytest.raises(SwarmError, match="disk full on /member/wal"):
        for term in range(2, 100):
            store.make_room(0, 0, control=True)
            store.append((), HardState(term, 2, 6))
            votes += 1
    assert votes > 1, "a vote may be given on a full disk"
    store.make_room_for_snapshot(SENT)
    with pytest.raises(SwarmError, match="disk full on /member/wal"):
        store.make_room_for_snapshot(SnapshotMark(50, 3, ConfState(voters=tuple(range(2000)))))
    store.install_snapshot(SENT, HardState(votes + 1, 2, 50))
    store.make_room(0, 0, control=True)
    store.close()


def test_a_follower_on_a_full_disk_refuses_entries_before_anything_changes() -> None:
    disk, store = follower()
    store.make_room(0, 0, control=True)
    disk.capacity_bytes = disk.used_bytes
    before = disk.operations, disk.files(WAL)
    with pytest.raises(SwarmError, match="disk full on /member/wal") as caught:
        store.make_room(3, 20_000)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert disk.files(WAL) == before[1]
    store.close()
    _, state = Storage.open(disk, HERE, ME, segment_bytes=SEGMENT_BYTES)
    assert len(state.entries) == 8
