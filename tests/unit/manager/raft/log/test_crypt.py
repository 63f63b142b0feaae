"""Encryption at rest: nothing readable is on the disk, and a key that is wrong or missing is told from damage."""

from __future__ import annotations

import random
import re
import zlib
from pathlib import Path

import pytest

from manager.raft.log import storage
from manager.raft.log.crypt import OVERHEAD_BYTES, AesGcm, DataKey, Plain, Sealer, SealError
from manager.raft.log.storage import Storage
from manager.raft.types import ConfState, Entry, EntryKind, HardState, SnapshotMark
from swarmpy.errors import Code, SwarmError
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SALT, SNAP, WAL, frames
from tests.support.storage_life import KEY, new_sealer

KEY_FILE = Path("/raft-key")
KEY_ID = f"{KEY.key_id:016x}"
OTHER_KEY = DataKey.of(bytes(32))
CONF = ConfState(voters=(7,))
MARK = SnapshotMark(2, 1, CONF)
SECRET_WORDS = b"a password that nobody may read"
WAY_OUT = (
    "Put back the key file that belongs to it. If it is lost: with other managers up, run `swarmpy swarm leave --force`"
    " on this node and join again; if it is the only manager, restore a snapshot"
)


def opened(disk: FakeDisk, sealer: Sealer | None) -> Storage:
    return Storage.open(disk, HERE, ME, segment_bytes=8192, sealer=sealer)[0]


def entry(index: int) -> Entry:
    return Entry(1, index, EntryKind.NORMAL, SECRET_WORDS + b"%d" % index)


def written(sealer: Sealer | None) -> FakeDisk:
    """Return a disk with two entries in a snapshot and one behind it."""
    disk = FakeDisk()
    storage.create(disk, HERE, ME, CONF, salt=SALT, segment_bytes=8192, sealer=sealer)
    store = opened(disk, sealer)
    store.append([entry(1), entry(2)], HardState(1, 7, 2))
    writer = store.snapshot_writer(MARK)
    writer.write(SECRET_WORDS)
    writer.write(b"")
    writer.finish()
    store.adopt_snapshot(MARK, HardState(1, 7, 2), keep_from=3)
    store.append([entry(3)], HardState(1, 7, 2))
    store.close()
    return disk


def contents(disk: FakeDisk, sealer: Sealer | None) -> tuple[list[Entry], list[bytes]]:
    store, state = Storage.open(disk, HERE, ME, segment_bytes=8192, sealer=sealer)
    try:
        reader = store.snapshot_reader()
        assert reader is not None
        try:
            return state.entries, list(reader.chunks())
        finally:
            reader.close()
    finally:
        store.close()


def all_bytes(disk: FakeDisk) -> bytes:
    return b"".join(disk.read(path) for folder in (WAL, SNAP) for path in disk.files(folder))


def test_what_is_sealed_opens_in_its_place_only() -> None:
    sealer = new_sealer()
    sealed = sealer.seal(b"hello", b"here")
    assert len(sealed) == 5 + sealer.overhead_bytes == 5 + OVERHEAD_BYTES
    assert sealer.open(1, memoryview(sealed), b"here") == b"hello"
    assert sealer.seal(b"hello", b"here") != sealed, "a nonce is never used twice"
    with pytest.raises(SealError) as caught:
        sealer.open(1, sealed, b"there")
    assert caught.value.is_damage
    for at in range(8, len(sealed)):
        with pytest.raises(SealError):
            sealer.open(1, sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], b"here")
    with pytest.raises(SealError, match="too few"):
        sealer.open(1, sealed[:35], b"here")


def test_a_key_does_not_show_itself() -> None:
    assert "\\x00" not in repr(OTHER_KEY)
    assert "secret" not in repr(OTHER_KEY)


def test_an_encrypted_log_says_nothing_without_the_key_and_all_with_it() -> None:
    disk = written(new_sealer())
    for words in (SECRET_WORDS, b"cluster1", b"voters"):
        assert words not in all_bytes(disk)
        assert words in all_bytes(written(None)) or words == b"cluster1"
    assert contents(disk, new_sealer(2)) == ([entry(1), entry(2), entry(3)], [SECRET_WORDS, b""])
    assert storage.is_encrypted(disk, HERE)
    assert not storage.is_encrypted(written(None), HERE)
    assert not storage.is_encrypted(FakeDisk(), HERE)


