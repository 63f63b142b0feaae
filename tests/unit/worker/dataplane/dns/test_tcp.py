"""DNS over TCP on real sockets: pipelining, limits, and clients that do not read or are cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import dnslib

from tests.support.balancer import eventually
from tests.support.clock import FakeClock, settle
from tests.support.dns import a_zone, framed, query
from worker.dataplane.dns import tcp
from worker.dataplane.dns.answers import TCP_BYTES, Responder
from worker.dataplane.dns.tcp import Connection, TcpServer
from worker.dataplane.dns.view import NodeView
from worker.dataplane.sockets import Port, bind_socket

DEADLINE_S = 5.0


class Fixture:
    """A TcpServer on a free port, and clients of it."""

    def __init__(self, clock: FakeClock, most: int) -> None:
        zone = a_zone()
        near, far = (
            Responder(NodeView(zone, local=local), max_bytes=TCP_BYTES, cache_bytes=1 << 20) for local in (True, False)
        )
        self.server = TcpServer(clock=clock, near=near, far=far, max_connections=most)
        self.sock = bind_socket(Port("tcp", "127.0.0.1", 0))
        self.port: int = self.sock.getsockname()[1]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def tcp_server(clock: FakeClock, *, most: int = 4) -> AsyncIterator[Fixture]:
    fixture = Fixture(clock, most)
    await fixture.server.start(fixture.sock)
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        sweeping = tasks.create_task(fixture.server.sweep())
        try:
            yield fixture
        finally:
            sweeping.cancel()
            await fixture.server.close()


async def answers(reader: asyncio.StreamReader, count: int) -> list[dnslib.DNSRecord]:
    got = []
    for _ in range(count):
        size = int.from_bytes(await reader.readexactly(2), "big")
        got.append(dnslib.DNSRecord.parse(await reader.readexactly(size)))
    return got


async def test_pipelined_queries_cut_anywhere_are_answered_in_order() -> None:
    async with tcp_server(FakeClock()) as fixture:
        reader, writer = await fixture.connect()
        stream = b"".join(framed(query(number)) for number in range(1, 301))
        writer.write(stream[:100])
        await writer.drain()
        (first,) = await answers(reader, 1)
        writer.write(stream[100:-3])
        got = [first, *await answers(reader, 298)]
        writer.write(stream[-3:])
        got += await answers(reader, 1)
        assert [answer.header.id for answer in got] == list(range(1, 301))
        assert {str(answer.rr[0].rdata) for answer in got} == {"127.93.0.5"}
        writer.close()
        await writer.wait_closed()


async def test_nonsense_ends_the_connection() -> None:
    async with tcp_server(FakeClock()) as fixture:
        reader, writer = await fixture.connect()
        writer.write(framed(query()) + framed(b"\x01"))
        assert len(await reader.read()) > 30
        writer.close()
        await writer.wait_closed()


async def test_a_silent_connection_is_closed_and_a_talking_one_is_not() -> None:
    clock = FakeClock()
    async with tcp_server(clock) as fixture:
        silent, silent_writer = await fixture.connect()
        talking, writer = await fixture.connect()
        for _ in range(3):
            writer.write(framed(query()))
            await answers(talking, 1)
            await clock.advance(tcp.IDLE_S / 2)
        assert await silent.read() == b""
        writer.write(framed(query()))
        await answers(talking, 1)
        for each in (writer, silent_writer):
            each.close()
            await each.wait_closed()


async def test_over_the_limit_the_longest_silent_connection_makes_room() -> None:
    async with tcp_server(FakeClock(), most=2) as fixture:
        clients = []
        for _ in range(3):
            reader, writer = await fixture.connect()
            clients.append((reader, writer))
            writer.write(framed(query()))
            await answers(reader, 1)
        assert await clients[0][0].read() == b""
        assert fixture.server.connections == 2
        for _, writer in clients:
            writer.close()
            await writer.wait_closed()


async def reading_nothing(fixture: Fixture, queries: int) -> socket.socket:
    """Connect a client that asks and does not read, and for which the kernel keeps next to nothing."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", fixture.port))
    await loop.sock_sendall(sock, b"".join(framed(query(number)) for number in range(queries)))
    return sock


async def all_bytes(sock: socket.socket) -> int:
    """Read to the end, orderly or not; return how many bytes came."""
    total = 0
    with sock, contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            total += len(data)
    return total


async def test_one_that_does_not_read_is_cut_at_once_to_make_room() -> None:
    async with tcp_server(FakeClock(), most=1) as fixture:
        fixture.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asked = 300  # answers for more than the kernel keeps, and less than makes the server stop reading
        quiet = await reading_nothing(fixture, asked)
        await settle()
        reader, writer = await fixture.connect()
        writer.write(framed(query()))
        (answer,) = await answers(reader, 1)
        assert fixture.server.connections == 1
        assert await all_bytes(quiet) < asked * (2 + len(answer.pack())), "it was not waited for"
        writer.close()
        await writer.wait_closed()


async def test_one_that_does_not_read_does_not_outlive_its_silence_or_the_server() -> None:
    clock = FakeClock()
    async with tcp_server(clock) as fixture:
        fixture.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        silent = await reading_nothing(fixture, 300)
        await settle()
        await clock.advance(tcp.IDLE_S + 2 * tcp.SWEEP_S)
        assert fixture.server.connections == 0
        paused = await reading_nothing(fixture, 5000)
        await settle()
        assert fixture.server.connections == 1
        await fixture.server.close()
        await settle()
        assert fixture.server.connections == 0
        silent.close()
        paused.close()


async def test_a_reset_behind_many_queries_leaves_nothing_behind() -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
    async with tcp_server(FakeClock()) as fixture:
        sock = await reading_nothing(fixture, 1000)
        await eventually(lambda: fixture.server.connections == 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        await eventually(lambda: fixture.server.connections == 0)
    assert faults == []


class FakeTransport(asyncio.Transport):
    """Takes what is written, and remembers whether the other side may send."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written: list[bytes] = []
        self._reading = True
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def test_a_client_that_does_not_read_is_not_read_from() -> None:
    responder = Responder(NodeView(a_zone(), local=True), max_bytes=TCP_BYTES, cache_bytes=1 << 20)
    seen: list[Connection] = []
    connection = Connection(lambda _: responder, seen.append, lambda _, __: None)
    transport = FakeTransport()
    connection.connection_made(transport)
    connection.pause_writing()
    connection.data_received(framed(query()) * 200)
    assert not transport.is_reading()
    assert not transport.written
    connection.resume_writing()
    assert 0 < len(transport.written) < 200, "one client may not have the loop for itself"
    assert not transport.is_reading(), "the rest must be answered before more is read"
    await settle()
    assert len(transport.written) == 200
    assert transport.is_reading()
    connection.pause_writing()
    connection.close()
    assert transport.aborted
    connection.connection_lost(None)
