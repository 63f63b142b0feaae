"""The key file: made once, for its owner only, and told from one that is missing, damaged or newer."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from manager.raft.log.crypt import DataKey
from manager.raft.log.key_file import StoredKey, key_file, load_or_make_key
from swarmpy.errors import Code, SwarmError

PUT_BACK = (
    "put back the one that belongs to it. If it is lost: with other managers up, run `swarmpy swarm leave --force` on"
    " this node and join again; if it is the only manager, restore a snapshot"
)


def no_randomness(_size_bytes: int) -> bytes:
    raise AssertionError("a key is there already")


def refusal(path: Path, *, must_exist: bool = False) -> tuple[Code, str]:
    with pytest.raises(SwarmError) as caught:
        load_or_make_key(path, no_randomness, must_exist=must_exist)
    return caught.value.code, caught.value.message


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = key_file(tmp_path / "raft")
    assert path == tmp_path / "raft-key"
    made = load_or_make_key(path, os.urandom)
    assert load_or_make_key(path, no_randomness, must_exist=True) == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_an_encrypted_log_whose_key_is_missing_gets_no_new_one(tmp_path: Path) -> None:
    path = tmp_path / "raft-key"
    assert refusal(path, must_exist=True) == (
        Code.FAILED_PRECONDITION,
        f"the log is encrypted, and its key file {path} is missing: {PUT_BACK}",
    )
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_key_file_is_refused_wherever_a_bit_flipped(tmp_path: Path) -> None:
    path = tmp_path / "raft-key"
    load_or_make_key(path, os.urandom)
    sound = path.read_bytes()
    newer = f"{path} has format version"
    for at in range(len(sound)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :])
        code, message = refusal(path)
        assert message == f"the key file {path} is damaged: {PUT_BACK}" or message.startswith(newer), at
        assert code in (Code.CORRUPT, Code.FAILED_PRECONDITION)
    for cut in range(len(sound)):
        path.write_bytes(sound[:cut])
        assert refusal(path)[0] is Code.CORRUPT


def test_a_newer_file_and_a_wrapped_key_are_refused_by_name(tmp_path: Path) -> None:
    path, key = tmp_path / "raft-key", DataKey.of(bytes(32))
    path.write_bytes(msgspec.msgpack.encode({"version": 2, "sealed_by": "who knows"}))
    assert refusal(path) == (
        Code.FAILED_PRECONDITION,
        f"{path} has format version 2, written by a newer swarmpy; this one reads up to version 1: start the newer"
        " version again",
    )
    path.write_bytes(msgspec.msgpack.encode(StoredKey(1, key.key_id, b"sealed", "unlock-key")))
    assert refusal(path) == (
        Code.FAILED_PRECONDITION,
        f"the key in {path} is itself encrypted (unlock-key), which this swarmpy cannot undo: start the version that"
        " wrote it",
    )


def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "raft-key").mkdir()
    assert refusal(tmp_path / "raft-key") == (
        Code.FAILED_PRECONDITION,
        f"cannot read the key file {tmp_path / 'raft-key'} (Is a directory): mend that and start again",
    )
