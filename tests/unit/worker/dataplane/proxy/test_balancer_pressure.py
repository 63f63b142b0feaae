"""Slow readers, cuts in the middle, faults of our own and no descriptors left: what an HTTP port makes of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from swarmpy.model.endpoints import AppProtocol
from tests.support.balancer import Handler, Rig, eventually, hang_up, reset, rig
from tests.support.http_peers import read_head, read_reply, serving
from worker.dataplane.proxy.end import End
from worker.dataplane.proxy.http_connection import HttpConnection

HTTP = AppProtocol.HTTP
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
LARGE_BYTES = 12 << 20
"""More than the kernel takes for a reader that does not read."""
DEADLINE_S = 20.0


async def slow_client(r: Rig) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect a client that takes next to nothing unless it is read from."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, r.key)
    return await asyncio.open_connection(sock=sock, limit=1024)


def large(head: bytes, *headers: bytes) -> Handler:
    """Return a backend that answers one request with `head` and many bytes, and then closes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"\r\n".join((head, *headers)) + b"\r\n\r\n")
        for _ in range(LARGE_BYTES >> 16):
            writer.write(bytes(1 << 16))
            await writer.drain()

    return handler


@pytest.mark.parametrize(
    ("head", "headers", "request_bytes"),
    [
        (b"HTTP/1.1 200 OK", (b"Content-Length: %d" % LARGE_BYTES,), GET),
        (b"HTTP/1.1 200 OK", (b"Content-Length: %d" % LARGE_BYTES, b"Connection: close"), GET),
        (b"HTTP/1.0 200 OK", (), GET),
        (SWITCHED.rstrip(), (), UPGRADE),
    ],
    ids=["keep-alive", "close", "until the end", "upgraded"],
)
async def test_a_slow_client_gets_all_and_the_backend_waits_for_it(
    head: bytes, headers: tuple[bytes, ...], request_bytes: bytes
) -> None:
    async with rig(HTTP) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", large(head, *headers))])
        reader, writer = await slow_client(r)
        writer.write(request_bytes)
        await eventually(lambda: r.row("t").bytes_out > 1 << 18)
        assert r.row("t").bytes_out < LARGE_BYTES
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(head[:12])
        total = 0
        while total < LARGE_BYTES and (data := await reader.read(1 << 16)):
            total += len(data)
        assert total == LARGE_BYTES
        await hang_up(writer)
        await eventually(lambda: r.row().active == 0)
        assert r.row().failed == 0


async def test_a_client_that_resets_within_an_answer_frees_the_backend() -> None:
    async with rig(HTTP) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", large(b"HTTP/1.1 200 OK", b"Content-Length: %d" % LARGE_BYTES))])
        reader, writer = await slow_client(r)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)
        await eventually(lambda: r.row().active == 0 and r.peers.connections() == 0)
        assert r.row().failed == 1


@pytest.mark.parametrize("request_bytes", [GET, UPGRADE], ids=["answer", "upgraded"])
async def test_a_backend_that_resets_in_the_middle_is_not_an_orderly_end(request_bytes: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await read_head(reader)
        writer.write(SWITCHED if b"Upgrade" in asked else b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
        writer.write(b"half")
        await writer.drain()
        await release.wait()
        reset(writer)

    release = asyncio.Event()
    async with rig(HTTP) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(request_bytes)
        await reader.readuntil(b"half")
        release.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await eventually(lambda: r.row().failed == 1)


async def test_a_tunnel_whose_backend_is_gone_is_cut_by_the_next_write() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(SWITCHED)
        await reader.readexactly(4)
        reset(writer)

    async with rig(HTTP) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", handler)])
        reader, writer = await r.open()
        writer.write(UPGRADE)
        await read_head(reader)
        with pytest.raises(ConnectionError):
            while True:
                writer.write(b"more" * 1000)
                await writer.drain()
        await eventually(lambda: r.row().active == 0)
        assert r.row().failed == 1


async def test_a_fault_in_one_connection_cuts_that_one_and_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    deliver = HttpConnection.deliver

    def faulty(self: HttpConnection, end: End, data: memoryview) -> bool:
        if b"/fault" in bytes(data):
            raise RuntimeError("a fault of our own")
        return deliver(self, end, data)

    monkeypatch.setattr(HttpConnection, "deliver", faulty)
    async with rig(HTTP) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", serving(b"t"))])
        good, bad = await r.open(), await r.open()
        for reader, writer in (good, bad):
            writer.write(GET)
            assert (await read_reply(reader)).body == b"t 0"
        bad[1].write(GET.replace(b"/", b"/fault", 1))
        with pytest.raises(ConnectionResetError):
            await bad[0].read()
        good[1].write(GET)
        assert (await read_reply(good[0])).body == b"t 0"
        assert (r.row().failed, r.row().active) == (1, 1)


async def test_without_a_descriptor_for_the_backend_the_answer_is_503_at_once() -> None:
    async with rig(HTTP) as r, asyncio.timeout(DEADLINE_S):
        r.ready([await r.peers.start("t", serving(b"t"))])
        reader, writer = await r.open()
        await eventually(lambda: r.row().active == 1)
        with no_descriptors():
            writer.write(GET)
            reply = await read_reply(reader)
        assert reply.status == "HTTP/1.1 503 Service Unavailable"
        assert (r.row().refused, r.row("t").failed) == (1, 0)


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Let the process open no more descriptors for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
