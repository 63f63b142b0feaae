"""The DNS server's ports, and over UDP which asker gets what."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import dnslib
import pytest

from tests.support.clock import FakeClock, settle
from tests.support.dataplane import FakeSockets
from tests.support.dns import a_zone, query
from worker.dataplane.dns.answers import UDP_BYTES, Responder
from worker.dataplane.dns.server import DnsServer
from worker.dataplane.dns.udp import BURST, UdpServer
from worker.dataplane.dns.view import NodeView
from worker.dataplane.sockets import Port

DEADLINE_S = 5.0


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
        sock.connect(("127.0.0.1", port))
        sock.send(query())
        async with asyncio.timeout(DEADLINE_S):
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
    near, far = (
        Responder(NodeView(a_zone(), local=local), max_bytes=UDP_BYTES, cache_bytes=1 << 20) for local in (True, False)
    )
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
