"""Before a stop, HTTP clients are told to go by an answer, not by a cut; and who is idle enough to make room."""

from __future__ import annotations

import asyncio

from swarmpy.model.endpoints import AppProtocol
from tests.support.balancer import eventually, rig
from tests.support.clock import settle
from tests.support.http_peers import answering, ok, read_head, read_reply, serving
from worker.dataplane.proxy.api import Limits

HTTP = AppProtocol.HTTP
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
PATIENT = Limits(farewell_s=30.0, drain_s=0.0)
DEADLINE_S = 5.0


async def test_an_idle_client_is_told_with_its_next_answer() -> None:
    async with rig(HTTP, PATIENT) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", serving(b"t"))])
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).header("connection") is None
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(r.balancer.drain())
            await settle()
            assert not draining.done()
            writer.write(POST)
            reply = await read_reply(reader)
            assert (reply.body, reply.header("connection")) == (b"t 2", "close")
            assert await reader.read() == b""
            writer.close()


async def test_clients_are_accepted_and_told_while_others_are_waited_for() -> None:
    async with rig(HTTP, PATIENT) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", serving(b"t"))])
        _reader, idle = await r.open()
        await eventually(lambda: r.row().active == 1)
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(r.balancer.drain())
            await settle()
            reader, writer = await r.open()
            writer.write(GET)
            reply = await read_reply(reader)
            assert (reply.body, reply.header("connection")) == (b"t 0", "close")
            writer.close()
            assert not draining.done()
            idle.close()


async def test_an_answer_begun_before_is_followed_by_one_more_that_tells() -> None:
    release = asyncio.Event()

    async def in_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha")
        await release.wait()
        writer.write(b"lf")
        await read_head(reader)
        writer.write(ok(b"last"))

    async with rig(HTTP, PATIENT) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", in_two)])
        reader, writer = await r.open()
        writer.write(GET)
        await reader.readuntil(b"ha")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(r.balancer.drain())
            await settle()
            release.set()
            assert await reader.readexactly(2) == b"lf"
            writer.write(GET)
            reply = await read_reply(reader)
            assert (reply.body, reply.header("connection")) == (b"last", "close")
            writer.close()


async def test_of_pipelined_answers_only_the_last_tells() -> None:
    release = asyncio.Semaphore(0)

    async def answer(_head: bytes, _body: bytes) -> bytes:
        await release.acquire()
        return ok(b"one")

    async with rig(HTTP, PATIENT) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", answering(answer))])
        reader, writer = await r.open()
        writer.write(GET + GET)
        await eventually(lambda: r.peers.connections() == 1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(r.balancer.drain())
            await settle()
            seen = []
            for _ in range(2):
                release.release()
                seen.append((await read_reply(reader)).header("connection"))
            assert seen == [None, "close"]
            writer.close()


async def test_a_client_that_stays_silent_is_closed_in_order_in_the_end() -> None:
    async with rig(HTTP, Limits(farewell_s=0.0, drain_s=30.0)) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", serving(b"t"))])
        reader, writer = await r.open()
        writer.write(GET)
        await read_reply(reader)
        await r.balancer.drain()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(r.stop_balancer())
            assert await reader.read() == b""
            writer.close()


async def test_what_cannot_be_told_is_not_waited_for() -> None:
    async def upgrading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        await reader.read()

    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
    for protocol in (HTTP, AppProtocol.TCP):
        async with rig(protocol, PATIENT) as r, asyncio.timeout(DEADLINE_S):
            r.ready([await r.peers.start("t", upgrading)])
            reader, writer = await r.open()
            writer.write(upgrade)
            await read_head(reader)
            await r.balancer.drain()
            assert r.row().active == 1


async def test_a_client_that_waits_for_its_answer_is_not_idle() -> None:
    release = asyncio.Event()

    async def answer(head: bytes, _body: bytes) -> bytes:
        if b"/slow" in head:
            await release.wait()
        return ok(b"quick")

    async with rig(HTTP, Limits(max_connections=4, reclaim_idle_s=30.0, drain_s=0.0)) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", answering(answer))])
        _waiting, waiting_writer = await r.open()
        waiting_writer.write(GET.replace(b"/", b"/slow", 1))
        await eventually(lambda: r.peers.connections() == 1)
        idle, _ = await r.open()
        await eventually(lambda: r.row().active == 2)
        await r.clock.advance(31.0)
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).body == b"quick"
        assert await idle.read() == b""
        assert (r.row().reclaimed, r.row().active, r.peers.connections()) == (1, 2, 2)
        release.set()
