"""DNS messages as bytes: reading a query strictly, encoding records. Sans-IO and pure.

Not dnslib: at 80 us a query and 20 us a record, a service of 1,000 tasks would stop the loop, which the balancer
shares, for tens of milliseconds at each change, and a flood of unknown names all the time. Here a miss costs
microseconds. The tests read every answer with dnslib, which so remains the judge of what is written here.
"""

from __future__ import annotations

import ipaddress
import struct
from enum import IntEnum
from typing import Final, NamedTuple

TTL_S: Final = 5
NEGATIVE_TTL_S: Final = 2
EDNS_PAYLOAD_BYTES: Final = 1232
PLAIN_PAYLOAD_BYTES: Final = 512
HEADER_BYTES: Final = 12
IN: Final = 1
OWNER: Final = b"\xc0\x0c"  # the question's name, wherever the question stands: it always starts at 12

QR, AA, TC, RD, RA, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0010
OPCODE_MASK: Final = 0x7800

_HEADER = struct.Struct("!HHHHHH")
_TAIL = struct.Struct("!HH")
_FIXED = struct.Struct("!HHIH")
_SRV = struct.Struct("!HHIHHHH")
_SOA_TIMES = struct.Struct("!IIIII")


class QType(IntEnum):
    """The record types that mean something here."""

    A = 1
    NS = 2
    SOA = 6
    PTR = 12
    HINFO = 13
    AAAA = 28
    SRV = 33
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255


class RCode(IntEnum):
    """Response codes; above 15 the upper bits travel in the OPT record."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5
    BADVERS = 16


class Edns(NamedTuple):
    """The asker's OPT record: version, UDP payload in bytes, DO bit, and whether it carries options."""

    version: int
    payload_bytes: int
    dnssec_ok: bool
    options: bool


class Query(NamedTuple):
    """A well-formed query. `labels` are lower-cased, without the root; `end` is where its question ends."""

    flags: int
    labels: tuple[bytes, ...]
    qtype: int
    qclass: int
    end: int
    edns: Edns | None


class Refusal(NamedTuple):
    """A packet to be answered with a bare header and this code."""

    rcode: RCode


class MalformedError(ValueError):
    """The packet does not follow RFC 1035."""


def parse(packet: bytes) -> Query | Refusal | None:
    """Read one query; None means that no answer may be sent (a response, or no readable id and flags)."""
    if len(packet) < 4 or packet[2] & 0x80:
        return None
    if len(packet) < HEADER_BYTES:
        return Refusal(RCode.FORMERR)
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
    if flags & OPCODE_MASK:
        return Refusal(RCode.NOTIMP)
    if questions != 1 or answers or authorities or additionals > 4:
        return Refusal(RCode.FORMERR)
    try:
        labels, end = read_name(packet, HEADER_BYTES)
        qtype, qclass = _TAIL.unpack_from(packet, end)
        end += _TAIL.size
        edns = _read_additionals(packet, end, additionals)
    except (MalformedError, struct.error):
        return Refusal(RCode.FORMERR)
    return Query(flags, labels, qtype, qclass, end, edns)


def read_name(packet: bytes, at: int) -> tuple[tuple[bytes, ...], int]:
    """Return the lower-cased labels at `at` and where they end. Pointers are refused: there is nothing before."""
    labels: list[bytes] = []
    start = at
    while True:
        if at >= len(packet) or at - start > 254:
            raise MalformedError("a name runs past its end")
        length = packet[at]
        at += 1
        if length == 0:
            return tuple(labels), at
        if length > 63 or at + length > len(packet):
            raise MalformedError("a label is cut off or compressed")
        labels.append(packet[at : at + length].lower())
        at += length


def _read_additionals(packet: bytes, at: int, count: int) -> Edns | None:
    edns: Edns | None = None
    for _ in range(count):
        labels, at = read_name(packet, at)
        rtype, payload_bytes, extended, size = _FIXED.unpack_from(packet, at)
        at += _FIXED.size + size
        if at > len(packet):
            raise MalformedError("a record is cut off")
        if rtype == QType.OPT:
            if labels or edns is not None:
                raise MalformedError("an OPT record is not at the root, or not the only one")
            edns = Edns((extended >> 16) & 0xFF, payload_bytes, bool(extended & 0x8000), size > 0)
    if at != len(packet):
        raise MalformedError("bytes follow the last record")
    return edns


def head(flags: int, rcode: int, answers: int, authorities: int, additionals: int, *, questions: int = 1) -> bytes:
    """Return the ten header bytes after the id: an authoritative response to a query with `flags`.

    The flags TC and RA are taken from `flags`, where the caller has set them.
    """
    echoed = flags & (OPCODE_MASK | RD | CD | TC | RA)
    bits = QR | AA | echoed | (rcode & 0xF)
    if rcode in (RCode.FORMERR, RCode.SERVFAIL, RCode.NOTIMP, RCode.REFUSED, RCode.BADVERS):
        bits &= ~AA
    return _HEADER.pack(0, bits, questions, answers, authorities, additionals)[2:]


def opt(edns: Edns, rcode: int) -> bytes:
    """Return our OPT record in answer to the asker's."""
    extended = (rcode >> 4) << 24 | (0x8000 if edns.dnssec_ok else 0)
    return b"\0" + _FIXED.pack(QType.OPT, EDNS_PAYLOAD_BYTES, extended, 0)


def encode_name(labels: tuple[bytes, ...]) -> bytes:
    """Return an uncompressed name; each label has 1 to 63 bytes."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def address_record(owner: bytes, address: str) -> bytes:
    """Return an A or, for an IPv6 address, an AAAA record; `owner` is an encoded name or a pointer."""
    packed = ipaddress.ip_address(address).packed
    rtype = QType.A if len(packed) == 4 else QType.AAAA
    return owner + _FIXED.pack(rtype, IN, TTL_S, len(packed)) + packed


def srv_record(target: bytes, port: int) -> bytes:
    """Return an SRV record of the question's name; `target` is an encoded name (RFC 2782: uncompressed)."""
    return OWNER + _SRV.pack(QType.SRV, IN, TTL_S, 6 + len(target), 0, 0, port) + target


def soa_record(zone: tuple[bytes, ...], ttl_s: int) -> bytes:
    """Return the zone's SOA record; its minimum is the negative TTL (RFC 2308)."""
    owner = encode_name(zone)
    times = _SOA_TIMES.pack(1, 3600, 600, 86400, NEGATIVE_TTL_S)
    data = owner + encode_name((b"hostmaster", *zone)) + times
    return owner + _FIXED.pack(QType.SOA, IN, ttl_s, len(data)) + data


def ns_record(zone: tuple[bytes, ...]) -> bytes:
    """Return the zone's NS record: the zone's own name, whose address is this server's."""
    owner = encode_name(zone)
    return owner + _FIXED.pack(QType.NS, IN, TTL_S, len(owner)) + owner


def pointer_record(name: bytes) -> bytes:
    """Return a PTR record of the question's name that says an encoded name."""
    return OWNER + _FIXED.pack(QType.PTR, IN, TTL_S, len(name)) + name


def minimal_any_record() -> bytes:
    """Return the synthesised HINFO record that answers ANY (RFC 8482, section 4.2)."""
    return OWNER + _FIXED.pack(QType.HINFO, IN, TTL_S, 9) + b"\x07RFC8482\0"
