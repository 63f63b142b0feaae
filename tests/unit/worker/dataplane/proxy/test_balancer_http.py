"""HTTP/1.1 ports: what the balancer does with messages, on real loopback sockets."""

from __future__ import annotations

import asyncio

import pytest

from swarmpy.model.endpoints import AppProtocol, ServiceEndpoint, ServicePort
from tests.support.balancer import SERVICE, TARGET, eventually, rig
from tests.support.http_peers import answering, ok, read_head, read_reply, serving
from worker.dataplane.proxy.api import Limits

HTTP = AppProtocol.HTTP
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_client_keeps_its_backend_and_clients_take_turns() -> None:
    async with rig(HTTP) as r:
        r.ready([await r.peers.start(f"t{n}", serving(b"t%d" % n)) for n in range(2)])
        first, second = await r.open(), await r.open()
        bodies = []
        for reader, writer in (first, second, first, second, first):
            writer.write(GET)
            bodies.append((await read_reply(reader)).body)
        assert bodies == [b"t0 0", b"t1 0", b"t0 0", b"t1 0", b"t0 0"]
        assert (r.row().requests, r.row("t0").requests, r.row("t1").requests) == (5, 3, 2)
        assert r.row("t0").bytes_in == 3 * len(GET)


async def test_a_client_without_a_request_occupies_no_backend() -> None:
    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", serving(b"t"))])
        _reader, writer = await r.open()
        writer.write(b"\r\n")
        await eventually(lambda: r.row().active == 1)
        assert r.peers.connections() == 0
        assert r.row("t").connections == 0


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def answer(head: bytes, _body: bytes) -> bytes:
        return ok(head.split()[1])

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", answering(answer))])
        reader, writer = await r.open()
        writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(50)))
        assert [(await read_reply(reader)).body for _ in range(50)] == [b"/%d" % n for n in range(50)]
        assert r.row().requests == 50


async def test_a_body_waits_for_100_continue() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_head(reader):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await reader.readexactly(4)
            writer.write(ok(body))

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        for body in (b"one.", b"two."):
            writer.write(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
            assert (await read_reply(reader)).status == "HTTP/1.1 100 Continue"
            writer.write(body)
            assert (await read_reply(reader)).body == body
        assert r.row().requests == 2


async def test_answers_to_head_have_no_body() -> None:
    async def answer(head: bytes, _body: bytes) -> bytes:
        return ok(b"x" * 9) if head.startswith(b"GET") else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"

    async with rig(HTTP) as r:
        one, two = await r.peers.start("one", answering(answer)), await r.peers.start("two", answering(answer))
        r.ready([one])
        reader, writer = await r.open()
        for _ in range(3):
            writer.write(GET.replace(b"GET", b"HEAD"))
            assert (await read_reply(reader, bodiless=True)).status == "HTTP/1.1 200 OK"
        r.ready([two], withdrawn=["one"])
        assert r.balancer.busy() == frozenset()
        writer.write(GET)
        assert (await read_reply(reader)).body == b"x" * 9


async def test_an_upgraded_connection_is_carried_as_bytes() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello")
        while data := await reader.read(1 << 16):
            writer.write(data)

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
        assert (await read_reply(reader)).status.startswith("HTTP/1.1 101")
        assert await reader.readexactly(5) == b"hello"
        r.ready([], withdrawn=["t"])
        assert r.balancer.busy() == {"t"}
        data = b"\x00\xff" * 500_000
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(10):
            assert await reader.read(-1) == data
        await eventually(lambda: not r.balancer.busy() and r.row().active == 0)


async def test_http_2_with_prior_knowledge_is_carried_as_bytes() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(preface)) == preface
        writer.write(b"\x00\x00\x00\x04\x00")
        assert await reader.read() == b""

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(preface)
        assert await reader.readexactly(5) == b"\x00\x00\x00\x04\x00"
        writer.write_eof()
        assert await reader.read() == b""


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_huge_body_arrives_whole(chunked: bool) -> None:
    size, piece = 6 << 20, bytes(1 << 16)

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        total = 0
        if chunked:
            while line := int(await reader.readline(), 16):
                total += len(await reader.readexactly(line))
                await reader.readline()
            await reader.readline()
        else:
            total = len(await reader.readexactly(size))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // len(piece)):
            writer.write(piece)
            await writer.drain()
        await reader.read()

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\n" + length + b"\r\n\r\n")
        for _ in range(size // len(piece)):
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        reply = await read_reply(reader, deadline_s=20)
        assert len(reply.body) == size
        assert r.row().requests == 1


async def test_an_answer_without_length_ends_with_the_stream() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 300_000)

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(GET)
        async with asyncio.timeout(5):
            assert (await reader.read(-1)).endswith(b"x" * 300_000)
        writer.close()
        await eventually(lambda: r.row().active == 0)


