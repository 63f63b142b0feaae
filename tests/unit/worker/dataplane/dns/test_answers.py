from __future__ import annotations

from collections import Counter

import dnslib

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.dataplane import service, task
from worker.dataplane.dns.answers import TCP_BYTES, UDP_BYTES, Responder
from worker.dataplane.dns.view import NodeView
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable


def responder(tasks: int, *, cache_bytes: int = 1 << 20, max_bytes: int = UDP_BYTES) -> Responder:
    """Return a responder to a service "web" of so many tasks, each on a node of its own."""
    table = EndpointTable()
    zone = Zone(table, server_address="127.0.0.2")
    change = table.apply(
        EndpointsUpdate(
            revision=1,
            services=(service("web"),),
            backends=tuple(
                task(f"t{n}", "web", (80, n), slot=n, address=f"10.0.{n >> 8}.{n & 255}") for n in range(1, tasks + 1)
            ),
        )
    )
    assert change is not None
    zone.apply(change)
    return Responder(NodeView(zone, local=True), max_bytes=max_bytes, cache_bytes=cache_bytes)


def query(name: str, qtype: int = 1, *, edns: int = 0) -> bytes:
    record = dnslib.DNSRecord(dnslib.DNSHeader(id=7, rd=0), q=dnslib.DNSQuestion(name, qtype))
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=edns))
    return bytes(record.pack())


def ask(answering: Responder, packet: bytes) -> dnslib.DNSRecord:
    return dnslib.DNSRecord.parse(answering.reply(packet))


def test_each_task_is_first_equally_often_however_many_there_are() -> None:
    for tasks in (1, 2, 7, 40, 300):
        answering = responder(tasks)
        packet = query("tasks.web.swarm", edns=1232)
        first = Counter(str(ask(answering, packet).rr[0].rdata) for _ in range(3 * tasks))
        assert len(first) == tasks
        assert set(first.values()) == {3}


def test_an_answer_too_long_for_udp_is_cut_between_records_and_says_so() -> None:
    packet = query("tasks.web.swarm", edns=1232)
    answer = responder(300).reply(packet)
    assert answer is not None
    assert 1232 - 16 < len(answer) <= 1232
    parsed = dnslib.DNSRecord.parse(answer)
    assert parsed.header.tc == 1
    assert len(parsed.rr) > 70
    whole = ask(responder(300, max_bytes=TCP_BYTES), packet)
    assert whole.header.tc == 0
    assert len(whole.rr) == 300


def test_a_thousand_tasks_are_whole_over_tcp() -> None:
    answer = ask(responder(1000, max_bytes=TCP_BYTES), query("web.swarm", dnslib.QTYPE.SRV))
    assert len(answer.rr) == 1000
    assert {rr.rdata.port for rr in answer.rr} == set(range(1, 1001))


def test_types_that_differ_in_a_letters_case_are_not_mixed_up() -> None:
    # 0x61 is a letter: lower-casing the packet of type 0x41 (HTTPS) makes it that of type 0x61.
    answering = responder(1)
    for qtype in (0x61, 0x41, 0x61, 0x41):
        answer = ask(answering, query("web.swarm", qtype))
        assert answer.q.qtype == qtype
    # So are payload sizes: 0x0261 bytes are more than 0x0241.
    answering = responder(60)
    for payload_bytes in (0x0261, 0x0241, 0x0261):
        answer_bytes = answering.reply(query("tasks.web.swarm", edns=payload_bytes))
        assert answer_bytes is not None
        assert payload_bytes - 16 < len(answer_bytes) <= payload_bytes


def test_hits_are_counted_as_what_they_are() -> None:
    answering = responder(2)
    for _ in range(3):
        answering.reply(query("web.swarm"))
        answering.reply(query("web.swarm", dnslib.QTYPE.AAAA))
        answering.reply(query("none.swarm"))
    answering.reply(b"\x00\x01\x80\x00")
    assert answering.counters() == {"noerror": 3, "nodata": 3, "nxdomain": 3, "dropped": 1, "cache_hits": 4}


def test_what_is_kept_is_bounded_and_the_oldest_goes() -> None:
    answering = responder(200, cache_bytes=20_000)
    for turn in range(2):
        for slot in range(1, 201):
            assert str(ask(answering, query(f"{slot}.web.swarm")).rr[0].rdata) == f"10.0.0.{slot}"
        assert answering.counters()["cache_hits"] == 0, f"turn {turn}: all fit, so nothing was bounded"
    answering.reply(query("200.web.swarm"))
    assert answering.counters()["cache_hits"] == 1


def test_a_query_with_a_cookie_is_answered_and_not_kept() -> None:
    answering = responder(1)
    record = dnslib.DNSRecord(dnslib.DNSHeader(id=7), q=dnslib.DNSQuestion("web.swarm"))
    record.add_ar(dnslib.EDNS0(udp_len=1232, opts=[dnslib.EDNSOption(10, b"\x01" * 8)]))
    for _ in range(2):
        assert len(ask(answering, bytes(record.pack())).rr) == 1
    assert answering.counters()["cache_hits"] == 0
