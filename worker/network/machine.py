"""The machine's side of a node's networks, for the one thread of its links: gateway, table, other firewalls."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from types import TracebackType
from typing import Final, Literal, Self

import structlog

from swarmpy.clock import Clock
from swarmpy.model.container import PortBinding
from swarmpy.model.endpoints import HostPort, Transport
from worker.network.link import namespace
from worker.network.link.joint import Joint, Place
from worker.network.link.leases import LeaseDirectory
from worker.network.link.links import Links
from worker.network.nft.conntrack import Conntrack
from worker.network.nft.forwarding import Forwarding
from worker.network.nft.host import HostTable
from worker.network.nft.layout import Links as TaskLinks
from worker.network.nft.layout import Publication
from worker.network.nft.legacy import LegacyTables
from worker.network.nft.sock import NetfilterSocket

_DNS_PORT: Final = 53
_TRANSPORTS: Final[dict[Transport, Literal["tcp", "udp"]]] = {Transport.TCP: "tcp", Transport.UDP: "udp"}
_log = structlog.get_logger()


class Machine:
    """Links and tables of one node. Opening makes what is missing; closing leaves all as it is."""

    def __init__(self, place: Place, clock: Clock) -> None:
        """
        Raises:
            SwarmError: the kernel refuses, or there is no free subnet.
        """
        self._place = place
        self.links = Links(place, clock=clock.monotonic)
        try:
            self._sock = NetfilterSocket.open()
        except BaseException:
            self.links.close()
            raise
        try:
            gateway = self.links.gateway()
            self.gateway = gateway.address.ip
            self._table = HostTable(self._sock, place.key, TaskLinks(gateway.prefix, gateway.subnet))
            self._table.ensure()
            self._conntrack = Conntrack(self._sock)
            self._forwarding = Forwarding(self._sock, place.key, gateway.prefix, legacy=LegacyTables())
            self._said: tuple[str, ...] = ()
            self._addresses = dict(LeaseDirectory(place.leases).read(gateway.subnet).held)
            self.keep_forwarding()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._sock.close()
        self.links.close()

    def keep_forwarding(self) -> None:
        """Have the machine's other firewalls let tasks' packets through; what they drop all the same is said once."""
        said = self._forwarding.ensure()
        for sentence in said:
            if sentence not in self._said:
                _log.warning("another firewall drops packets of tasks", what=sentence)
        self._said = said

    def join_gateway(self, task_id: str) -> Joint:
        """Give a task a namespace with a way out."""
        self.links.make_namespace(task_id)
        joint = self.links.join_gateway(task_id)
        self._addresses[task_id] = joint.address.ip
        return joint

    def leave(self, task_id: str) -> None:
        """Withdraw a task's ports and remove its namespace; of an unknown task it is done already."""
        address = self._addresses.get(task_id)
        if address is not None:
            self.publish(address, ())
        self.links.remove_namespace(task_id)
        self._addresses.pop(task_id, None)

    def publish(
        self, address: IPv4Address, host_ports: Iterable[HostPort], bindings: Iterable[PortBinding] = ()
    ) -> None:
        """Make these all the ports of this machine that lead to a task's address.

        Args:
            bindings: one for each port, with the address that it is on; without any it is the port's, or the node's
                data address.
        """
        wanted = {
            Publication(
                _TRANSPORTS[port.transport],
                IPv4Address(binding.address or 0) if binding is not None else self._address_of(port),
                port.port,
                address,
                port.target,
            )
            for port, binding in zip(host_ports, [*bindings] or itertools.repeat(None), strict=False)
        }
        self._change(wanted, {p for p in self._table.publications if p.target == address})

    def _address_of(self, port: HostPort) -> IPv4Address:
        return IPv4Address(port.address) if port.address else self._place.data_address

    def serve_names(self, server: str) -> None:
        """Lead what tasks ask at the gateway's port 53 to a name server, `address:port`, or nowhere if it is empty."""
        host, _, port = server.rpartition(":")
        wanted = set()
        if host:
            target = IPv4Address(host)
            wanted = {Publication(t, self.gateway, _DNS_PORT, target, int(port)) for t in _TRANSPORTS.values()}
        self._change(wanted, {p for p in self._table.publications if self._is_name_service(p)})

    def sweep(self, is_held: Callable[[str], bool]) -> None:
        """Take back what tasks that are not held have left behind."""
        there = {*namespace.pinned(self._place.pins), *self._addresses}
        held = {task_id for task_id in there if is_held(task_id)}
        self._addresses = {task_id: a for task_id, a in self._addresses.items() if task_id in held}
        known = set(self._addresses.values())
        strays = {p for p in self._table.publications if p.target not in known and not self._is_name_service(p)}
        self._change(set(), strays)
        self.links.sweep(held, ())

    def _is_name_service(self, publication: Publication) -> bool:
        return publication.address == self.gateway and publication.port == _DNS_PORT

    def _change(self, wanted: set[Publication], there: set[Publication]) -> None:
        """Publish what is wanted in place of what is there, and forget datagrams' old ways."""
        if wanted == there:
            return
        self._table.change(add=wanted - there, remove=there - wanted)
        self._conntrack.forget_ports(wanted ^ there, self._table.publications)
