"""Snapshots: the whole state as bytes, made and read slice by slice.

Layout: the magic with the format's number, then frames of `length, crc32, kind` and MessagePack. The first frame
is the header, the last one the end; between them a frame holds some rows of one table, or some request ids.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from manager.store.state import State
from manager.store.tables import TABLES, Table
from swarmpy.errors import Code, SwarmError

D = TypeVar("D")

FORMAT: Final = 1
FRAME_BYTES: Final = 128 * 1024
_FIRST_ROWS, _MOST_ROWS = 16, 512
_MAGIC: Final = b"SWARMPY-STATE"
_PREFIX: Final = _MAGIC + bytes((FORMAT,))
_FRAME: Final = struct.Struct(">IIB")
_MAX_FRAME_BYTES: Final = 1 << 30

_HEADER, _REQUESTS, _END = 0, 254, 255
_BY_NUMBER: Final[dict[int, Table[Any]]] = {table.number: table for table in TABLES}
_ROWS: Final[dict[int, msgspec.msgpack.Decoder[list[Any]]]] = {
    table.number: msgspec.msgpack.Decoder(list[table.row])  # type: ignore[name-defined]  # a type of run time
    for table in TABLES
}
_REQUEST_LIST: Final = msgspec.msgpack.Decoder(list[tuple[str, bytes]])
_ENCODER: Final = msgspec.msgpack.Encoder()


class Header(msgspec.Struct, frozen=True):
    """What the snapshot is of, and what must be found in it: rows by table number, and request ids."""

    revision: int
    index: int
    digest: bytes
    rows: dict[int, int]
    requests: int


_HEADERS: Final = msgspec.msgpack.Decoder(Header)


class Snapshot:
    """The state of one moment. Iterating it encodes about 1 ms of rows a step; any thread may do that.

    `index` is the log entry that it includes last: the log may drop everything up to it.
    """

    def __init__(self, state: State) -> None:
        self.revision = state.revision
        self.index = state.index
        self._digest = state.digest
        self._rows = [(table, state.rows(table).copy()) for table in TABLES]
        self._requests = state.requests.dump()

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are, by the name of the table."""
        return {table.name: len(rows) for table, rows in self._rows}

    def __iter__(self) -> Iterator[bytes]:
        counts = {table.number: len(rows) for table, rows in self._rows}
        header = Header(self.revision, self.index, self._digest, counts, len(self._requests))
        yield _PREFIX + _frame(_HEADER, header)
        for table, rows in self._rows:
            yield from _frames(table.number, rows.values())
        yield from _frames(_REQUESTS, self._requests)
        yield _frame(_END, None)


class SnapshotReader:
    """Rebuilds a State from a snapshot's bytes, handed in as chunks of any size.

    Every method raises SwarmError: CORRUPT, or NOT_SUPPORTED for a newer format.
    """

    def __init__(self) -> None:
        self._state = State()
        self._buffer = bytearray()
        self._begun = False
        self._ended = False
        self._header: Header | None = None
        self._missing: dict[int, int] = {}

    def feed(self, chunk: bytes) -> Iterator[None]:
        """Read what `chunk` completes; gives way after each frame, so that the caller may do other work."""
        self._buffer.extend(chunk)
        if not self._begun and not self._begin():
            return
        while (frame := self._next_frame()) is not None:
            self._read(*frame)
            yield

    def finish(self) -> State:
        """Return the state, once every chunk was handed in."""
        header = self._header
        if self._buffer or header is None or not self._ended:
            raise _corrupt("is cut off")
        if any(self._missing.values()):
            raise _corrupt("does not hold what its header says")
        self._state.revision, self._state.index, self._state.digest = header.revision, header.index, header.digest
        return self._state

    def _begin(self) -> bool:
        start = self._buffer[: len(_PREFIX)]
        if not start.startswith(_MAGIC[: len(start)]):
            raise _corrupt("does not begin as one")
        if len(start) < len(_PREFIX):
            return False
        if start[-1] != FORMAT:
            raise SwarmError(
                Code.NOT_SUPPORTED,
                f"the snapshot has format {start[-1]}, this version reads {FORMAT}: upgrade this manager",
            )
        del self._buffer[: len(_PREFIX)]
        self._begun = True
        return True

    def _next_frame(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < _FRAME.size:
            return None
        size, crc, kind = _FRAME.unpack_from(buffer)
        if size > _MAX_FRAME_BYTES:
            raise _corrupt("is damaged (a frame has an impossible length)")
        end = _FRAME.size + size
        if len(buffer) < end:
            return None
        payload = bytes(memoryview(buffer)[_FRAME.size : end])
        del buffer[:end]
        if zlib.crc32(payload, kind) != crc:
            raise _corrupt("is damaged (a checksum does not match)")
        return kind, payload

    def _read(self, kind: int, payload: bytes) -> None:
        if self._ended:
            raise _corrupt("goes on after its end")
        if self._header is None:
            if kind != _HEADER:
                raise _corrupt("does not begin with its header")
            self._header = header = _decode(_HEADERS, payload, "header")
            self._missing = {**header.rows, _REQUESTS: header.requests}
        elif kind == _END:
            self._ended = True
        else:
            self._missing[kind] = self._missing.get(kind, 0) - self._load(kind, payload)

    def _load(self, kind: int, payload: bytes) -> int:
        if kind == _REQUESTS:
            requests = _decode(_REQUEST_LIST, payload, "request ids")
            self._state.requests.load(requests)
            return len(requests)
        table = _BY_NUMBER.get(kind)
        if table is None:
            raise SwarmError(
                Code.NOT_SUPPORTED, f"the snapshot holds a table number {kind}, unknown here: upgrade this manager"
            )
        rows = _decode(_ROWS[kind], payload, table.name)
        self._state.sharing(table).share(rows)
        self._state.rows(table).load(rows)
        return len(rows)


def _frame(kind: int, content: object) -> bytes:
    payload = _ENCODER.encode(content)
    return _FRAME.pack(len(payload), zlib.crc32(payload, kind), kind) + payload


def _frames(kind: int, rows: Collection[Any]) -> Iterator[bytes]:
    """Encode rows in frames of about `FRAME_BYTES`, feeling the way to how many rows these are."""
    waiting, count = iter(rows), _FIRST_ROWS
    while batch := list(islice(waiting, count)):
        frame = _frame(kind, batch)
        yield frame
        count = max(1, min(2 * count, _MOST_ROWS, count * FRAME_BYTES // len(frame)))


def _decode(decoder: msgspec.msgpack.Decoder[D], payload: bytes, what: str) -> D:
    try:
        return decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise _corrupt(f"has unreadable {what}: {error}") from error


def _corrupt(what: str) -> SwarmError:
    return SwarmError(Code.CORRUPT, f"the snapshot {what}: restore another one, or let this manager join again")
