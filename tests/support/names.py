"""Services on networks and those who ask for them, and a name server of the outside that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

import dnslib

from swarmpy.model.endpoints import EndpointsUpdate, Neighbour, ServiceEndpoint, ServiceNetwork, ServicePort
from swarmpy.model.network import NetworkAddress, NetworkRow
from worker.dataplane.dns.answers import UDP_BYTES, Responder
from worker.dataplane.dns.scope import view_of
from worker.dataplane.dns.wire import Query
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable


def network(number: int, name: str = "", *, local: bool = False) -> NetworkRow:
    """Return network `net<number>` with the subnet 10.<number>.0.0/16."""
    return NetworkRow(
        id=f"net{number}", name=name or f"net-{number}", subnet=f"10.{number}.0.0/16", vni=4096 + number, local=local
    )


def shared(
    name: str,
    networks: Mapping[str, str],
    *ports: ServicePort,
    aliases: Mapping[str, Iterable[str]] | None = None,
    stack: str = "",
    vip: int = 0,
) -> ServiceEndpoint:
    """Return a service on networks, by their ids with the VIP on each (empty: round-robin names)."""
    shares = tuple(
        ServiceNetwork(network_id=n, vip=address, aliases=tuple((aliases or {}).get(n, ())))
        for n, address in networks.items()
    )
    return ServiceEndpoint(
        service_id=f"id-{name}",
        name=name,
        vip_index=vip,
        stack=stack,
        ports=ports,
        dnsrr=not any(networks.values()),
        networks=shares,
    )


def neighbour(task_id: str, name: str, *addresses: str, slot: int = 1, node: str = "n-127.0.0.2") -> Neighbour:
    """Return a task of service `name` with addresses on the networks that `network` makes for them."""
    return Neighbour(
        task_id=task_id,
        service_id=f"id-{name}",
        slot=slot,
        node_id=node,
        node_addr=node.removeprefix("n-"),
        addresses=tuple(NetworkAddress(network_id=f"net{a.split('.')[1]}", address=a) for a in addresses),
    )


class World:
    """A table and its zone, which takes over each update."""

    def __init__(self, *updates: EndpointsUpdate) -> None:
        self.table = EndpointTable()
        self.zone = Zone(self.table, server_address="127.0.0.2")
        self.zone.vip_prefix = "127.93"
        for update in updates:
            self.apply(update)

    def apply(self, update: EndpointsUpdate) -> frozenset[str]:
        change = self.table.apply(update)
        assert change is not None
        return self.zone.apply(change)

    def responder(self, *networks: str, cache_bytes: int = 1 << 20) -> Responder:
        """Return what answers a task on these networks."""
        view = view_of(self.zone, frozenset(networks))
        return Responder(view, max_bytes=UDP_BYTES, cache_bytes=cache_bytes, recursive=True)


def question(name: str, qtype: str = "A", number: int = 7, *, edns: int = 0) -> bytes:
    """Return a query as a resolver sends it."""
    record = dnslib.DNSRecord(
        dnslib.DNSHeader(id=number, rd=1), q=dnslib.DNSQuestion(name, getattr(dnslib.QTYPE, qtype))
    )
    if edns:
        record.add_ar(dnslib.EDNS0(udp_len=edns))
    return bytes(record.pack())


def told(answer: bytes | Query | None) -> list[str]:
    """Return what an answer says: its records' data, or its code; `outside` if it has to be looked up there."""
    if isinstance(answer, Query):
        return ["outside"]
    assert answer is not None
    parsed = dnslib.DNSRecord.parse(answer)
    if parsed.header.rcode:
        return [dnslib.RCODE[parsed.header.rcode]]
    return sorted(str(rr.rdata) for rr in parsed.rr) or [f"NODATA {parsed.auth[0].rtype == dnslib.QTYPE.SOA}"]


Script = Callable[[bytes, bool], list[bytes]]


class FakeUpstream:
    """A name server on loopback: `script` gives the answers to a question, and whether it came over TCP."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[str, bool]] = []
        self.ids: list[int] = []
        self.ports: list[int] = []

    def answers(self, packet: bytes, port: int, *, tcp: bool) -> list[bytes]:
        parsed = dnslib.DNSRecord.parse(packet)
        self.asked.append((str(parsed.q.qname), tcp))
        self.ids.append(parsed.header.id)
        self.ports.append(port)
        return self.script(packet, tcp)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # UDP's form
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for answer in self._upstream.answers(data, addr[1], tcp=False):
            self._transport.sendto(answer, addr)


@contextlib.asynccontextmanager
async def serving(upstreams: Mapping[str, FakeUpstream], port: int) -> AsyncIterator[None]:
    """Have name servers at these addresses."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for address, upstream in upstreams.items():

            async def connected(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: FakeUpstream = upstream
            ) -> None:
                with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    for answer in upstream.answers(await reader.readexactly(size), 0, tcp=True):
                        writer.write(len(answer).to_bytes(2, "big") + answer)
                    await writer.drain()
                writer.close()

            transport, _ = await loop.create_datagram_endpoint(
                lambda upstream=upstream: _Datagrams(upstream),  # type: ignore[misc]  # bound now, not when it is called
                local_addr=(address, port),
            )
            stack.callback(transport.close)
            server = await asyncio.start_server(connected, address, port)
            stack.callback(server.close)
        yield


def reply(packet: bytes, *addresses: str, rcode: str = "NOERROR", truncated: bool = False) -> bytes:
    """Return an answer to a question."""
    answer = dnslib.DNSRecord.parse(packet).reply()
    answer.header.rcode = getattr(dnslib.RCODE, rcode)
    answer.header.tc = int(truncated)
    answer.ar = []
    for address in addresses:
        answer.add_answer(dnslib.RR(answer.q.qname, rdata=dnslib.A(address), ttl=60))
    return bytes(answer.pack())


def free_port(address: str = "127.0.0.1") -> int:
    """Return a port that was free a moment ago over TCP and UDP."""
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind((address, 0))
        udp.bind(tcp.getsockname())
        port: int = tcp.getsockname()[1]
        return port
