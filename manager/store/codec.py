"""Bytes of a log entry: one or more transactions, and the state that they were built on.

Layout: format byte, 16 bytes of the parent's digest, then MessagePack of `EntryBody`. An entry's digest is that of
its parent and its bytes, so equal digests mean equal histories.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from manager.store.tables import TABLES, Table
from swarmpy.errors import Code, SwarmError

FORMAT: Final = 1
DIGEST_BYTES: Final = 16
_HEADER_BYTES: Final = 1 + DIGEST_BYTES

_BY_NUMBER: Final[dict[int, Table[Any]]] = {table.number: table for table in TABLES}
_ROW_DECODERS: Final[dict[int, msgspec.msgpack.Decoder[Any]]] = {
    table.number: msgspec.msgpack.Decoder(table.row) for table in TABLES
}
_ENCODER: Final = msgspec.msgpack.Encoder()
_PLAIN: Final = 0
_NO_ROW: Final = msgspec.Raw(b"\xc0")


class EncodedChange(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row to put, encoded, or the id of one to delete (`row` is MessagePack's nil)."""

    table: int
    id: str
    row: msgspec.Raw


class EncodedTransaction(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The net changes of one transaction, in order, and the result that its request id gets."""

    changes: list[EncodedChange]
    request_id: str = ""
    result: bytes = b""


class EntryBody(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Transactions with the revisions `revision`, `revision + 1`, ..."""

    revision: int
    transactions: list[EncodedTransaction]


_BODY: Final = msgspec.msgpack.Decoder(EntryBody)


def encode_change(table: Table[Any], row_id: str, row: Any) -> EncodedChange:
    """Encode one net change; `row` None is a deletion."""
    return EncodedChange(table.number, row_id, _NO_ROW if row is None else msgspec.Raw(_ENCODER.encode(row)))


def change_bytes(change: EncodedChange) -> int:
    """Return about how many bytes the change takes in an entry."""
    return 40 + len(memoryview(change.row))


def decode_change(change: EncodedChange) -> tuple[Table[Any], str, Any]:
    """Return the table, the id, and the row, None where it is deleted.

    Raises:
        SwarmError: NOT_SUPPORTED for an unknown table, CORRUPT for a row that cannot be read.
    """
    table = _BY_NUMBER.get(change.table)
    if table is None:
        raise SwarmError(
            Code.NOT_SUPPORTED,
            f"a log entry writes to table number {change.table}, unknown to this version: upgrade this manager",
        )
    if change.row == _NO_ROW:
        return table, change.id, None
    try:
        row = _ROW_DECODERS[change.table].decode(change.row)
    except msgspec.MsgspecError as error:
        raise SwarmError(Code.CORRUPT, f"{table.noun} {change.id} in a log entry cannot be read: {error}") from error
    return table, change.id, row


def encode_entry(parent: bytes, revision: int, transactions: Sequence[EncodedTransaction]) -> bytes:
    """Return the bytes of an entry built on the state with the digest `parent`."""
    return bytes((FORMAT,)) + parent + _ENCODER.encode(EntryBody(revision, list(transactions)))


def parent_of(data: bytes) -> bytes:
    """Return the digest of the state that an entry was built on.

    Raises:
        SwarmError: NOT_SUPPORTED for a newer format, CORRUPT for bytes that are no entry.
    """
    if len(data) < _HEADER_BYTES:
        raise SwarmError(Code.CORRUPT, f"a log entry of {len(data)} bytes is too short to be one")
    if data[0] > FORMAT:
        raise SwarmError(
            Code.NOT_SUPPORTED,
            f"a log entry has format {data[0]}, this version reads up to format {FORMAT}: upgrade this manager",
        )
    if data[0] != FORMAT:
        raise SwarmError(Code.CORRUPT, f"a log entry begins with the byte {data[0]}, which is no format")
    return data[1:_HEADER_BYTES]


def decode_body(data: bytes) -> EntryBody:
    """Return what follows the header of an entry. CORRUPT if it cannot be read."""
    try:
        return _BODY.decode(memoryview(data)[_HEADER_BYTES:])
    except msgspec.MsgspecError as error:
        raise SwarmError(Code.CORRUPT, f"a log entry of {len(data)} bytes cannot be read: {error}") from error


def digest_of(data: bytes) -> bytes:
    """Return the digest of the state after an entry. The entry's bytes begin with its parent's digest."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def encode_result(result: object) -> bytes:
    """Encode what a transaction returned: a row, or plain data (None, str, numbers, lists, dicts).

    Raises:
        TypeError: it is neither, so that it could not be given to a retry.
    """
    for table in TABLES:
        if isinstance(result, table.row):
            return _ENCODER.encode((table.number, result))
    if isinstance(result, msgspec.Struct):
        raise TypeError(
            f"a {type(result).__name__} cannot be the result of a request with an id: return a row or plain data"
        )
    return _ENCODER.encode((_PLAIN, result))


def decode_result(data: bytes) -> Any:
    """Return what `encode_result` was given."""
    number, raw = msgspec.msgpack.decode(data, type=tuple[int, msgspec.Raw])
    return msgspec.msgpack.decode(raw) if number == _PLAIN else _ROW_DECODERS[number].decode(raw)
