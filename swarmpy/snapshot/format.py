"""The bytes of a snapshot file; pure.

    magic 8 | version 2 | 0 2 | crc 4                       the same in every version
    pieces: kind 1 | 0 3 | payload bytes 4 | crc 4 | payload

The first piece is the header (MessagePack), the last one the end: SHA-256 of all bytes before it, number of chunks,
their bytes. Between them are the chunks of the state, opaque. Numbers are little-endian. Each piece's crc says where
a damaged file is damaged; the SHA-256 says that the whole is what was written.
"""

from __future__ import annotations

import enum
import hashlib
import struct
import zlib
from typing import Final

import msgspec

from swarmpy.model.base import Model
from swarmpy.model.cluster import Cluster

VERSION: Final = 1
MAX_PIECE_BYTES: Final = 64 * 1024 * 1024
START: Final = struct.Struct("<8sH2xI")
HEAD: Final = struct.Struct("<B3xII")
END: Final = struct.Struct("<32sQQ")
MAGIC: Final = b"SWARMBAK"


class Kind(enum.IntEnum):
    """What a piece is. The value is in the file."""

    HEADER = 1
    CHUNK = 2
    END = 3


class Header(Model, frozen=True):
    """What the file is of.

    Attributes:
        cluster: the row, with the root's key and the join tokens.
        revision: of the store.
        index, term: of the last log entry in the state, and the term in which it was saved.
        created_at: wall seconds.
        objects: rows by table.
        release: the swarmpy that wrote it.
    """

    cluster: Cluster
    revision: int
    index: int
    term: int
    created_at: float
    objects: dict[str, int]
    release: str


class Encoder:
    """Makes the bytes of one file: `begin`, `chunk` for each, `end`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._chunks = self._chunk_bytes = 0

    def begin(self, header: Header) -> bytes:
        """Return the file's first bytes."""
        start = START.pack(MAGIC, VERSION, start_crc(VERSION))
        return self._counted(start + _piece(Kind.HEADER, msgspec.msgpack.encode(header)))

    def chunk(self, data: bytes) -> bytes:
        """Return the bytes of a chunk of at most `MAX_PIECE_BYTES`."""
        assert len(data) <= MAX_PIECE_BYTES, "the store makes chunks of a few hundred kilobytes"
        self._chunks += 1
        self._chunk_bytes += len(data)
        return self._counted(_piece(Kind.CHUNK, data))

    def end(self) -> bytes:
        """Return the last bytes."""
        return _piece(Kind.END, END.pack(self._digest.digest(), self._chunks, self._chunk_bytes))

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data


def start_crc(version: int) -> int:
    """Return the checksum of a file's first bytes."""
    return zlib.crc32(START.pack(MAGIC, version, 0)[:-4])


def piece_crc(kind: int, payload: bytes) -> int:
    """Return the checksum of a piece."""
    return zlib.crc32(payload, zlib.crc32(HEAD.pack(kind, len(payload), 0)[:-4]))


def _piece(kind: Kind, payload: bytes) -> bytes:
    return HEAD.pack(kind, len(payload), piece_crc(kind, payload)) + payload
