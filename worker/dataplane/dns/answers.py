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
from worker.dataplane.dns.view import Absence, View
from worker.dataplane.dns.wire import QType, Query, RCode, Refusal
from worker.dataplane.dns.zone import APEX, Name

UDP_BYTES: Final = wire.EDNS_PAYLOAD_BYTES
TCP_BYTES: Final = 65535
_MADE_BEFOREHAND_BYTES: Final = 64 * 1024  # larger answers are put together from their records each time
_RECORD_BYTES: Final = 41  # what a bytes object in a list takes beside its bytes
_ZONE: Final = (APEX.encode(),)
_KEPT_TYPES: Final = frozenset((QType.A, QType.AAAA, QType.SRV))
_LETTERS: Final = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_SOA_NEGATIVE: Final = wire.soa_record(_ZONE, wire.NEGATIVE_TTL_S)
_SOA_ROOT: Final = wire.soa_record((), wire.NEGATIVE_TTL_S)  # of names that are not below a zone of ours


class Responder:
    """Answers packets with what one kind of asker sees.

    Args:
        max_bytes: the largest answer of the transport; with UDP, what EDNS may ask for.
        cache_bytes: what encoded answers may take.
        recursive: whether the askers are told that names of the outside are looked up for them.
    """

    def __init__(self, view: View, *, max_bytes: int, cache_bytes: int, recursive: bool = False) -> None:
        self._view = view
        self._max_bytes = max_bytes
        self._own_flags = wire.RA if recursive else 0
        self._cache = AnswerCache(max_bytes=cache_bytes)
        self._hits = self._cache.hits
        self._uses = {"noerror": [0], "nodata": [0]}
        self._results: Counter[str] = Counter()

    def reply(self, packet: bytes) -> bytes | Query | None:
        """Return the answer to `packet`, whatever its bytes are; None if there must not be one.

        A query is returned as it was read if its name is a matter of the outside.
        """
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

    def limit_cache(self, max_bytes: int) -> None:
        """Say anew what encoded answers may take, in bytes."""
        self._cache.limit(max_bytes)

    def refuse(self, packet: bytes, query: Query, rcode: RCode) -> bytes:
        """Return an answer that has nothing but a code."""
        self._results[rcode.name.lower()] += 1
        head, tail = self._plain(query, rcode, b"")
        return packet[:2] + head + packet[wire.HEADER_BYTES : query.end] + tail

    def count(self, result: str) -> None:
        """Count what became of a query that was looked up elsewhere."""
        self._results[result] += 1

    def _miss(self, packet: bytes) -> bytes | Query | None:
        query = wire.parse(packet)
        if query is None:
            self._results["dropped"] += 1
            return None
        if isinstance(query, Refusal):
            self._results[query.rcode.name.lower()] += 1
            flags = int.from_bytes(packet[2:4], "big") & ~wire.RA
            return packet[:2] + wire.head(flags, query.rcode, 0, 0, 0, questions=0)
        rcode = _refusal(query)
        if rcode is not None:
            return self.refuse(packet, query, rcode)
        name = self._view.find(tuple(label.decode("latin-1") for label in query.labels))
        if name is Absence.OUTSIDE:
            return query
        if name is Absence.NOT_OURS:
            return self.refuse(packet, query, RCode.REFUSED)
        head, tail = self._answer(packet, query, name)
        return packet[:2] + head + packet[wire.HEADER_BYTES : query.end] + tail

    def _answer(self, packet: bytes, query: Query, name: Name | Absence) -> Body:
        if isinstance(name, Absence):
            self._results["nxdomain"] += 1
            return self._plain(query, RCode.NXDOMAIN, _soa(query))
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
            body = self._plain(query, RCode.NOERROR, _soa(query))
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
        flags = self._flags(query) | (wire.TC if truncated else 0)
        head = wire.head(flags, RCode.NOERROR, len(fitting), 0, len(extras) + bool(opt))
        return Body(head, b"".join((*fitting, *extras, opt)))

    def _plain(self, query: Query, rcode: RCode, authority: bytes) -> Body:
        """Encode a response without answers."""
        opt = wire.opt(query.edns, rcode) if query.edns else b""
        head = wire.head(self._flags(query), rcode, 0, bool(authority), bool(opt))
        return Body(head, authority + opt)

    def _flags(self, query: Query) -> int:
        return query.flags & ~(wire.TC | wire.RA) | self._own_flags


def _refusal(query: Query) -> RCode | None:
    """Return why a well-formed query is not answered, or None."""
    if query.edns and query.edns.version > 0:
        return RCode.BADVERS
    if query.qclass != wire.IN or query.qtype in (QType.AXFR, QType.IXFR):
        return RCode.REFUSED
    return None


def _soa(query: Query) -> bytes:
    return _SOA_NEGATIVE if query.labels[-1:] == _ZONE else _SOA_ROOT


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
    if qtype == QType.PTR and name.pointer:
        return [wire.pointer_record(wire.encode_name(tuple(map(_label, name.pointer))))], []
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
