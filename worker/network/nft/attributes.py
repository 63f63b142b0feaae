"""Netlink's attributes and message headers as bytes, written and read; pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import Code, SwarmError

NESTED: Final = 0x8000
TYPE_MASK: Final = 0x3FFF
MAX_ATTRIBUTE_BYTES: Final = 0xFFFF

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTERRUPTED: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLM_F_APPEND: Final = 0x800
NLM_F_CAPPED: Final = 0x100  # in an acknowledgement: the request is not echoed
NLM_F_ACK_TLVS: Final = 0x200  # in an acknowledgement: attributes follow

_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_FAMILY: Final = struct.Struct("!BBH")

Attributes = dict[int, bytes]


@dataclass(frozen=True)
class Header:
    """What stands before a message: its type, flags, and the number that its answer repeats."""

    type: int
    flags: int
    sequence: int


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded to 4 bytes.

    Raises:
        ValueError: the value does not fit the 16 bits of a length; split it over several messages.
    """
    length = 4 + len(value)
    if length > MAX_ATTRIBUTE_BYTES:
        raise ValueError(f"a netlink attribute holds at most {MAX_ATTRIBUTE_BYTES - 4} bytes, not {len(value)}")
    return _ATTRIBUTE.pack(length, kind) + value + bytes(-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(parts))


def u8(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(1, "big"))


def u16(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(2, "big"))


def u32(kind: int, value: int) -> bytes:
    """A number in network order, as all of nf_tables' are; negative ones as the kernel casts them."""
    return attribute(kind, (value & 0xFFFFFFFF).to_bytes(4, "big"))


def u64(kind: int, value: int) -> bytes:
    return attribute(kind, value.to_bytes(8, "big"))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def parse(data: bytes) -> Attributes:
    """Return the values of attributes by their type (without flags); of one that comes twice, the last.

    Raises:
        SwarmError: CORRUPT, a length does not fit.
    """
    return dict(each(data))


def each(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each attribute's type (without flags) and value, in order."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > len(data):
            raise corrupt(f"an attribute of {length} bytes in {len(data) - offset}")
        yield kind & TYPE_MASK, data[offset + 4 : offset + length]
        offset += length + 3 & ~3


def number(value: bytes) -> int:
    return int.from_bytes(value, "big")


def signed(value: bytes) -> int:
    return int.from_bytes(value, "big", signed=True)


def string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def message(header: Header, family: int, payload: bytes, resource: int = 0) -> bytes:
    """Return a message of the netfilter family: both headers and the attributes."""
    body = _FAMILY.pack(family, 0, resource) + payload
    return _HEADER.pack(16 + len(body), header.type, header.flags, header.sequence, 0) + body


def messages(data: bytes) -> Iterator[tuple[Header, bytes]]:
    """Yield the messages of one datagram: header, and what follows it.

    Raises:
        SwarmError: CORRUPT, a length does not fit.
    """
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > len(data):
            raise corrupt(f"a message of {length} bytes in {len(data) - offset}")
        yield Header(kind, flags, sequence), data[offset + 16 : offset + length]
        offset += length + 3 & ~3


def corrupt(what: str) -> SwarmError:
    return SwarmError(Code.CORRUPT, f"the kernel's netlink answer cannot be read: {what}; please report it")
