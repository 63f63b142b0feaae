"""What is changed in one step: tables, chains, rules, sets and elements as a batch of messages; pure.

All objects are of the IPv4 family. A batch is applied whole or not at all.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from worker.network.nft.attributes import (
    NLM_F_ACK,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    Header,
    attribute,
    message,
    nested,
    text,
    u32,
    u64,
)
from worker.network.nft.expressions import Expression, Verdict, data, encode_expression, native

IPV4: Final = 2
SUBSYSTEM: Final = 10 << 8
BATCH_BEGIN: Final = 0x10
BATCH_END: Final = 0x11
ELEMENTS_BYTES: Final = 60_000  # of a list in one message: below the limit of an attribute
COMMENT: Final = 0  # the first kind of user data of tables and rules, as nft and iptables write it
INTERVAL_END: Final = 1
KEY_BYTE_ORDER: Final = 0  # user data of sets, for nft alone
MACHINE_ORDER: Final = 1


class Kind(enum.IntEnum):
    """Messages of nf_tables."""

    NEW_TABLE = 0
    GET_TABLE = 1
    DELETE_TABLE = 2
    NEW_CHAIN = 3
    GET_CHAIN = 4
    DELETE_CHAIN = 5
    NEW_RULE = 6
    GET_RULE = 7
    DELETE_RULE = 8
    NEW_SET = 9
    GET_SET = 10
    DELETE_SET = 11
    NEW_ELEMENT = 12
    GET_ELEMENT = 13
    DELETE_ELEMENT = 14


class Hook(enum.IntEnum):
    PREROUTING = 0
    INPUT = 1
    FORWARD = 2
    OUTPUT = 3
    POSTROUTING = 4


class Field(enum.Enum):
    """One field of a set's key or value: the number by which nft prints it, and its bytes (padded to 4)."""

    ADDRESS = (7, 4)
    PROTOCOL = (12, 4)
    PORT = (13, 4)
    MARK = (19, 4)  # stands for any number in the machine's order: nft has no better name for one
    INTERFACE = (41, 16)

    @property
    def type(self) -> int:
        return self.value[0]

    @property
    def native(self) -> bool:
        """Whether nft is to read it in the machine's order (a name, too: it would be written backwards)."""
        return self in (Field.MARK, Field.INTERFACE)

    @property
    def size_bytes(self) -> int:
        return self.value[1]


class Flag(enum.IntFlag):
    INTERVAL = 0x4
    MAP = 0x8


VERDICT_TYPE: Final = 0xFFFFFF00


@dataclass(frozen=True)
class Base:
    """Where a chain hangs: `kind` is filter or nat, lower priorities come first."""

    kind: str
    hook: Hook
    priority: int


@dataclass(frozen=True)
class Set:
    """A set, or with `value` a map; `verdict` makes it one of verdicts. Keys of several fields are concatenated."""

    name: str
    key: tuple[Field, ...]
    value: tuple[Field, ...] = ()
    verdict: bool = False
    interval: bool = False


@dataclass(frozen=True)
class Element:
    """One element: `value` bytes of a map's, or a verdict; `interval_end` ends what the element before began."""

    key: bytes
    value: bytes | Verdict | None = None
    interval_end: bool = False

    def encode(self) -> bytes:
        parts = [data(1, self.key)]
        if isinstance(self.value, Verdict):
            parts.append(nested(2, self.value.data()))
        elif self.value is not None:
            parts.append(data(2, self.value))
        if self.interval_end:
            parts.append(u32(3, INTERVAL_END))
        return nested(1, *parts)


@dataclass(frozen=True)
class Request:
    """One message of a batch; `what` says what it does, for the sentence of an error."""

    kind: Kind
    flags: int
    payload: bytes
    what: str


