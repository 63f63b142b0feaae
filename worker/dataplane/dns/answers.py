"""From a query's bytes to its answer's bytes, for one kind of asker. Sans-IO.

A `Responder` serves one transport and one side of the machine's border, so that neither has to be part of
the key. Its hot path is a look-up of the lower-cased packet: two packets with the same key differ in the case
of their question's name only, because a packet is kept only if it has no letter elsewhere (`_cacheable`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from worker.dataplane.dns import wire
from worker.dataplane.dns.cache import AnswerCache, Body, Hit
from worker.dataplane.dns.wire import QType, Query, RCode, Refusal
from worker.dataplane.dns.zone import APEX, Name, Zone

UDP_BYTES: Final = wire.EDNS_PAYLOAD_BYTES
TCP_BYTES: Final = 65535
_MADE_BEFOREHAND_BYTES: Final = 64 * 1024  # larger answers are put together from their records each time
_RECORD_BYTES: Final = 41  # what a bytes object in a list takes beside its bytes
_ZONE: Final = (APEX.encode(),)
_KEPT_TYPES: Final = frozenset((QType.A, QType.AAAA, QType.SRV))
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SOA_NEGATIVE: Final = wire.soa_record(_ZONE, wire.NEGATIVE_TTL_S)


class Responder:
    """Answers packets from `zone`.

    Args:
        zone: what names mean.
        local: whether the askers are on this machine.
        max_bytes: the largest answer of the transport; with UDP, what EDNS may ask for.
        cache_bytes: what encoded answers may take.
    """

    def __init__(self, zone: Zone, *, local: bool, max_bytes: int, cache_bytes: int) -> None:
        self._zone = zone
        self._local = local
        self._max_bytes = max_bytes
        self._cache = AnswerCache(max_bytes=cache_bytes)
        self._hits = self._cache.hits
        self._uses = {"noerror": [0], "nodata": [0]}
        self._results: Counter[str] = Counter()

    def reply(self, packet: bytes) -> bytes | None:
        """Return the answer to `packet`, whatever its bytes are; None if there must not be one."""
        hit = self._hits.get(packet[2:].lower())
        if hit is None:
            return self._miss(packet)
        bodies, end, uses = hit
        uses[0] += 1
        head, tail = next(bodies)
        return packet[:2] + head + packet[12:end] + tail

    def drop(self, tokens: Iterable[str]) -> None:
        """Forget the answers that depend on these service names."""
        self._cache.drop(tokens)

    def clear(self) -> None:
        """Forget every kept answer."""
        self._cache.clear()

    def counters(self) -> Counter[str]:
        """Return queries by result, and how many of them were cache hits."""
        counts = self._results.copy()
        for result, uses in self._uses.items():
            counts[result] += uses[0]
            counts["cache_hits"] += uses[0]
        return counts

    def _miss(self, packet: bytes) -> bytes | None:
        query = wire.parse(packet)
        if query is None:
            self._results["dropped"] += 1
            return None
        if isinstance(query, Refusal):
            self._results[query.rcode.name.lower()] += 1
            flags = int.from_bytes(packet[2:4], "big")
            return packet[:2] + wire.head(flags, query.rcode, 0, 0, 0, questions=0)
        question = packet[wire.HEADER_BYTES : query.end]
        rcode = _refusal(query)
        if rcode is not None:
            self._results[rcode.name.lower()] += 1
            head, tail = self._plain(query, rcode, b"")
            return packet[:2] + head + question + tail
        head, tail = self._answer(packet, query)
        return packet[:2] + head + question + tail

    def _answer(self, packet: bytes, query: Query) -> Body:
        labels = tuple(label.decode("latin-1") for label in query.labels[:-1])
        name = self._zone.find(labels, local=self._local)
        if name is None:
            self._results["nxdomain"] += 1
            return self._plain(query, RCode.NXDOMAIN, _SOA_NEGATIVE)
        answers, additionals = _records(name, query.qtype)
        result = "noerror" if answers else "nodata"
        turns, size_bytes = self._turns(query, answers, additionals)
        if name.tokens and query.qtype in _KEPT_TYPES and _cacheable(packet, query):
            hit = Hit(turns, query.end, self._uses[result])
            self._cache.put(packet[2:].lower(), hit, size_bytes=size_bytes, tokens=name.tokens)
        self._results[result] += 1
        return next(turns)

    def _turns(self, query: Query, answers: list[bytes], additionals: list[bytes]) -> tuple[Iterator[Body], int]:
        """Return the answer's endless rotations, and the bytes that keeping them takes."""
        if not answers:
            body = self._plain(query, RCode.NOERROR, _SOA_NEGATIVE)
            return itertools.repeat(body), len(body.tail)
        whole_bytes = sum(map(len, answers)) + sum(map(len, additionals))
        made_bytes = min(whole_bytes, self._limit(query)) * len(answers)
        turns = (self._rotated(query, answers, additionals, n) for n in range(len(answers)))
        if made_bytes <= _MADE_BEFOREHAND_BYTES:
            return itertools.cycle(list(turns)), made_bytes
        lazy = (self._rotated(query, answers, additionals, n) for n in itertools.cycle(range(len(answers))))
        return lazy, whole_bytes + _RECORD_BYTES * (len(answers) + len(additionals))

    def _limit(self, query: Query) -> int:
        """Return how large the answer may be, in bytes."""
        if self._max_bytes > UDP_BYTES:
            return self._max_bytes
        asked = query.edns.payload_bytes if query.edns else wire.PLAIN_PAYLOAD_BYTES
        return max(wire.PLAIN_PAYLOAD_BYTES, min(asked, self._max_bytes))

    def _rotated(self, query: Query, answers: list[bytes], additionals: list[bytes], first: int) -> Body:
        """Encode the answers from number `first` on, and round; what does not fit is left out and said (TC)."""
        opt = wire.opt(query.edns, RCode.NOERROR) if query.edns else b""
        room = self._limit(query) - query.end - len(opt)
        fitting, room = _take(answers[first:] + answers[:first], room)
        truncated = len(fitting) < len(answers)
        extras = [] if truncated else _take(additionals[first:] + additionals[:first], room)[0]
        flags = query.flags & ~wire.TC | (wire.TC if truncated else 0)
        head = wire.head(flags, RCode.NOERROR, len(fitting), 0, len(extras) + bool(opt))
        return Body(head, b"".join((*fitting, *extras, opt)))

    def _plain(self, query: Query, rcode: RCode, authority: bytes) -> Body:
        """Encode a response without answers."""
        opt = wire.opt(query.edns, rcode) if query.edns else b""
        head = wire.head(query.flags & ~wire.TC, rcode, 0, bool(authority), bool(opt))
        return Body(head, authority + opt)