def test_a_plain_log_stays_readable_and_goes_on_encrypted() -> None:
    disk = written(None)
    store = opened(disk, new_sealer())
    store.append([entry(4)], None)
    store.close()
    assert storage.is_encrypted(disk, HERE)
    assert contents(disk, new_sealer(2)) == ([entry(n) for n in range(1, 5)], [SECRET_WORDS, b""])
    assert SECRET_WORDS + b"4" not in all_bytes(disk)


def test_an_older_key_opens_what_it_sealed() -> None:
    disk = written(new_sealer())
    both = AesGcm([OTHER_KEY, KEY], random.Random(3).randbytes, KEY_FILE)
    store = opened(disk, both)
    store.append([entry(4)], None)
    store.close()
    assert contents(disk, both)[0] == [entry(n) for n in range(1, 5)]
    with pytest.raises(SwarmError, match="is encrypted with key"):
        opened(disk, new_sealer())


def test_a_missing_or_wrong_key_is_refused_by_name_and_changes_nothing() -> None:
    disk = written(new_sealer())
    (path,) = disk.files(WAL)
    before = disk.operations
    with pytest.raises(SwarmError) as caught:
        opened(disk, None)
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message == (
        f"{path} is encrypted with key {KEY_ID}, and the key file /raft-key is missing; nothing was changed. {WAY_OUT}"
    )
    with pytest.raises(SwarmError) as caught:
        opened(disk, AesGcm([OTHER_KEY], random.Random(1).randbytes, KEY_FILE))
    assert caught.value.code is Code.FAILED_PRECONDITION
    assert caught.value.message == (
        f"{path} is encrypted with key {KEY_ID}, but /raft-key holds key {OTHER_KEY.key_id:016x}; nothing was"
        f" changed. {WAY_OUT}"
    )
    assert (disk.operations, disk.open_files) == (before, 0)


def test_a_snapshot_of_another_key_is_refused_by_name() -> None:
    disk = written(None)
    (path,) = disk.files(SNAP)
    disk.write(path, written(new_sealer()).read(path))
    store = opened(disk, None)
    with pytest.raises(SwarmError, match=re.escape(f"{path} is encrypted with key {KEY_ID}")) as caught:
        store.snapshot_reader()
    assert caught.value.code is Code.FAILED_PRECONDITION
    store.close()
    assert disk.open_files == 0


def test_what_was_written_by_others_is_damage_though_its_checksums_are_right() -> None:
    disk = written(new_sealer())
    path, offset, frame = frames(disk)[1]
    data = bytearray(disk.read(path))
    data[offset + 40 + 25] ^= 1
    forged = bytes(data[offset : offset + frame.size_bytes])
    crc = zlib.crc32(forged[40:], zlib.crc32(forged[:36], frame.chain))
    data[offset + 36 : offset + 40] = crc.to_bytes(4, "little")
    disk.write(path, bytes(data))
    with pytest.raises(SwarmError) as caught:
        opened(disk, new_sealer())
    assert caught.value.code is Code.CORRUPT
    assert caught.value.message == (
        f"{path} is damaged at byte {offset}: its seal of key {KEY_ID} is broken: others wrote here;"
        " nothing was changed. What to do: with other managers up, run `swarmpy swarm leave --force` on this node and"
        " join again; if it is the only manager, restore a snapshot"
    )


def test_pieces_of_two_encrypted_snapshots_do_not_make_a_third() -> None:
    """Not even of two at the same place, with the checksums made right."""
    one, two = written(new_sealer(1)), written(new_sealer(2))
    (path,) = one.files(SNAP)
    data = two.read(path)
    header = 32 + int.from_bytes(data[12:16], "little")
    mixed, crc = b"", 0
    for source, start, size in (
        (one.read(path), 0, header),
        (data, header + 4, 16 + OVERHEAD_BYTES + len(SECRET_WORDS)),
    ):
        piece = source[start : start + size]
        crc = zlib.crc32(piece, crc)
        mixed += piece + crc.to_bytes(4, "little")
    one.write(path, mixed)
    store = opened(one, new_sealer())
    reader = store.snapshot_reader()
    assert reader is not None
    with pytest.raises(SwarmError, match=re.escape(f"{path} is damaged at byte {header + 4}: its seal")):
        list(reader.chunks())
    reader.close()
    store.close()


def test_without_a_key_nothing_encrypted_opens() -> None:
    plain = Plain(KEY_FILE)
    assert plain.open(0, plain.seal(b"x", b""), b"") == b"x"
    with pytest.raises(SealError) as caught:
        plain.open(1, new_sealer().seal(b"x", b""), b"")
    assert not caught.value.is_damage
