"""The few phrases that our rules are put together from."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

from worker.network.nft.expressions import (
    CT_STATUS_DNAT,
    FIRST_REGISTER,
    LOCAL_ADDRESS,
    Base,
    Bitwise,
    Compare,
    Ct,
    CtKey,
    Expression,
    Fib,
    Meta,
    MetaKey,
    Operator,
    Payload,
    native,
)

SOURCE_OFFSET: Final = 12
DESTINATION_OFFSET: Final = 16
TCP: Final = 6
UDP: Final = 17
PROTOCOLS: Final = {"tcp": TCP, "udp": UDP}
LOOPBACK: Final = bytes((127,))

Phrase = tuple[Expression, ...]


def source(register: int = FIRST_REGISTER) -> Payload:
    return Payload(Base.NETWORK, SOURCE_OFFSET, 4, register)


def destination(register: int = FIRST_REGISTER) -> Payload:
    return Payload(Base.NETWORK, DESTINATION_OFFSET, 4, register)


def destination_port(register: int) -> Payload:
    return Payload(Base.TRANSPORT, 2, 2, register)


def destined_to(address: IPv4Address) -> Phrase:
    return destination(), Compare(address.packed)


def from_loopback() -> Phrase:
    return Payload(Base.NETWORK, SOURCE_OFFSET, 1), Compare(LOOPBACK)


def to_loopback() -> Phrase:
    return Payload(Base.NETWORK, DESTINATION_OFFSET, 1), Compare(LOOPBACK)


def comes_from(prefix: str) -> Phrase:
    """The interface that the packet came in by has a name with this beginning."""
    return Meta(MetaKey.IN_INTERFACE), Compare(prefix.encode())


def leaves_by(prefix: str) -> Phrase:
    """The interface that the packet leaves by has a name with this beginning."""
    return Meta(MetaKey.OUT_INTERFACE), Compare(prefix.encode())


def leaves_by_other_than(prefix: str) -> Phrase:
    return Meta(MetaKey.OUT_INTERFACE), Compare(prefix.encode(), Operator.NOT_EQUAL)


def source_within(subnet: IPv4Network) -> Phrase:
    return source(), Bitwise(subnet.netmask.packed), Compare(subnet.network_address.packed)


def destination_translated() -> Phrase:
    return _any_bit(CtKey.STATUS, CT_STATUS_DNAT)


def in_state(bits: int) -> Phrase:
    return _any_bit(CtKey.STATE, bits)


def _any_bit(key: CtKey, bits: int) -> Phrase:
    return Ct(key), Bitwise(native(bits)), Compare(native(0), Operator.NOT_EQUAL)


def destination_local() -> Phrase:
    return Fib(), Compare(native(LOCAL_ADDRESS))


def protocol(number: int) -> Phrase:
    return Meta(MetaKey.PROTOCOL), Compare(bytes((number,)))