@pytest.mark.parametrize("head", [b"GET / HTTP/1.0\r\n\r\n", b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"])
async def test_a_client_that_asks_for_the_end_gets_it(head: bytes) -> None:
    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", serving(b"t"))])  # keeps its side open
        reader, writer = await r.open()
        writer.write(head)
        async with asyncio.timeout(5):
            assert (await reader.read(-1)).endswith(b"t 0")
        writer.close()
        await eventually(lambda: r.row().active == 0 and r.peers.connections() == 0)


async def test_a_client_may_end_its_stream_behind_the_request() -> None:
    async with rig(HTTP) as r:
        reader, writer = await r.open()
        writer.write(GET)
        writer.write_eof()
        await eventually(lambda: r.row().held == 1)
        r.ready([await r.peers.start("t", serving(b"t"))])
        async with asyncio.timeout(5):
            assert (await reader.read(-1)).endswith(b"t 0")
        await eventually(lambda: r.row().active == 0)


async def test_a_client_that_leaves_within_a_request_frees_the_backend() -> None:
    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", serving(b"t"))])
        _reader, writer = await r.open()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf")
        await eventually(lambda: r.peers.connections() == 1)
        writer.close()
        await eventually(lambda: r.row().active == 0 and r.peers.connections() == 0)


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"how do you do\r\n\r\n"])
async def test_garbage_is_answered_with_400(garbage: bytes) -> None:
    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", serving(b"t"))])
        reader, writer = await r.open()
        writer.write(garbage)
        assert (await read_reply(reader)).status == "HTTP/1.1 400 Bad Request"
        assert await reader.read() == b""
        writer.write(b"more" * 1000)
        writer.close()
        await eventually(lambda: r.row().active == 0)
        assert r.row("t").connections == 0


async def test_garbage_behind_a_request_in_flight_cuts_the_connection() -> None:
    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(GET)
        await eventually(lambda: r.peers.connections() == 1)
        writer.write(b"\x00garbage\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read()


async def test_a_backend_that_does_not_speak_http_is_cut() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x15\x03\x01\x00\x02\x02\x16")
        await reader.read()

    async with rig(HTTP) as r:
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(GET)
        with pytest.raises(ConnectionResetError):
            async with asyncio.timeout(5):
                await reader.read()
        assert r.row().failed == 1


async def test_without_a_backend_the_answer_is_503() -> None:
    async with rig(HTTP) as r:
        reader, writer = await r.open()
        writer.write(GET)
        await eventually(lambda: r.row().held == 1)
        await r.clock.advance(10.5)
        reply = await read_reply(reader)
        assert (reply.status, reply.header("retry-after")) == ("HTTP/1.1 503 Service Unavailable", "1")
        assert await reader.read() == b""
        assert (r.row().refused, r.row().held) == (1, 1)


async def test_a_client_that_was_told_to_go_and_stays_is_cut() -> None:
    async with rig(HTTP, Limits(max_held=0, drain_s=0.0)) as r:
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).status == "HTTP/1.1 503 Service Unavailable"
        assert r.row().active == 1
        await r.clock.advance(2.5)
        await eventually(lambda: r.row().active == 0)


async def test_stopping_announces_the_end_and_closes_idle_clients() -> None:
    release = asyncio.Event()

    async def answer(head: bytes, body: bytes) -> bytes:
        if b"/slow" in head:
            await release.wait()
        return ok(b"last")

    async with rig(HTTP, Limits(drain_s=30.0)) as r:
        r.ready([await r.peers.start("t", answering(answer))])
        idle_reader, idle_writer = await r.open()
        idle_writer.write(GET)
        assert (await read_reply(idle_reader)).header("connection") is None
        reader, writer = await r.open()
        writer.write(GET.replace(b"/", b"/slow", 1))
        await eventually(lambda: r.peers.connections() == 2 and r.row().active == 2)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(r.stop_balancer())
            assert await idle_reader.read() == b""
            idle_writer.close()
            release.set()
            reply = await read_reply(reader)
            assert (reply.body, reply.header("connection")) == (b"last", "close")
            assert await reader.read() == b""
            writer.close()


async def test_stopping_waits_for_clients_that_have_just_come() -> None:
    async with rig(HTTP, Limits(drain_s=30.0, linger_s=2.0)) as r:
        r.ready([await r.peers.start("t", serving(b"t"))])
        reader, writer = await r.open()
        silent_reader, _ = await r.open()
        await eventually(lambda: r.row().active == 2)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            stopping = group.create_task(r.stop_balancer())
            await asyncio.sleep(0)
            writer.write(GET)
            reply = await read_reply(reader)
            assert (reply.body, reply.header("connection")) == (b"t 0", "close")
            writer.close()
            assert not stopping.done()
            await r.clock.advance(2.5)
            assert await silent_reader.read() == b""


async def test_a_port_may_change_its_protocol() -> None:
    async with rig(AppProtocol.TCP) as r:
        r.ready([await r.peers.start("t", serving(b"t"))])
        changed = ServiceEndpoint(SERVICE, "web", ports=(ServicePort(TARGET, app_protocol=HTTP),))
        r.balancer.apply({SERVICE: changed}, {}, ())
        reader, writer = await r.open()
        writer.write(GET)
        assert (await read_reply(reader)).body == b"t 0"
        assert r.row().requests == 1
