"""Connection tracking: flows that are to be translated anew are forgotten.

A flow is translated as it was when it began. For TCP that is right; a sender of datagrams may never stop, and would go
on to send to a task that is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.network.nft.attributes import NLM_F_DUMP, Attributes, attribute, nested, number, parse, u8
from worker.network.nft.batch import IPV4
from worker.network.nft.expressions import native
from worker.network.nft.layout import ANY_ADDRESS, Publication, Transport
from worker.network.nft.phrases import PROTOCOLS
from worker.network.nft.sock import Netfilter
from worker.network.nft.vip import Withdrawn

GET: Final = 1 << 8 | 1
DELETE: Final = 1 << 8 | 2
GET_STATS: Final = 1 << 8 | 5
ORIGINAL: Final = 1
REPLY: Final = 2
ID: Final = 12
ZONE: Final = 18
FILTER: Final = 25
STATS_ENTRIES: Final = 1
FILTER_PROTOCOL: Final = 1 << 3
PROTOCOL_STATE: Final = 4
_SYN_SENT: Final = 1
_LAST_ACK: Final = 6


@dataclass(frozen=True)
class Flow:
    """A tracked flow: where it was sent, and who answers it. The rest is what the kernel knows it by."""

    address: IPv4Address
    port: int
    backend: IPv4Address
    backend_port: int
    identity: bytes
    state: int = 0

    @property
    def is_open(self) -> bool:
        """Whether a TCP connection is there, or begins or ends just now."""
        return _SYN_SENT <= self.state <= _LAST_ACK


class Conntrack:
    """The tracked flows of the namespace that the socket was opened in."""

    def __init__(self, sock: Netfilter) -> None:
        self._sock = sock

    def forget_backends(self, withdrawn: Withdrawn, transport: Transport = "udp") -> int:
        """Forget flows to VIPs by way of withdrawn backends; return how many there were.

        Of TCP this cuts connections: the next packet is answered by another backend's reset, not by a silence.
        """
        if not withdrawn:
            return 0
        return self._forget(transport, lambda flow: (flow.address, flow.backend) in withdrawn)

    def forget_ports(self, changed: Iterable[Publication], in_force: Collection[Publication]) -> int:
        """Forget datagrams' flows to changed ports that lead elsewhere than they are to now; return how many.

        Args:
            changed: ports that were published or withdrawn; those of TCP are left alone.
            in_force: all published ports (`HostTable.publications`).
        """
        ports = {(port.address, port.port): port for port in changed if port.transport == "udp"}
        if not ports:
            return 0
        led = {(port.address, port.port): port for port in in_force if port.transport == "udp"}

        def is_stale(flow: Flow) -> bool:
            keys = [key for key in ((flow.address, flow.port), (ANY_ADDRESS, flow.port)) if key in ports]
            if not keys:
                return False
            now = led.get((flow.address, flow.port)) or led.get((ANY_ADDRESS, flow.port))
            if now is not None:
                return (flow.backend, flow.backend_port) != (now.target, now.target_port)
            # Nobody has the port now: what goes to this machine itself is none of ours.
            return any((flow.backend, flow.backend_port) == (ports[key].target, ports[key].target_port) for key in keys)

        return self._forget("udp", is_stale)

    def forget_target(self, target: IPv4Address, transport: Transport = "udp") -> int:
        """Forget flows that are answered by an address, by translation or not: of a task that is gone."""
        return self._forget(transport, lambda flow: flow.backend == target)

    def flows(self, transport: Transport) -> Iterator[Flow]:
        """Yield the tracked IPv4 flows of a transport."""
        protocol = PROTOCOLS[transport]
        chosen = nested(ORIGINAL, nested(2, u8(1, protocol)))
        # Older kernels do not know the filter, and answer with all flows.
        payload = chosen + nested(FILTER, attribute(1, native(FILTER_PROTOCOL)), attribute(2, native(0)))
        for row in self._sock.ask(GET, IPV4, payload, "list tracked connections", flags=NLM_F_DUMP):
            flow = decode(parse(row), protocol)
            if flow is not None:
                yield flow

    def is_empty(self) -> bool:
        """Whether no flow is tracked: far quicker than the list, for which the kernel looks at all namespaces."""
        rows = self._sock.ask(GET_STATS, IPV4, b"", "count tracked connections")
        return sum(number(parse(row).get(STATS_ENTRIES, b"")) for row in rows) == 0

    def _forget(self, transport: Transport, is_stale: Callable[[Flow], bool]) -> int:
        count = 0
        if self.is_empty():
            return count
        for flow in [flow for flow in self.flows(transport) if is_stale(flow)]:
            count += self._delete(flow)
        return count

    def _delete(self, flow: Flow) -> bool:
        try:
            self._sock.ask(DELETE, IPV4, flow.identity, f"forget a connection to {flow.address}:{flow.port}")
        except SwarmError as error:
            if error.code != Code.NOT_FOUND:
                raise
            return False  # it has ended by itself
        return True


def decode(row: Attributes, protocol: int) -> Flow | None:
    """Return the flow in a row of the list, None if it is of another protocol."""
    original, reply = parse(row.get(ORIGINAL, b"")), parse(row.get(REPLY, b""))
    sent, answered = parse(original.get(2, b"")), parse(reply.get(2, b""))
    if number(sent.get(1, b"")) != protocol:
        return None
    identity = b"".join(attribute(kind, row[kind]) for kind in (ID, ZONE) if kind in row)
    return Flow(
        IPv4Address(parse(original[1])[2]),
        number(sent[3]),
        IPv4Address(parse(reply[1])[1]),
        number(answered[2]),
        nested(ORIGINAL, row[ORIGINAL]) + identity,
        number(parse(parse(row.get(PROTOCOL_STATE, b"")).get(1, b"")).get(1, b"")),
    )
