"""HTTP/1.1 clients change backends between requests and lose none."""

from __future__ import annotations

import asyncio
import random

import pytest

from swarmpy.model.endpoints import AppProtocol
from tests.support.balancer import Handler, Rig, eventually, free_port, reset, rig
from tests.support.balancer import backend as at_port
from tests.support.clock import settle
from tests.support.http_peers import answering, ok, read_head, read_reply, serving

HTTP = AppProtocol.HTTP
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


async def test_an_idle_client_is_detached_at_once_and_served_by_the_next_backend() -> None:
    async with rig(HTTP) as r:
        old, new = await r.peers.start("old", serving(b"old")), await r.peers.start("new", serving(b"new"))
        r.ready([old])
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).body == b"old 0"
        r.ready([new], withdrawn=["old"])
        assert r.balancer.busy() == frozenset()
        await eventually(lambda: r.peers.connections() == 0)
        assert r.row().active == 1
        writer.write(GET)
        assert (await read_reply(reader)).body == b"new 0"


async def test_a_request_in_flight_is_answered_by_the_withdrawn_backend() -> None:
    release = asyncio.Event()

    async def answer(_head: bytes, _body: bytes) -> bytes:
        await release.wait()
        return ok(b"old")

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("old", answering(answer))])
        reader, writer = await r.open()
        writer.write(GET)
        await eventually(lambda: r.peers.connections() == 1)
        r.ready([await r.peers.start("new", serving(b"new"))], withdrawn=["old"])
        assert r.balancer.busy() == {"old"}
        release.set()
        assert (await read_reply(reader)).body == b"old"
        await eventually(lambda: not r.balancer.busy())
        await eventually(lambda: r.busy_calls == [frozenset({"old"}), frozenset()])
        writer.write(GET)
        assert (await read_reply(reader)).body == b"new 0"


async def test_a_backend_that_closes_an_idle_connection_is_not_noticed() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(ok(b"once"))

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", once)])
        reader, writer = await r.open()
        for count in range(1, 4):
            writer.write(GET)
            assert (await read_reply(reader)).body == b"once"
            await eventually(lambda n: (r.row("t").connections, r.row("t").active) == (n, 0), count)
        assert r.row().active == 1


async def test_a_farewell_to_an_idle_connection_is_not_noticed() -> None:
    async def impatient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(ok(b"one"))
        await writer.drain()
        writer.write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", impatient)])
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).body == b"one"


def closes_on_second(how: str) -> Handler:
    """Return a backend that answers one request on a connection and drops the connection at the next one."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(ok(b"first"))
        await reader.readexactly(1)
        if how == "reset":
            reset(writer)
        if how == "part":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    return handler


async def second_request(rig: Rig, how: str, request: bytes) -> asyncio.StreamReader:
    """Make one good exchange, then send `request`, at which the backend drops the connection."""
    rig.ready([await rig.peers.start("t", closes_on_second(how))])
    reader, writer = await rig.open()
    writer.write(GET)
    assert (await read_reply(reader)).body == b"first"
    writer.write(request)
    return reader


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_get_on_a_dead_connection_is_sent_again(how: str) -> None:
    async with rig(HTTP) as r:
        reader = await second_request(r, how, GET)
        assert (await read_reply(reader)).body == b"first"
        assert r.row("t").connections == 2


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_post_on_a_dead_connection_is_not_sent_again(how: str) -> None:
    async with rig(HTTP) as r:
        reader = await second_request(r, how, POST)
        assert (await read_reply(reader)).status == "HTTP/1.1 502 Bad Gateway"
        assert await reader.read() == b""
        assert r.row("t").connections == 1


async def test_half_an_answer_is_not_made_whole() -> None:
    async with rig(HTTP) as r:
        reader = await second_request(r, "part", GET)
        async with asyncio.timeout(5):
            data = await reader.read(-1)
        assert data.endswith(b"half")
        assert r.row("t").connections == 1


async def test_a_first_request_without_an_answer_is_502() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_head(reader)

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", silent)])
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).status == "HTTP/1.1 502 Bad Gateway"
        assert (r.row("t").connections, r.row().failed) == (1, 1)


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", refuses)])
        reader, writer = await r.open()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n" + bytes(3_000_000))
        assert (await read_reply(reader)).status == "HTTP/1.1 413 Too Large"
        async with asyncio.timeout(5):
            assert await reader.read() == b""


async def test_a_refused_connect_is_tried_on_the_next_backend() -> None:
    async with rig(HTTP) as r:
        r.ready([at_port("dead", free_port()), await r.peers.start("t", serving(b"t"))])
        reader, writer = await r.open()
        writer.write(POST)
        assert (await read_reply(reader)).body == b"t 2"
        assert r.row("dead").failed == 1


async def test_rolling_through_backends_under_load_loses_no_request() -> None:
    """Eight keep-alive clients, half of them posting, while each of six backends is replaced in turn."""
    rng = random.Random(7)
    stop = asyncio.Event()
    served: set[bytes] = set()
    answers = 0

    async def client(r: Rig, request: bytes) -> None:
        nonlocal answers
        reader, writer = await r.open()
        while not stop.is_set():
            writer.write(request)
            reply = await read_reply(reader)
            assert reply.status == "HTTP/1.1 200 OK"
            served.add(reply.body.split()[0])
            answers += 1
            await settle(rng.choice((0, 0, 30)))

    def slow(name: bytes) -> Handler:
        async def answer(_head: bytes, body: bytes) -> bytes:
            await settle(rng.choice((0, 10, 50)))
            return ok(name + b" %d" % len(body))

        return answering(answer)

    async with rig(HTTP) as r:
        current = [await r.peers.start(f"a{n}", slow(b"a%d" % n)) for n in range(3)]
        r.ready(current)
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for n in range(8):
                group.create_task(client(r, POST if n % 2 else GET))
            for n in range(3):
                await eventually(lambda goal: answers > goal, answers + 50)
                gone = current.pop(0)
                current.append(await r.peers.start(f"b{n}", slow(b"b%d" % n)))
                r.ready(current, withdrawn=[gone.task_id])
                await eventually(lambda task_id: task_id not in r.balancer.busy(), gone.task_id)
                await r.peers.stop(gone.task_id)
            await eventually(lambda goal: answers > goal, answers + 200)
            stop.set()
        assert served == {b"a0", b"a1", b"a2", b"b0", b"b1", b"b2"}
        assert (r.row().failed, r.row().refused) == (0, 0)
