"""Encryption at rest: payloads sealed with AES-256-GCM, each bound to the place in the file where it stands.

What is sealed begins with the key's id and a random nonce. Checksums cover the sealed bytes, so that what a crash left
behind is told from damage without any key.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from manager.raft.log.faults import damaged, locked
from swarmpy.ids import RandomBytes

CODEC_PLAIN: Final = 0
CODEC_AES_GCM: Final = 1
CODECS: Final = frozenset({CODEC_PLAIN, CODEC_AES_GCM})
SECRET_BYTES: Final = 32

_KEY_ID: Final = struct.Struct("<Q")
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16
OVERHEAD_BYTES: Final = _KEY_ID.size + _NONCE_BYTES + _TAG_BYTES

Buffer: TypeAlias = "bytes | memoryview"


@dataclass(frozen=True, slots=True)
class DataKey:
    """A key of one member's log and snapshots; `secret` has `SECRET_BYTES` bytes and is never shown."""

    key_id: int
    secret: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> DataKey:
        """Return the key with the id that belongs to `secret`, so that a file with a flipped bit in it shows."""
        return cls(_KEY_ID.unpack_from(hashlib.sha256(secret).digest())[0], secret)


class SealError(Exception):
    """Why sealed bytes do not open.

    Args:
        reason: what is wrong, as the rest of a sentence.
        is_damage: the right key was there, so the bytes are not what was sealed.
    """

    def __init__(self, reason: str, *, is_damage: bool) -> None:
        super().__init__(reason)
        self.reason, self.is_damage = reason, is_damage


class Sealer(Protocol):
    """Encodes what is stored; safe for several threads."""

    @property
    def codec(self) -> int:
        """How `seal` encodes."""

    @property
    def overhead_bytes(self) -> int:
        """How much longer the sealed bytes are than the plain ones."""

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        """Return `plain` encoded, to be opened with the same `aad` only."""

    def open(self, codec: int, sealed: Buffer, aad: Buffer) -> Buffer:
        """Return what was sealed with one of `CODECS`.

        Raises:
            SealError: the key is not there, or the bytes or `aad` are others than were sealed.
        """


class Plain:
    """Encrypts nothing and opens nothing encrypted; `key_file` is where a key would be looked for."""

    codec: Final = CODEC_PLAIN
    overhead_bytes: Final = 0

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        return plain

    def open(self, codec: int, sealed: Buffer, aad: Buffer) -> Buffer:
        if codec == CODEC_PLAIN:
            return sealed
        raise SealError(
            f"encrypted with key {_key_id(sealed):016x}, and the key file {self._key_file} is missing", is_damage=False
        )


class AesGcm:
    """Seals with the first key and opens with any; what was written before there was a key opens too.

    Args:
        keys: the present key, then older ones.
        random_bytes: where nonces come from; must not repeat itself from one run to the next.
        key_file: where the keys were read from, for sentences.
    """

    codec: Final = CODEC_AES_GCM
    overhead_bytes: Final = OVERHEAD_BYTES

    def __init__(self, keys: Sequence[DataKey], random_bytes: RandomBytes, key_file: Path) -> None:
        self._key_file, self._random_bytes = key_file, random_bytes
        self._ciphers = {key.key_id: AESGCM(key.secret) for key in keys}
        self._present_id = keys[0].key_id
        self._present, self._prefix = self._ciphers[self._present_id], _KEY_ID.pack(self._present_id)

    def seal(self, plain: bytes, aad: bytes) -> bytes:
        nonce = self._random_bytes(_NONCE_BYTES)
        return b"".join((self._prefix, nonce, self._present.encrypt(nonce, plain, aad)))

    def open(self, codec: int, sealed: Buffer, aad: Buffer) -> Buffer:
        if codec == CODEC_PLAIN:
            return sealed
        key_id = _key_id(sealed)
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError(
                f"encrypted with key {key_id:016x}, but {self._key_file} holds key {self._present_id:016x}",
                is_damage=False,
            )
        body = _KEY_ID.size + _NONCE_BYTES
        try:
            return cipher.decrypt(bytes(sealed[_KEY_ID.size : body]), sealed[body:], aad)
        except InvalidTag as error:
            raise SealError(f"its seal of key {key_id:016x} is broken: others wrote here", is_damage=True) from error


def unseal(sealer: Sealer, codec: int, sealed: Buffer, aad: Buffer, *, path: Path, offset: int) -> Buffer:
    """Return what is sealed at `offset` of `path`.

    Raises:
        SwarmError: FAILED_PRECONDITION, the key is wrong or missing; CORRUPT, the bytes are not what was sealed.
    """
    try:
        return sealer.open(codec, sealed, aad)
    except SealError as error:
        raise (damaged(path, offset, error.reason) if error.is_damage else locked(path, error.reason)) from error


def _key_id(sealed: Buffer) -> int:
    if len(sealed) < OVERHEAD_BYTES:
        raise SealError(f"{len(sealed)} bytes are too few for encrypted ones", is_damage=True)
    key_id: int = _KEY_ID.unpack_from(sealed)[0]
    return key_id
