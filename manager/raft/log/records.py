"""Records, the contents of a frame, as bytes; pure. The kinds are etcd's; the CRC kind is the frame's chain.

A record is a head (kind, entry kind, body length) and a body. Numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from manager.raft.log.crypt import Buffer
from manager.raft.types import Entry, EntryKind, HardState, Metadata, SnapshotMark

METADATA: Final = 1
ENTRY: Final = 2
HARD_STATE: Final = 3
SNAPSHOT: Final = 4
RESTARTS: Final = 1  # in a mark's head, where entries have their kind

_HEAD: Final = struct.Struct("<BB2xI")  # record kind, entry kind, body bytes
_ENTRY: Final = struct.Struct("<BB2xIQQ")  # an entry's head with its term and index
_PLACE: Final = struct.Struct("<QQ")
_HARD_STATE: Final = struct.Struct("<QQQ")
_ENTRY_KINDS: Final = {int(kind): kind for kind in EntryKind}
ENTRY_OVERHEAD_BYTES: Final = _ENTRY.size
HARD_STATE_BYTES: Final = _HEAD.size + _HARD_STATE.size


class Sink(Protocol):
    """What decoded records go to, in order."""

    def on_metadata(self, metadata: Metadata) -> None: ...
    def on_entry(self, entry: Entry) -> None: ...
    def on_hard_state(self, hard_state: HardState) -> None: ...
    def on_mark(self, mark: SnapshotMark, *, restarts: bool) -> None: ...


class BadRecordError(Exception):
    """A whole frame with contents that this version cannot have written."""


def encode_metadata(metadata: Metadata) -> bytes:
    """Return a metadata record."""
    body = msgspec.msgpack.encode(metadata)
    return _HEAD.pack(METADATA, 0, len(body)) + body


def encode_hard_state(hard: HardState) -> bytes:
    """Return a hard state record."""
    body = _HARD_STATE.pack(hard.term, hard.vote, hard.commit)
    return _HEAD.pack(HARD_STATE, 0, len(body)) + body


def encode_mark(mark: SnapshotMark, *, restarts: bool = False) -> bytes:
    """Return a snapshot mark record; with `restarts` no entry written before it counts any more."""
    body = msgspec.msgpack.encode(mark)
    return _HEAD.pack(SNAPSHOT, RESTARTS if restarts else 0, len(body)) + body


def encode_entries(entries: Sequence[Entry]) -> list[bytes]:
    """Return the pieces of the entries' records, to be joined."""
    pieces: list[bytes] = []
    for e in entries:
        pieces.append(_ENTRY.pack(ENTRY, e.kind, _PLACE.size + len(e.data), e.term, e.index))
        pieces.append(e.data)
    return pieces


def decode(payload: Buffer, count: int, sink: Sink) -> None:
    """Give `count` records of a frame to `sink`.

    Raises:
        BadRecordError: the frame holds something else.
    """
    offset, on_entry = 0, sink.on_entry
    head, place, kinds, entry_kind = _HEAD.unpack_from, _PLACE.unpack_from, _ENTRY_KINDS, ENTRY
    try:
        for _ in range(count):
            kind, sub, length = head(payload, offset)
            body = offset + 8
            offset = body + length
            if kind == entry_kind:
                term, index = place(payload, body)
                on_entry(Entry(term, index, kinds[sub], bytes(payload[body + 16 : offset])))
            else:
                _decode_rare(kind, sub, payload[body:offset], sink)
    except (struct.error, KeyError, msgspec.DecodeError) as error:
        raise BadRecordError(f"a frame holds a record that cannot be read ({error})") from error
    if offset != len(payload):
        raise BadRecordError(f"a frame's records take {offset} bytes of {len(payload)}")


def _decode_rare(kind: int, sub: int, body: Buffer, sink: Sink) -> None:
    if kind == HARD_STATE:
        sink.on_hard_state(HardState(*_HARD_STATE.unpack(body)))
    elif kind == SNAPSHOT and sub <= RESTARTS:
        sink.on_mark(msgspec.msgpack.decode(body, type=SnapshotMark), restarts=sub == RESTARTS)
    elif kind == METADATA:
        sink.on_metadata(msgspec.msgpack.decode(body, type=Metadata))
    else:
        raise BadRecordError(f"a frame holds a record of the unknown kind {kind}/{sub}")