def _refusal(query: Query) -> RCode | None:
    """Return why a well-formed query is not answered, or None."""
    if query.edns and query.edns.version > 0:
        return RCode.BADVERS
    if query.qclass != wire.IN or query.qtype in (QType.AXFR, QType.IXFR):
        return RCode.REFUSED
    if query.labels[-1:] != _ZONE:
        return RCode.REFUSED
    return None


def _records(name: Name, qtype: int) -> tuple[list[bytes], list[bytes]]:
    """Return the answers of a name for a type, and the additional records that go with them."""
    if qtype == QType.ANY:
        return [wire.minimal_any_record()], []
    if qtype in (QType.A, QType.AAAA):
        v6 = qtype == QType.AAAA
        return [wire.address_record(wire.OWNER, a) for a in name.addresses if (":" in a) == v6], []
    if qtype == QType.SRV:
        ports = [(wire.encode_name((*map(_label, p.target), *_ZONE)), p) for p in name.task_ports()]
        found = dict.fromkeys((target, port.address) for target, port in ports)
        answers = [wire.srv_record(target, port.port) for target, port in ports]
        return answers, [wire.address_record(target, address) for target, address in found]
    if name.apex and qtype == QType.SOA:
        return [wire.soa_record(_ZONE, wire.TTL_S)], []
    if name.apex and qtype == QType.NS:
        return [wire.ns_record(_ZONE)], []
    return [], []


def _label(text: str) -> bytes:
    return text.encode("ascii", "replace")


def _take(records: list[bytes], room: int) -> tuple[list[bytes], int]:
    """Return the leading records that fit into `room` bytes, and what room is left."""
    taken = []
    for record in records:
        if len(record) > room:
            break
        taken.append(record)
        room -= len(record)
    return taken, room


def _cacheable(packet: bytes, query: Query) -> bool:
    """Tell whether lower-casing the packet changes its question's name only, and asking again is likely."""
    if query.edns and query.edns.options:
        return False  # a cookie is another one each time
    return _LETTERS.isdisjoint(packet[2:12]) and _LETTERS.isdisjoint(packet[query.end - 4 :])
