"""The file that holds the key of a manager's log and snapshots, beside the log's directory."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from manager.raft.log.crypt import SECRET_BYTES, DataKey
from manager.raft.log.faults import WAY_OUT, newer_format
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.files import write_atomic
from swarmpy.ids import RandomBytes

KEY_FILE: Final = "raft-key"
FORMAT_VERSION: Final = 1


class StoredKey(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in the file (MessagePack). `wrapping` names what `secret` is itself encrypted with; "" is nothing."""

    version: int
    key_id: int
    secret: bytes
    wrapping: str = ""


class _Version(msgspec.Struct, frozen=True):
    """The part that every version of the file has."""

    version: int


def key_file(directory: Path) -> Path:
    """Return where the key of the log in `directory` is."""
    return directory.parent / KEY_FILE


def load_or_make_key(path: Path, random_bytes: RandomBytes, *, must_exist: bool = False) -> DataKey:
    """Return the key in `path`; make one, durably and for its owner only, if there is none.

    Args:
        must_exist: there is an encrypted log already, which a new key would be of no use for.

    Raises:
        SwarmError: FAILED_PRECONDITION, the key is missing, or a newer version wrote the file, or it cannot be read;
            CORRUPT, it is damaged; RESOURCE_EXHAUSTED, the disk is full.
    """
    try:
        return _decode(path, path.read_bytes())
    except FileNotFoundError:
        if must_exist:
            raise precondition(f"the log is encrypted, and its key file {path} is missing: {_PUT_BACK}") from None
    except OSError as error:
        raise precondition(f"cannot read the key file {path} ({error.strerror}): mend that and start again") from error
    key = DataKey.of(random_bytes(SECRET_BYTES))
    write_atomic(path, msgspec.msgpack.encode(StoredKey(FORMAT_VERSION, key.key_id, key.secret)), mode=0o600)
    return key


_PUT_BACK: Final = f"put back the one that belongs to it. If it is lost: {WAY_OUT}"


def _decode(path: Path, data: bytes) -> DataKey:
    try:
        version = msgspec.msgpack.decode(data, type=_Version).version
        if version > FORMAT_VERSION:
            raise newer_format(path, version, FORMAT_VERSION)
        stored = msgspec.msgpack.decode(data, type=StoredKey)
    except msgspec.DecodeError as error:
        raise _damaged(path) from error
    if stored.wrapping:
        raise precondition(
            f"the key in {path} is itself encrypted ({stored.wrapping}), which this swarmpy cannot undo:"
            " start the version that wrote it"
        )
    key = DataKey(stored.key_id, stored.secret)
    if stored.version != FORMAT_VERSION or len(key.secret) != SECRET_BYTES or DataKey.of(key.secret) != key:
        raise _damaged(path)
    return key


def _damaged(path: Path) -> SwarmError:
    return SwarmError(Code.CORRUPT, f"the key file {path} is damaged: {_PUT_BACK}")
