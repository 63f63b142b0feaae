"""The machine's side of a node's networks, for the one thread of its links: gateway, table, other firewalls."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import TracebackType
from typing import Final, Literal, Self

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.container import PortBinding
from swarmpy.model.endpoints import HostPort, Transport
from worker.network.balancing import TaskTables
from worker.network.leading import Leading
from worker.network.link import namespace
from worker.network.link.fabric import Segment
from worker.network.link.forwarding import Neighbour
from worker.network.link.joint import Joint
from worker.network.link.leases import LeaseDirectory
from worker.network.link.links import Links
from worker.network.link.place import Place
from worker.network.nft.conntrack import Conntrack
from worker.network.nft.forwarding import Forwarding
from worker.network.nft.host import HostTable
from worker.network.nft.layout import Links as TaskLinks
from worker.network.nft.layout import Publication
from worker.network.nft.legacy import LegacyTables
from worker.network.nft.sock import NetfilterSocket
from worker.network.reach import Balance, Reach
from worker.network.wiring import Link, Wiring

_TRANSPORTS: Final[dict[Transport, Literal["tcp", "udp"]]] = {Transport.TCP: "tcp", Transport.UDP: "udp"}
_log = structlog.get_logger()


class Machine:
    """Links and tables of one node. Opening makes what is missing; closing leaves all as it is."""

    def __init__(self, place: Place, clock: Clock, rng: random.Random) -> None:
        """
        Args:
            rng: draws the order in which tasks take turns with the backends of a service.

        Raises:
            SwarmError: the kernel refuses, or there is no free subnet.
        """
        self._place = place
        self._leading: Leading | None = None
        self._tables = TaskTables(place.namespace, rng)
        self.links = Links(place, clock=clock.monotonic)
        try:
            self._sock = NetfilterSocket.open()
        except BaseException:
            self.links.close()
            raise
        try:
            gateway = self.links.gateway()
            self._table = HostTable(self._sock, place.key, TaskLinks(gateway.prefix, gateway.subnet))
            self._table.ensure()
            self._conntrack = Conntrack(self._sock)
            self._leading = Leading(self._sock, place, self._table, self._conntrack, LegacyTables())
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
        """Close the sockets. Published ports are the balancer's from now on: nobody would follow the endpoints."""
        self._tables.close()
        if self._leading is not None:
            self._leading.end()
        self._sock.close()
        self.links.close()

    def keep_forwarding(self) -> None:
        """Have the machine's other firewalls let tasks' packets through; what they drop all the same is said once."""
        said = self._forwarding.ensure()
        for sentence in said:
            if sentence not in self._said:
                _log.warning("another firewall drops packets of tasks", what=sentence)
        self._said = said

    def attach(self, wiring: Wiring, reach: Reach | None) -> Joint | None:
        """Give a task a namespace with all its links; return the way out, None if it has none.

        Args:
            reach: what is known of its networks; None if that is yet to come.
        """
        self.links.make_namespace(wiring.task_id)
        for link in wiring.links:
            self._join(wiring.task_id, link)
        if reach is not None:
            self._set_neighbours(reach.neighbours)
        joint = self.links.join_gateway(wiring.task_id, wiring.way_out) if wiring.way_out else None
        if joint is not None:
            self._addresses[wiring.task_id] = joint.address.ip
        self._tables.open_task(wiring)
        if reach is not None:
            self._tables.change([Balance(wiring.task_id, reach.vips, whole=True)])
        return joint

    def adopt(self, wirings: Iterable[Wiring]) -> None:
        """Take over the tasks of a former worker: what is missing of their links is made, what is there stays."""
        for wiring in wirings:
            try:
                if namespace.is_pinned(self._place.namespace(wiring.task_id)):
                    self.attach(wiring, None)
            except SwarmError as error:
                _log.error("links of a running task cannot be taken over", task=wiring.task_id, error=error.message)

    def _join(self, task_id: str, link: Link) -> None:
        row = link.row
        subnet = IPv4Network(row.subnet)
        self.links.ensure_network(Segment(row.id, row.vni, subnet, row.mtu, vxlan=not row.local))
        address = IPv4Interface(f"{link.address}/{subnet.prefixlen}")
        self.links.join_network(task_id, row.id, address, link.inner)

    def leave(self, task_id: str, unused: Iterable[str] = ()) -> None:
        """Withdraw a task's ports and remove its namespace; of an unknown task it is done already.

        Args:
            unused: the networks on which it was the last task of this node.
        """
        self._tables.close_task(task_id)
        self.withdraw([task_id])
        self.links.remove_namespace(task_id)
        self._addresses.pop(task_id, None)
        for network_id in unused:
            self.links.remove_network(network_id)

    def follow(self, neighbours: Mapping[str, tuple[Neighbour, ...]], balances: Iterable[Balance]) -> frozenset[str]:
        """Bring networks and tasks to what the endpoints say; return the tasks whose table could not be changed."""
        self._set_neighbours(neighbours)
        return self._tables.change(balances)

    def tidy(self) -> bool:
        """Do a part of what may come a little later; return whether there is more of it."""
        return self._tables.tidy()

    def _set_neighbours(self, neighbours: Mapping[str, tuple[Neighbour, ...]]) -> None:
        for network_id, rows in neighbours.items():
            try:
                self.links.set_neighbours(network_id, rows)
            except SwarmError as error:
                if error.code is not Code.FAILED_PRECONDITION:
                    raise
                # Its last task has left meanwhile.

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

    def withdraw(self, task_ids: Iterable[str]) -> None:
        """Lead no port of this machine to tasks any more; connections stay. Of an unknown task it is done already."""
        for task_id in task_ids:
            address = self._addresses.get(task_id)
            if address is not None:
                self.publish(address, ())

    @property
    def leading(self) -> Leading:
        """The published ports that the kernel balances."""
        assert self._leading is not None, "it is open"
        return self._leading

    def _address_of(self, port: HostPort) -> IPv4Address:
        return IPv4Address(port.address) if port.address else self._place.data_address

    def sweep(self, is_held: Callable[[str], bool], networks: Callable[[], Collection[str]]) -> None:
        """Take back what tasks that are not held have left behind, and networks that none of those held is on.

        Args:
            networks: returns those that held tasks are on.
        """
        there = {*namespace.pinned(self._place.pins), *self._addresses}
        held = {task_id for task_id in there if is_held(task_id)}
        self._addresses = {task_id: a for task_id, a in self._addresses.items() if task_id in held}
        known = set(self._addresses.values())
        self._tables.keep(held)
        self._change(set(), {p for p in self._table.publications if p.target not in known})
        self.links.sweep(held, networks())

    def _change(self, wanted: set[Publication], there: set[Publication]) -> None:
        """Publish what is wanted in place of what is there, and forget datagrams' old ways."""
        if wanted == there:
            return
        self._table.change(add=wanted - there, remove=there - wanted)
        self._conntrack.forget_ports(wanted ^ there, self._table.publications)
