"""The write-ahead log: what it writes is what it reads, and each broken byte means what DESIGN.md says."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest

from manager.raft.log.frame import SECTOR, SegmentHeader, decode_segment_header, encode_segment_header
from manager.raft.types import ConfState, Entry, EntryKind, HardState, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.raft_member import frames
from tests.support.wal import CONF, DIR, ME, SEGMENT_BYTES, entry, indexes, new_disk, reopen, replay, written


def test_all_kinds_of_records_come_back() -> None:
    disk = new_disk()
    log, state = reopen(disk)
    assert (state.metadata, state.hard_state, state.mark) == (ME, HardState(), SnapshotMark(conf=CONF))
    entries = [Entry(1, 1, EntryKind.NOOP, b""), entry(2, 700), Entry(2, 3, EntryKind.CONF_CHANGE, b"joint")]
    log.append(entries[:2], HardState(1, 7, 0))
    log.append(entries[2:], HardState(2, 7, 2))
    mark = SnapshotMark(2, 1, ConfState((7,), (8,), (9,), (10,), True))
    log.append([], None, mark)
    log.close()
    _, state = reopen(disk)
    assert (state.entries, state.hard_state, state.mark) == (entries, HardState(2, 7, 2), mark)


def test_a_new_log_is_there_after_a_power_loss() -> None:
    for seed in range(10):
        assert indexes(new_disk().after_power_loss(random.Random(seed))) == []


def test_segments_are_switched_and_compacted() -> None:
    disk = written(40)
    assert len(disk.files(DIR)) > 3
    assert indexes(disk) == list(range(1, 41))
    log, _ = reopen(disk)
    log.append([], None, SnapshotMark(30, 1, CONF))
    log.append([], HardState(1, 7, 40))
    removed = log.compact(25)
    assert removed > 0
    log.append([entry(41)], None)
    log.close()
    held = indexes(disk)
    assert held == list(range(held[0], 42))
    assert 1 < held[0] <= 26, "nothing above the limit is gone"


def test_an_entry_larger_than_a_segment_has_one_of_its_own() -> None:
    disk = new_disk()
    log, _ = reopen(disk)
    log.make_room(1, 5 * SEGMENT_BYTES)
    log.append([entry(1, 5 * SEGMENT_BYTES)], None)
    log.append([entry(2)], None)
    log.close()
    _, state = reopen(disk)
    assert [len(e.data) for e in state.entries] == [5 * SEGMENT_BYTES, 20]


def broken(data: bytes, offset: int, size: int) -> Iterator[bytes]:
    """Yield a file whose last frame, of `size` bytes at `offset`, is broken in every way a crash may."""
    rng = random.Random(1)
    for cut in range(offset, offset + size):
        yield data[:cut]
    for at in range(offset, offset + size):
        flipped = bytearray(data)
        flipped[at] ^= 1 << rng.randrange(8)
        yield bytes(flipped)
    for start in range(offset, offset + size, 7):
        yield data[:start] + bytes(offset + size - start) + data[offset + size :]
    for start in range(offset, offset + size, SECTOR):
        yield data[:start] + bytes(SECTOR) + data[start + SECTOR :]
        yield data[:start] + rng.randbytes(len(data) - start)


@pytest.mark.parametrize("count", [1, 4, 9, 10, 11, 12])
def test_a_broken_last_frame_is_dropped_and_writing_goes_on(count: int) -> None:
    """Some of the counts leave the frame first in its segment, last in it, or the segment's own."""
    sound = written(count, 1000)
    path, offset, last = frames(sound, DIR)[-1]
    data = sound.read(path)
    for variant in broken(data, offset, last.size_bytes):
        if variant == data:
            continue
        disk = sound.after_kill()
        disk.write(path, variant)
        log, state = reopen(disk)
        assert [e.index for e in state.entries] == list(range(1, count))
        log.append([entry(count, 50)], None)
        log.close()
        assert indexes(disk) == list(range(1, count + 1))


def test_garbage_behind_the_last_frame_is_cleared_for_good() -> None:
    disk = written(2, 100)
    path, offset, last = frames(disk, DIR)[-1]
    end = offset + last.size_bytes
    data = disk.read(path)
    disk.write(path, data[:end] + random.Random(2).randbytes(len(data) - end))
    assert indexes(disk) == [1, 2]
    lost_power = disk.after_power_loss(random.Random(0))
    assert lost_power.read(path) == data


