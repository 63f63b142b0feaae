"""Laws of the DNS answers: nothing that comes in raises, and a kept answer is the answer."""

from __future__ import annotations

import dnslib
from hypothesis import given
from hypothesis import strategies as st

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.dataplane import port, service, task
from worker.dataplane.dns.answers import TCP_BYTES, UDP_BYTES, Responder
from worker.dataplane.dns.view import NodeView
from worker.dataplane.dns.wire import Query
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable

NAMES = (
    "web.swarm",
    "WEB.swarm",
    "tasks.web.swarm",
    "1.web.swarm",
    "_http._tcp.web.swarm",
    "_tcp.web.swarm",
    "api.shop.swarm",
    "shop.swarm",
    "none.swarm",
    "swarm",
    "example.com",
)
TYPES = (1, 2, 6, 16, 28, 33, 65, 97, 251, 252, 255, 0x4141, 0x6141)


def world(*tasks_at: str) -> tuple[EndpointTable, Zone]:
    table = EndpointTable()
    zone = Zone(table, server_address="127.0.0.2")
    zone.vip_prefix = "127.93"
    change = table.apply(
        EndpointsUpdate(
            revision=1,
            services=(service("web", port("http=80"), vip=1), service("shop_api", vip=2, stack="shop")),
            backends=tuple(
                task(f"t{n}", "web", (80, 40000 + n), slot=n, address=address) for n, address in enumerate(tasks_at, 1)
            ),
        )
    )
    assert change is not None
    zone.apply(change)
    return table, zone


def responder(zone: Zone, *, tcp: bool = False, local: bool = True) -> Responder:
    return Responder(NodeView(zone, local=local), max_bytes=TCP_BYTES if tcp else UDP_BYTES, cache_bytes=1 << 20)


@st.composite
def queries(draw: st.DrawFn) -> bytes:
    """Draw a well-formed query, with any flags that a query may have."""
    header = dnslib.DNSHeader(id=draw(st.integers(0, 65535)), bitmap=draw(st.sampled_from([0, 0x100, 0x110, 0x20])))
    question = dnslib.DNSQuestion(draw(st.sampled_from(NAMES)), draw(st.sampled_from(TYPES)))
    record = dnslib.DNSRecord(header, q=question)
    if draw(st.booleans()):
        payload_bytes = draw(st.sampled_from([0, 512, 0x0441, 0x0461, 1232, 65535]))
        record.add_ar(dnslib.EDNS0(udp_len=payload_bytes, flags=draw(st.sampled_from(["", "do"]))))
    return bytes(record.pack())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a query with some bytes changed, cut off, or added."""
    packet = bytearray(draw(queries()))
    for _ in range(draw(st.integers(0, 4))):
        packet[draw(st.integers(0, len(packet) - 1))] = draw(st.integers(0, 255))
    return bytes(packet[: draw(st.integers(0, len(packet)))]) + draw(st.binary(max_size=8))


WORLD = world("127.0.0.2", "127.0.0.3", "127.0.0.2")[1]
UDP = responder(WORLD)
TCP = responder(WORLD, tcp=True, local=False)


@given(st.one_of(damaged(), queries(), st.binary(max_size=80)))
def test_whatever_comes_in_is_answered_or_dropped(packet: bytes) -> None:
    for answering in (UDP, TCP):
        answer = answering.reply(packet)
        if answer is None:
            assert len(packet) < 4 or packet[2] & 0x80, "a query with an id must be answered"
            continue
        assert answer[:2] == packet[:2]
        assert answer[2] & 0x80
        assert len(answer) <= (1232 if answering is UDP else 65535)


@given(queries())
def test_an_answer_repeats_its_question_and_reads_well(packet: bytes) -> None:
    asked = dnslib.DNSRecord.parse(packet)
    answer = dnslib.DNSRecord.parse(UDP.reply(packet))
    assert answer.header.id == asked.header.id
    assert [(str(q.qname), q.qtype) for q in answer.questions] == [(str(q.qname), q.qtype) for q in asked.questions]
    assert answer.header.rcode in (dnslib.RCODE.NOERROR, dnslib.RCODE.NXDOMAIN, dnslib.RCODE.REFUSED)
    assert all(rr.ttl <= 5 for rr in (*answer.rr, *answer.auth))
    assert bool(answer.ar and answer.ar[-1].rtype == dnslib.QTYPE.OPT) == bool(asked.ar)


@given(st.lists(queries(), max_size=20), st.booleans())
def test_a_kept_answer_is_what_a_new_responder_says(packets: list[bytes], local: bool) -> None:
    kept = responder(WORLD, local=local)
    for packet in packets:
        first, again = kept.reply(packet), kept.reply(packet)
        fresh = responder(WORLD, local=local).reply(packet)
        assert reading(first) == reading(again) == reading(fresh)


def reading(answer: bytes | Query | None) -> tuple[object, ...]:
    """Return what a resolver understands: all but the order of records."""
    assert isinstance(answer, bytes)
    parsed = dnslib.DNSRecord.parse(answer)
    sections = (parsed.rr, parsed.auth, parsed.ar)
    return parsed.header.bitmap, str(parsed.questions), *(sorted(map(repr, section)) for section in sections)


@given(st.lists(st.sampled_from(["127.0.0.2", "127.0.0.3", ""]), min_size=1, max_size=6), queries())
def test_no_answer_outlives_the_table_that_it_was_made_of(addresses: list[str], packet: bytes) -> None:
    table, zone = world()
    kept = responder(zone, local=False)
    for revision, address in enumerate(addresses, 2):
        kept.reply(packet)
        change = table.apply(
            EndpointsUpdate(
                revision=revision,
                backends=(task("t1", "web", (80, 40001), address=address),) if address else (),
                removed_backends=() if address else ("t1",),
            )
        )
        assert change is not None
        kept.drop(zone.apply(change))
        assert reading(kept.reply(packet)) == reading(responder(zone, local=False).reply(packet))
