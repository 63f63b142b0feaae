"""The DNS server on real sockets: transports, limits, and which asker gets what."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import dnslib
import pytest

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.clock import FakeClock, settle
from tests.support.dataplane import FakeSockets, service, task
from worker.dataplane.dns import tcp
from worker.dataplane.dns.answers import TCP_BYTES, UDP_BYTES, Responder
from worker.dataplane.dns.server import DnsServer
from worker.dataplane.dns.tcp import Connection, TcpServer
from worker.dataplane.dns.udp import BURST, UdpServer
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable
from worker.dataplane.sockets import Port, bind_socket

DEADLINE_S = 5.0


def a_zone() -> Zone:
    table = EndpointTable()
    zone = Zone(table, server_address="127.0.0.1")
    zone.vip_prefix = "127.93"
    change = table.apply(
        EndpointsUpdate(
            revision=1, services=(service("web", vip=5),), backends=(task("t1", "web", address="10.9.8.7"),)
        )
    )
    assert change is not None
    zone.apply(change)
    return zone


def query(number: int = 7) -> bytes:
    return bytes(dnslib.DNSRecord(dnslib.DNSHeader(id=number), q=dnslib.DNSQuestion("web.swarm")).pack())


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


class Events:
    """What a DnsServer reports."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def bound(self) -> None:
        self.said.append("bound")

    def problem(self, port: Port, message: str) -> None:
        self.said.append(f"problem {port.port}: {message}")

    def cleared(self, port: Port) -> None:
        self.said.append(f"cleared {port.port}")


@pytest.fixture
def sockets() -> Iterator[FakeSockets]:
    provider = FakeSockets()
    yield provider
    provider.close()


def server(sockets: FakeSockets, clock: FakeClock, events: Events) -> DnsServer:
    return DnsServer(
        a_zone(),
        clock=clock,
        sockets=sockets,
        address="127.0.0.1",
        ports=(53, 5354),
        on_bound=events.bound,
        on_problem=events.problem,
        on_cleared=events.cleared,
    )


@contextlib.asynccontextmanager
async def running(dns: DnsServer) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        life = tasks.create_task(dns.run())
        try:
            yield
        finally:
            life.cancel()
            await dns.close()


async def ask_udp(port: int) -> dnslib.DNSRecord:
    loop = asyncio.get_running_loop()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        async with asyncio.timeout(DEADLINE_S):
            await loop.sock_sendto(sock, query(), ("127.0.0.1", port))
            return dnslib.DNSRecord.parse(await loop.sock_recv(sock, 4096))


async def test_the_second_port_is_taken_where_the_first_cannot_be_had_over_both(sockets: FakeSockets) -> None:
    events = Events()
    sockets.failing.add(Port("udp", "127.0.0.1", 53))
    dns = server(sockets, FakeClock(), events)
    async with running(dns):
        await settle()
        assert events.said == ["bound"]
        assert dns.port != 0


async def test_a_port_that_cannot_be_had_is_tried_again(sockets: FakeSockets) -> None:
    events = Events()
    clock = FakeClock()
    sockets.failing |= {Port("udp", "127.0.0.1", 53), Port("udp", "127.0.0.1", 5354)}
    dns = server(sockets, clock, events)
    async with running(dns):
        await clock.advance(10.0)
        assert [said.split(":")[0] for said in events.said] == ["problem 53"]
        sockets.failing.clear()
        await clock.advance(15.0)
        assert events.said[1:] == ["cleared 53", "bound"]


class Fixture:
    """A TcpServer on a free port, and clients of it."""

    def __init__(self, clock: FakeClock, most: int) -> None:
        zone = a_zone()
        near, far = (Responder(zone, local=local, max_bytes=TCP_BYTES, cache_bytes=1 << 20) for local in (True, False))
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
    responder = Responder(a_zone(), local=True, max_bytes=TCP_BYTES, cache_bytes=1 << 20)
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


class FakeDatagrams(socket.socket):
    """A socket whose datagrams a test puts in, and whose answers it reads; nothing goes over the network."""

    def __init__(self, waiting: list[tuple[bytes, tuple[str, int]]]) -> None:
        super().__init__(type=socket.SOCK_DGRAM)
        self.waiting = waiting
        self.sent: list[tuple[bytes, tuple[str, int]]] = []

    def getsockname(self) -> tuple[str, int]:
        return ("10.0.0.5", 53)

    def recvfrom(self, *_: object) -> tuple[bytes, tuple[str, int]]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0)

    def sendto(self, data: bytes, where: tuple[str, int]) -> int:  # type: ignore[override]  # the form that is used
        if where[1] == 9:
            raise PermissionError
        self.sent.append((data, where))
        return len(data)


class FakeLoop:
    """Remembers what is called when a socket is readable."""

    def add_reader(self, fd: socket.socket, callback: Callable[[], None]) -> None:
        self.readable = callback

    def remove_reader(self, fd: socket.socket) -> bool:
        return True


def udp_server(sock: FakeDatagrams, loop: FakeLoop) -> UdpServer:
    near, far = (Responder(a_zone(), local=local, max_bytes=UDP_BYTES, cache_bytes=1 << 20) for local in (True, False))
    return UdpServer(sock, loop=loop, near=near, far=far)


def test_only_askers_on_this_machine_get_the_vip() -> None:
    loop = FakeLoop()
    hosts = ("127.0.0.1", "127.93.0.5", "10.0.0.5", "10.0.0.6", "172.17.0.2")
    sock = FakeDatagrams([(query(), (host, 1000)) for host in hosts])
    server = udp_server(sock, loop)
    loop.readable()
    got = {where[0]: str(dnslib.DNSRecord.parse(data).rr[0].rdata) for data, where in sock.sent}
    vip, node = "127.93.0.5", "10.9.8.7"
    assert got == dict(zip(hosts, (vip, vip, vip, node, node), strict=True))
    server.close()


def test_a_flood_is_answered_a_burst_at_a_time_and_a_lost_answer_is_counted() -> None:
    loop = FakeLoop()
    sock = FakeDatagrams([(query(), ("127.0.0.1", 9 if n == 0 else 1000)) for n in range(BURST + 5)])
    server = udp_server(sock, loop)
    loop.readable()
    assert len(sock.waiting) == 5
    assert (len(sock.sent), server.lost) == (BURST - 1, 1)
    loop.readable()
    assert not sock.waiting
    server.close()


async def test_udp_answers_on_the_socket_of_the_provider(sockets: FakeSockets) -> None:
    dns = server(sockets, FakeClock(), Events())
    async with running(dns):
        await settle()
        answer = await ask_udp(dns.port)
        assert str(answer.rr[0].rdata) == "127.93.0.5"
        assert dns.counters()["noerror"] == 1