def test_a_broken_head_of_a_new_last_segment_drops_the_segment() -> None:
    disk = written(9)
    log, _ = reopen(disk)
    log.make_room(1, SEGMENT_BYTES // 2)
    log.close()
    path, offset, last = frames(disk, DIR)[-1]
    assert (offset, last.records) == (SECTOR, 3)
    for at in range(offset, offset + last.size_bytes):
        image = disk.after_kill()
        data = bytearray(image.read(path))
        data[at] ^= 4
        image.write(path, bytes(data))
        assert indexes(image) == list(range(1, 10))
        assert path not in image.files(DIR)


def test_a_broken_head_is_no_torn_tail_once_frames_were_written_behind_it() -> None:
    disk = written(12)
    path = disk.files(DIR)[-1]
    data = bytearray(disk.read(path))
    inside = [offset for its_path, offset, _ in frames(disk, DIR) if its_path == path]
    assert len(inside) > 1
    for offset in inside:
        data[offset] ^= 1
    disk.write(path, bytes(data))
    with pytest.raises(SwarmError, match=f"{path} is damaged at byte {SECTOR}: .* frames were written behind it"):
        reopen(disk)


def test_a_flip_anywhere_before_the_last_frame_is_refused_by_file_and_offset() -> None:
    sound = written(36, 400)
    assert len(sound.files(DIR)) == 2
    disk, rng = sound.after_kill(), random.Random(3)
    for path, offset, frame in frames(sound, DIR)[:-1]:
        data = sound.read(path)
        expected = re.compile(rf"{path} is damaged at byte {offset}: ")
        for at in range(offset, offset + frame.size_bytes):
            changed = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            disk.write(path, changed)
            with pytest.raises(SwarmError, match=expected) as caught:
                replay(disk, DIR)
            assert caught.value.code is Code.CORRUPT
        disk.write(path, data)


def test_a_refusal_changes_nothing() -> None:
    disk = written(12)
    path, offset, _ = frames(disk, DIR)[2]
    disk.create(DIR / "next.tmp").close()
    data = disk.read(path)
    disk.write(path, data[:offset] + b"?" + data[offset + 1 :])
    before = disk.operations
    with pytest.raises(SwarmError):
        reopen(disk)
    assert (disk.operations, disk.open_files) == (before, 0)


@pytest.mark.parametrize("spoil", ["zeros", "cut", "swap"])
def test_larger_damage_is_refused(spoil: str) -> None:
    disk = written(12)
    found = frames(disk, DIR)
    path, offset, frame = found[3]
    data = disk.read(path)
    end = offset + frame.size_bytes
    following = data[end : end + found[4][2].size_bytes]
    changed = {
        "zeros": data[:offset] + bytes(frame.size_bytes) + data[end:],
        "cut": data[:offset],
        "swap": data[:offset] + following + data[offset:end] + data[end + len(following) :],
    }[spoil]
    disk.write(path, changed)
    with pytest.raises(SwarmError, match=f"{path} is damaged at byte {offset}"):
        reopen(disk)


def test_every_byte_of_a_segment_header_counts() -> None:
    sound = written(12)
    for path in sound.files(DIR):
        for at in range(0, SECTOR, 3):
            disk = sound.after_kill()
            data = bytearray(disk.read(path))
            data[at] ^= 1
            disk.write(path, bytes(data))
            with pytest.raises(SwarmError, match=f"{path} is damaged at byte 0: "):
                reopen(disk)


def test_a_missing_segment_is_refused() -> None:
    sound = written(24)
    names = sound.files(DIR)
    disk = sound.after_kill()
    disk.unlink(names[1])
    with pytest.raises(SwarmError, match=r"segments 2 to 2 are missing before it"):
        reopen(disk)
    disk = sound.after_kill()
    disk.unlink(names[0])
    with pytest.raises(SwarmError, match=r"entries 1 to \d+ are missing"):
        reopen(disk)


def test_frames_inside_user_data_are_data() -> None:
    """A user may well store a copy of this very log in the cluster, aligned as it may be."""
    disk = written(6, 600)
    path, _, _ = frames(disk, DIR)[-1]
    copy = disk.read(path)
    log, _ = reopen(disk)
    payload = bytes(SECTOR - 40 - 24) + copy
    log.append([Entry(1, 7, EntryKind.NORMAL, payload)], None)
    log.close()
    path, offset, _ = frames(disk, DIR)[-1]
    data = bytearray(disk.read(path))
    data[offset + 9] ^= 1
    disk.write(path, bytes(data))
    assert indexes(disk) == [1, 2, 3, 4, 5, 6]


def test_a_newer_format_and_an_unknown_codec_are_refused_by_name() -> None:
    for change, sentence in (
        (
            {"version": 2},
            "has format version 2, written by a newer swarmpy; this one reads up to version 1: start the newer version"
            " again",
        ),
        (
            {"codec": 2},
            "is written with codec 2, which this swarmpy does not know: start the version that wrote it",
        ),
    ):
        disk = written(1)
        (path,) = disk.files(DIR)
        data = disk.read(path)
        header = decode_segment_header(data[:SECTOR])
        assert isinstance(header, SegmentHeader)
        fields = {name: getattr(header, name) for name in header.__slots__}
        disk.write(path, encode_segment_header(SegmentHeader(**{**fields, **change})) + data[SECTOR:])
        with pytest.raises(SwarmError) as caught:
            reopen(disk)
        assert (caught.value.code, caught.value.message) == (Code.FAILED_PRECONDITION, f"{path} {sentence}")
