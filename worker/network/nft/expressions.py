"""The expressions that rules are made of: each a frozen dataclass that knows its name and its attributes.

Registers are numbered as the kernel does: 0 holds a verdict, 1 to 4 are 16 bytes each, and 8 to 23 are the same room in
4-byte pieces (8 is the start of 1). Data in registers is as it comes off the wire, except where the kernel keeps
numbers in the machine's order (`native`).
"""

from __future__ import annotations

import enum
import sys
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

from worker.network.nft.attributes import attribute, nested, text, u8, u32, u64

VERDICT_REGISTER: Final = 0
FIRST_REGISTER: Final = 1
FIRST_WORD: Final = 8  # register 1, counted in 4-byte words

IFNAME_BYTES: Final = 16
CT_ESTABLISHED: Final = 2
CT_RELATED: Final = 4
CT_NEW: Final = 8
CT_STATUS_DNAT: Final = 0x20
FIB_DESTINATION: Final = 2
FIB_ADDRESS_TYPE: Final = 3
LOCAL_ADDRESS: Final = 2
NAT_PERSISTENT: Final = 8
NAT_RANDOM: Final = 4
NAT_FULLY_RANDOM: Final = 16


class MetaKey(enum.IntEnum):
    IN_INTERFACE = 6
    OUT_INTERFACE = 7
    PROTOCOL = 16  # of layer 4


class CtKey(enum.IntEnum):
    STATE = 0
    DIRECTION = 1
    STATUS = 2


class Base(enum.IntEnum):
    """Where a payload's offset counts from."""

    NETWORK = 1
    TRANSPORT = 2


class Operator(enum.IntEnum):
    EQUAL = 0
    NOT_EQUAL = 1


class Outcome(enum.IntEnum):
    """What becomes of a packet."""

    DROP = 0
    ACCEPT = 1
    CONTINUE = -1
    JUMP = -3
    GOTO = -4
    RETURN = -5


class RejectKind(enum.IntEnum):
    ICMP = 0
    TCP_RESET = 1


class Expression(Protocol):
    """One step of a rule."""

    @property
    def name(self) -> str: ...

    def attributes(self) -> bytes: ...


def encode_expression(expression: Expression) -> bytes:
    """Return an expression as one element of a rule's list."""
    return nested(1, text(1, expression.name), nested(2, expression.attributes()))


def native(value: int) -> bytes:
    """Return 4 bytes in the machine's order: marks, tracking states, random numbers, address types."""
    return value.to_bytes(4, sys.byteorder)


def interface(name: str) -> bytes:
    """Return an interface's name as registers and sets hold it."""
    return name.encode().ljust(IFNAME_BYTES, b"\0")


def data(kind: int, value: bytes) -> bytes:
    return nested(kind, attribute(1, value))


@dataclass(frozen=True)
class Verdict:
    """What becomes of a packet; `chain` where it goes, for JUMP and GOTO. As an expression it ends the rule."""

    code: Outcome
    chain: str = ""

    @property
    def name(self) -> str:
        return "immediate"

    def attributes(self) -> bytes:
        return u32(1, VERDICT_REGISTER) + nested(2, self.data())

    def data(self) -> bytes:
        chain = text(2, self.chain) if self.chain else b""
        return nested(2, u32(1, self.code), chain)


ACCEPT: Final = Verdict(Outcome.ACCEPT)
DROP: Final = Verdict(Outcome.DROP)


@dataclass(frozen=True)
class Immediate:
    """Puts a constant into a register."""

    value: bytes
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "immediate"

    def attributes(self) -> bytes:
        return u32(1, self.register) + data(2, self.value)


@dataclass(frozen=True)
class Meta:
    """Loads a property of the packet that is not in it."""

    key: MetaKey
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "meta"

    def attributes(self) -> bytes:
        return u32(1, self.register) + u32(2, self.key)


@dataclass(frozen=True)
class Payload:
    """Loads bytes of the packet."""

    base: Base
    offset: int
    length: int
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "payload"

    def attributes(self) -> bytes:
        return u32(1, self.register) + u32(2, self.base) + u32(3, self.offset) + u32(4, self.length)


