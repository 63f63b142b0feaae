"""Questions about the outside, asked of name servers that drop, lie, fail and truncate."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence

import dnslib
import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.clock import FakeClock
from tests.support.names import FakeUpstream, Script, free_port, question, reply, serving
from worker.dataplane.dns import wire
from worker.dataplane.dns.forward import Forwarder, Patience, Request, Upstream
from worker.dataplane.dns.upstream import TROUBLED_S, Order, Worth, judge

DEADLINE_S = 10.0
ONE, TWO = "127.0.0.1", "127.0.0.12"
QUICK = Patience(try_s=0.1, total_s=2.0)


def request(name: str = "example.com", *, tcp: bool = False, limit_bytes: int = 512) -> Request:
    packet = question(name)
    query = wire.parse(packet)
    assert isinstance(query, wire.Query)
    return Request(packet, query, tcp=tcp, limit_bytes=limit_bytes)


class Asking:
    """A forwarder and the name servers that it may ask."""

    def __init__(self, upstreams: dict[str, FakeUpstream], forwarder: Forwarder) -> None:
        self.upstreams = upstreams
        self.forwarder = forwarder

    async def __call__(self, asked: Request, servers: Sequence[str] | None = None) -> dnslib.DNSRecord | None:
        got: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        chosen = tuple(self.upstreams) if servers is None else servers
        self.forwarder.ask(asked, Upstream(chosen, lambda make: make(), "t1"), got.set_result)
        answer = await got
        return None if answer is None else dnslib.DNSRecord.parse(answer)


@contextlib.asynccontextmanager
async def asking(*scripts: Script, patience: Patience = QUICK, most: int = 8) -> AsyncIterator[Asking]:
    upstreams = dict(zip((ONE, TWO), map(FakeUpstream, scripts), strict=False))
    port = free_port()
    forwarder = Forwarder(clock=FakeClock(), rng=random.Random(3), patience=patience, port=port, most_in_flight=most)
    async with asyncio.timeout(DEADLINE_S), serving(upstreams, port), asyncio.TaskGroup() as tasks:
        life = tasks.create_task(forwarder.run())
        await asyncio.sleep(0)
        yield Asking(upstreams, forwarder)
        life.cancel()


def good(packet: bytes, _tcp: bool) -> list[bytes]:
    return [reply(packet, "192.0.2.1")]


def silent(_packet: bytes, _tcp: bool) -> list[bytes]:
    return []


def failing(packet: bytes, _tcp: bool) -> list[bytes]:
    return [reply(packet, rcode="SERVFAIL")]


def addresses(answer: dnslib.DNSRecord | None) -> list[str]:
    assert answer is not None
    return [str(rr.rdata) for rr in answer.rr]


async def test_an_answer_comes_back_with_the_askers_id_and_each_question_has_its_own() -> None:
    async with asking(good) as ask:
        answers = [await ask(request()) for _ in range(8)]
        assert all(a is not None and a.header.id == 7 for a in answers)
        assert addresses(answers[0]) == ["192.0.2.1"]
        upstream = ask.upstreams[ONE]
        assert len(set(upstream.ids)) == 8
        assert len(set(upstream.ports)) > 1


@pytest.mark.parametrize("first", [silent, failing])
async def test_another_server_is_asked_if_one_is_silent_or_fails(first: Script) -> None:
    async with asking(first, good) as ask:
        assert addresses(await ask(request())) == ["192.0.2.1"]


async def test_a_server_that_was_silent_is_asked_last_for_a_while() -> None:
    async with asking(silent, good) as ask:
        for _ in range(3):
            await ask(request())
        assert len(ask.upstreams[ONE].asked) == 1


def lying(packet: bytes, _tcp: bool) -> list[bytes]:
    """Answer with another id, another question, a query, and rubbish; the truth comes last."""
    parsed = dnslib.DNSRecord.parse(packet)
    other_id = bytes((packet[0] ^ 0xFF, packet[1])) + reply(packet, "203.0.113.1")[2:]
    other_name = reply(question("evil.example", number=parsed.header.id), "203.0.113.2")
    other_type = reply(question("example.com", "AAAA", number=parsed.header.id))
    return [other_id, other_name, other_type, packet, packet[:2], b"", reply(packet, "192.0.2.1")]


async def test_answers_to_other_questions_are_passed_over() -> None:
    async with asking(lying) as ask:
        assert addresses(await ask(request())) == ["192.0.2.1"]


def large(packet: bytes, tcp: bool) -> list[bytes]:
    many = [f"192.0.2.{n}" for n in range(60)]
    return [reply(packet, *many) if tcp else reply(packet, many[0], truncated=True)]


async def test_a_truncated_answer_is_had_over_tcp_if_the_asker_can_take_it() -> None:
    async with asking(large) as ask:
        assert len(addresses(await ask(request(limit_bytes=4096)))) == 60
        cut = await ask(request(limit_bytes=512))
        assert cut is not None
        assert (len(cut.rr), cut.header.tc) == (1, 1)
        assert len(addresses(await ask(request(tcp=True)))) == 60
        assert ask.upstreams[ONE].asked[-1] == ("example.com.", True)


async def test_what_a_failing_server_said_is_better_than_nothing() -> None:
    async with asking(failing, silent) as ask:
        answer = await ask(request())
        assert answer is not None
        assert answer.header.rcode == dnslib.RCODE.SERVFAIL


async def test_silence_ends_at_the_deadline() -> None:
    async with asking(silent, silent, patience=Patience(try_s=5.0, total_s=0.1)) as ask:
        assert await ask(request()) is None


async def test_nobody_to_ask_and_too_many_questions_are_answered_at_once() -> None:
    async with asking(silent, most=2) as ask:
        assert await ask(request(), ()) is None
        waiting = [asyncio.ensure_future(ask(request())) for _ in range(2)]
        await asyncio.sleep(0)
        asked = len(ask.upstreams[ONE].asked)
        assert await ask(request()) is None
        assert len(ask.upstreams[ONE].asked) == asked
        assert await asyncio.gather(*waiting) == [None, None]
        ask.upstreams[ONE].script = good
        assert addresses(await ask(request())) == ["192.0.2.1"]


async def test_a_namespace_that_is_gone_is_no_answer() -> None:
    async with asking(good) as ask:
        got: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def gone(_make: object) -> object:
            raise SwarmError(Code.NOT_FOUND, "no network namespace is pinned there")

        upstream = Upstream((ONE,), gone, "t1")  # type: ignore[arg-type]  # it opens nothing
        ask.forwarder.ask(request(), upstream, got.set_result)
        assert await got is None


def test_the_order_of_servers_is_theirs_until_one_is_silent() -> None:
    order = Order()
    assert order.of("abc", 0.0) == ["a", "b", "c"]
    order.silent("a", 0.0)
    assert order.of("abc", 1.0) == ["b", "c", "a"]
    assert order.of("abc", TROUBLED_S) == ["a", "b", "c"]
    order.silent("b", 0.0)
    order.spoke("b")
    assert order.of("abc", 1.0) == ["a", "b", "c"]


def test_a_refusal_without_its_question_is_a_failure() -> None:
    asked = request()
    bare = asked.packet[:2] + wire.head(0, wire.RCode.FORMERR, 0, 0, 0, questions=0)
    assert judge(bare, asked.packet, asked.query) is Worth.FAILURE
    claiming = asked.packet[:2] + wire.head(0, wire.RCode.NOERROR, 0, 0, 0, questions=0)
    assert judge(claiming, asked.packet, asked.query) is Worth.FOREIGN
    mixed_case = dnslib.DNSRecord.parse(asked.packet)
    mixed_case.questions[0].qname = "eXample.COM"
    assert judge(reply(bytes(mixed_case.pack()), "192.0.2.1"), asked.packet, asked.query) is Worth.GOOD