@dataclass
class Batch:
    """Requests in the order in which they are made; the methods only collect."""

    requests: list[Request] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.requests)

    def add_table(self, table: str, comment: str = "") -> None:
        """Make a table; one that is there stays as it is."""
        payload = text(1, table) + (user_data(6, comment) if comment else b"")
        self._add(Kind.NEW_TABLE, NLM_F_CREATE, payload, f"add table {table}")

    def delete_table(self, table: str) -> None:
        self._add(Kind.DELETE_TABLE, 0, text(1, table), f"delete table {table}")

    def add_chain(self, table: str, chain: str, base: Base | None = None) -> None:
        payload = text(1, table) + text(3, chain)
        if base is not None:
            payload += nested(4, u32(1, base.hook), u32(2, base.priority)) + u32(5, 1) + text(7, base.kind)
        self._add(Kind.NEW_CHAIN, NLM_F_CREATE, payload, f"add chain {chain} to table {table}")

    def delete_chain(self, table: str, chain: str) -> None:
        """Delete a chain; its rules must be gone, and what goes to it."""
        self._add(Kind.DELETE_CHAIN, 0, text(1, table) + text(3, chain), f"delete chain {chain} of table {table}")

    def flush_chain(self, table: str, chain: str) -> None:
        self._add(Kind.DELETE_RULE, 0, text(1, table) + text(2, chain), f"flush chain {chain} of table {table}")

    def add_rule(
        self, table: str, chain: str, *expressions: Expression, comment: str = "", after: int | None = None
    ) -> None:
        """Append a rule.

        Args:
            after: the handle of the rule that it comes right after; 0 puts it first.
        """
        payload = [text(1, table), text(2, chain), nested(4, *map(encode_expression, expressions))]
        if after:
            payload.append(u64(6, after))
        if comment:
            payload.append(user_data(7, comment))
        flags = NLM_F_CREATE | (0 if after == 0 else NLM_F_APPEND)
        self._add(Kind.NEW_RULE, flags, b"".join(payload), f"add a rule to chain {chain} of table {table}")

    def delete_rule(self, table: str, chain: str, handle: int) -> None:
        payload = text(1, table) + text(2, chain) + u64(3, handle)
        self._add(Kind.DELETE_RULE, 0, payload, f"delete rule {handle} of chain {chain} of table {table}")

    def add_set(self, table: str, made: Set) -> None:
        flags = Flag(0)
        if made.interval:
            flags |= Flag.INTERVAL
        parts = [text(1, table), text(2, made.name)]
        value = b""
        if made.verdict:
            flags |= Flag.MAP
            value = u32(6, VERDICT_TYPE) + u32(7, 0)
        elif made.value:
            flags |= Flag.MAP
            value = u32(6, type_number(made.value)) + u32(7, sum(part.size_bytes for part in made.value))
        key = u32(4, type_number(made.key)) + u32(5, sum(part.size_bytes for part in made.key))
        # The kernel wants a number to know the set by within the batch.
        parts += [u32(3, flags), key, value, u32(10, len(self.requests) + 1)]
        if len(made.key) == 1 and made.key[0].native:
            parts.append(attribute(13, bytes((KEY_BYTE_ORDER, 4)) + native(MACHINE_ORDER)))
        self._add(Kind.NEW_SET, NLM_F_CREATE, b"".join(parts), f"add set {made.name} to table {table}")

    def add_elements(self, table: str, name: str, elements: Iterable[Element]) -> None:
        """Add elements; one that is there with the same value is no error, with another value it is one."""
        self._elements(Kind.NEW_ELEMENT, NLM_F_CREATE, table, name, elements, "add elements to")

    def delete_elements(self, table: str, name: str, elements: Iterable[Element]) -> None:
        """Delete elements by their keys; one that is not there is an error."""
        self._elements(Kind.DELETE_ELEMENT, 0, table, name, elements, "delete elements from")

    def _elements(self, kind: Kind, flags: int, table: str, name: str, elements: Iterable[Element], what: str) -> None:
        head = text(1, table) + text(2, name)
        for part in split([element.encode() for element in elements]):
            self._add(kind, flags, head + nested(3, *part), f"{what} set {name} of table {table}")

    def _add(self, kind: Kind, flags: int, payload: bytes, what: str) -> None:
        self.requests.append(Request(kind, flags, payload, what))

    def encode(self, first_sequence: int) -> bytes:
        """Return the batch as one datagram.

        Its begin has the number `first_sequence`, the requests those that follow. The last request asks for an
        acknowledgement: failures of the others are answered anyhow.
        """
        count = len(self.requests)
        parts = [message(Header(BATCH_BEGIN, NLM_F_REQUEST, first_sequence), 0, b"", SUBSYSTEM >> 8)]
        for place, request in enumerate(self.requests, 1):
            flags = NLM_F_REQUEST | request.flags | (NLM_F_ACK if place == count else 0)
            header = Header(SUBSYSTEM | request.kind, flags, first_sequence + place)
            parts.append(message(header, IPV4, request.payload))
        end = Header(BATCH_END, NLM_F_REQUEST, first_sequence + count + 1)
        parts.append(message(end, 0, b"", SUBSYSTEM >> 8))
        return b"".join(parts)


def split(encoded: Sequence[bytes], limit_bytes: int = ELEMENTS_BYTES) -> Iterable[Sequence[bytes]]:
    """Yield parts of a list, in order, none larger than a message may hold."""
    start, size = 0, 0
    for place, item in enumerate(encoded):
        if size + len(item) > limit_bytes and place > start:
            yield encoded[start:place]
            start, size = place, 0
        size += len(item)
    if start < len(encoded):
        yield encoded[start:]


def type_number(fields: Sequence[Field]) -> int:
    """Return how nft numbers a key: 6 bits a field."""
    total = 0
    for part in fields:
        total = total << 6 | part.type
    return total


def user_data(kind: int, comment: str) -> bytes:
    """Return a comment where nft and iptables look for one.

    Raises:
        ValueError: it is longer than 253 bytes.
    """
    raw = comment.encode() + b"\0"
    if len(raw) > 0xFE:
        raise ValueError(f"a comment holds at most 253 bytes, not {len(raw) - 1}")
    return attribute(kind, bytes((COMMENT, len(raw))) + raw)