@dataclass(frozen=True)
class Compare:
    """Goes on with the rule if the register compares so; shorter values compare a prefix."""

    value: bytes
    operator: Operator = Operator.EQUAL
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "cmp"

    def attributes(self) -> bytes:
        return u32(1, self.register) + u32(2, self.operator) + data(3, self.value)


@dataclass(frozen=True)
class Bitwise:
    """register = (register & mask) ^ xor; `xor` empty is zero."""

    mask: bytes
    xor: bytes = b""
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "bitwise"

    def attributes(self) -> bytes:
        size = len(self.mask)
        both = u32(1, self.register) + u32(2, self.register) + u32(3, size)
        return both + data(4, self.mask) + data(5, self.xor or bytes(size))


@dataclass(frozen=True)
class Lookup:
    """Goes on if the key in `register` is in the set; of a map, its value is put into `into` (0: a verdict)."""

    set: str
    register: int = FIRST_REGISTER
    into: int | None = None
    inverted: bool = False
    name: ClassVar[str] = "lookup"

    def attributes(self) -> bytes:
        parts = text(1, self.set) + u32(2, self.register)
        if self.into is not None:
            parts += u32(3, self.into)
        return parts + (u32(5, 1) if self.inverted else b"")


@dataclass(frozen=True)
class DestinationNat:
    """Translates the destination to the address, and the port, in registers; None leaves it (IPv4)."""

    address_register: int | None = FIRST_REGISTER
    port_register: int | None = None
    flags: int = 0
    name: ClassVar[str] = "nat"

    def attributes(self) -> bytes:
        given = ((3, self.address_register), (5, self.port_register), (7, self.flags or None))
        return u32(1, 1) + u32(2, 2) + b"".join(u32(kind, value) for kind, value in given if value is not None)


@dataclass(frozen=True)
class Masquerade:
    """Translates the source to the address of the interface that the packet leaves by."""

    flags: int = 0
    name: ClassVar[str] = "masq"

    def attributes(self) -> bytes:
        return u32(1, self.flags) if self.flags else b""


@dataclass(frozen=True)
class NumberGenerator:
    """Puts `offset` + a number below `modulus` into the register: the next one, or any."""

    modulus: int
    random: bool = False
    offset: int = 0
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "numgen"

    def attributes(self) -> bytes:
        parts = u32(1, self.register) + u32(2, self.modulus) + u32(3, int(self.random))
        return parts + (u32(4, self.offset) if self.offset else b"")


@dataclass(frozen=True)
class Ct:
    """Loads what connection tracking knows; `original` None where the direction does not matter."""

    key: CtKey
    register: int = FIRST_REGISTER
    original: bool | None = None
    name: ClassVar[str] = "ct"

    def attributes(self) -> bytes:
        parts = u32(1, self.register) + u32(2, self.key)
        return parts if self.original is None else parts + u8(3, int(not self.original))


@dataclass(frozen=True)
class Fib:
    """Asks the routing table; `result` and `flags` as the kernel numbers them."""

    result: int = FIB_ADDRESS_TYPE
    flags: int = FIB_DESTINATION
    register: int = FIRST_REGISTER
    name: ClassVar[str] = "fib"

    def attributes(self) -> bytes:
        return u32(1, self.register) + u32(2, self.result) + u32(3, self.flags)


@dataclass(frozen=True)
class Counter:
    name: ClassVar[str] = "counter"

    def attributes(self) -> bytes:
        return u64(1, 0) + u64(2, 0)


@dataclass(frozen=True)
class Reject:
    """Answers with a refusal and drops the packet; `code` is ICMP's (3: port unreachable)."""

    kind: RejectKind = RejectKind.ICMP
    code: int = 3
    name: ClassVar[str] = "reject"

    def attributes(self) -> bytes:
        return u32(1, self.kind) + u8(2, self.code if self.kind == RejectKind.ICMP else 0)
