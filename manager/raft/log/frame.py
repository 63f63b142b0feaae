"""Segment headers and frames as bytes; pure.

A segment is one 512-byte header sector and then frames, each filled with zeros to a whole number of sectors, so
that writing a frame never touches a sector that holds an earlier one. What follows the last frame is zeros.

A frame's checksum starts from the checksum of the frame before it, and covers header, payload and fill. The header
repeats that start, the log's salt and a number that only grows, so a frame found behind damage can be proved to be
a later frame of this log: neither user data nor the leavings of another log pass for one.

A payload may be sealed, with the frame's header as what it is bound to; the checksum covers what is sealed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

from manager.raft.log.crypt import Sealer

SECTOR: Final = 512
FORMAT_VERSION: Final = 1

_SEGMENT_MAGIC: Final = b"SWARMWAL"
# magic, version, codec | chain, salt, number, first_frame, first_index, head_bytes
_SEGMENT: Final = struct.Struct("<8sBB2xIQQQQI")
_CRC: Final = struct.Struct("<I")
FRAME_MAGIC: Final = b"\xf5WLF"
_FRAME: Final = struct.Struct("<4sB3xQQIII")  # magic codec | salt number chain payload_bytes records
FRAME_HEADER_BYTES: Final = _FRAME.size + _CRC.size


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """The first sector of a segment.

    Args:
        version: the file's format version.
        codec: how payloads are encoded unless a frame says otherwise.
        chain: checksum of the last frame before this segment.
        salt: the log's own random number.
        number: the segment's place among the segments, from 1.
        first_frame: number of the first frame in it.
        first_index: the index that the next new entry had when the segment was begun.
        head_bytes: size on disk of the first frame, written together with this header.
    """

    version: int
    codec: int
    chain: int
    salt: int
    number: int
    first_frame: int
    first_index: int
    head_bytes: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that proved whole. `size_bytes` includes header and fill; `crc` is the next frame's chain.

    `payload` is encoded as `codec` says, bound to `head`.
    """

    codec: int
    head: memoryview
    number: int
    chain: int
    crc: int
    records: int
    payload: memoryview
    size_bytes: int


def padded(size_bytes: int) -> int:
    """Return `size_bytes` rounded up to whole sectors."""
    return -(-size_bytes // SECTOR) * SECTOR


def frame_bytes(payload_bytes: int) -> int:
    """Return the size of a frame on disk."""
    return padded(FRAME_HEADER_BYTES + payload_bytes)


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the sector; its last four bytes are a checksum, in this and every later format version."""
    h = header
    fields = _SEGMENT.pack(
        _SEGMENT_MAGIC, h.version, h.codec, h.chain, h.salt, h.number, h.first_frame, h.first_index, h.head_bytes
    )
    body = fields.ljust(SECTOR - _CRC.size, b"\0")
    return body + _CRC.pack(crc32(body))


def decode_segment_header(sector: bytes) -> SegmentHeader | str:
    """Return the header, or what is wrong with it."""
    if len(sector) < SECTOR:
        return f"the segment header is cut short ({len(sector)} of {SECTOR} bytes)"
    if _CRC.unpack_from(sector, SECTOR - _CRC.size)[0] != crc32(sector[: SECTOR - _CRC.size]):
        return "the segment header's checksum is wrong"
    magic, *fields = _SEGMENT.unpack_from(sector)
    return SegmentHeader(*fields) if magic == _SEGMENT_MAGIC else "this is not a swarmpy log"


def encode_frame(
    payload: bytes, *, records: int, salt: int, number: int, chain: int, sealer: Sealer
) -> tuple[bytes, int]:
    """Return the frame as it stands on disk, its payload sealed, and its checksum."""
    length = len(payload) + sealer.overhead_bytes
    head = _FRAME.pack(FRAME_MAGIC, sealer.codec, salt, number, chain, length, records)
    body = sealer.seal(payload, head)
    fill = bytes(frame_bytes(length) - FRAME_HEADER_BYTES - length)
    crc = crc32(fill, crc32(body, crc32(head, chain)))
    return b"".join((head, _CRC.pack(crc), body, fill)), crc


def decode_frame(view: memoryview, offset: int, *, salt: int) -> Frame | str:
    """Return the frame at `offset`, proved by its own checksum, or why there is none."""
    if len(view) - offset < FRAME_HEADER_BYTES:
        return "the file ends within a frame's header"
    magic, codec, its_salt, number, chain, length, records = _FRAME.unpack_from(view, offset)
    if magic != FRAME_MAGIC or its_salt != salt:
        return "no frame begins here"
    end = offset + frame_bytes(length)
    if end > len(view):
        return "the file ends within a frame"
    (crc,) = _CRC.unpack_from(view, offset + _FRAME.size)
    body = offset + FRAME_HEADER_BYTES
    head = view[offset : offset + _FRAME.size]
    if crc32(view[body:end], crc32(head, chain)) != crc:
        return "a frame's checksum is wrong"
    return Frame(codec, head, number, chain, crc, records, view[body : body + length], end - offset)


def find_frame(data: bytes, start: int, *, salt: int, least: int) -> int | None:
    """Return the offset of the first whole frame at or behind `start` numbered `least` or more, or None.

    Data that a user stored may contain frames of this very log (a copy of a segment), but only earlier ones.
    """
    view = memoryview(data)
    at = data.find(FRAME_MAGIC, start)
    while at >= 0:
        if at % SECTOR == 0:
            found = decode_frame(view, at, salt=salt)
            if isinstance(found, Frame) and found.number >= least:
                return at
        at = data.find(FRAME_MAGIC, at + 1)
    return None
