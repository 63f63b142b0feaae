"""The machine's side of published ports that the kernel balances, for the one thread of its tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

import structlog

from swarmpy.errors import SwarmError
from worker.network.link.place import Place as NodePlace
from worker.network.nft.conntrack import Conntrack
from worker.network.nft.host import HostTable
from worker.network.nft.ingress import Entry, IngressTable, Target, why_not_forwarded
from worker.network.nft.layout import ANY_ADDRESS
from worker.network.nft.legacy import LegacyTables
from worker.network.nft.sock import Netfilter
from worker.network.publishing import Place, Way

_log = structlog.get_logger()


class Leading:
    """The kernel's published ports of one node."""

    def __init__(
        self, sock: Netfilter, place: NodePlace, host: HostTable, conntrack: Conntrack, legacy: LegacyTables
    ) -> None:
        """
        Args:
            host: the table by which this node's containers are reached.
            legacy: the machine's older tables.
        """
        self._legacy = legacy
        self._sock = sock
        self._place = place
        self._host = host
        self._conntrack = conntrack
        self._table = IngressTable(sock, place.key)
        self._said = ""

    def lead(self, ports: Mapping[Place, tuple[Place, ...]]) -> None:
        """Make these the ports, with the backends of each; those that the kernel cannot lead are the balancer's.

        Raises:
            SwarmError: the kernel refuses.
        """
        against = why_not_forwarded(self._sock, legacy=self._legacy.are_used())
        wanted: dict[Entry, tuple[Target, ...]] = {}
        kept = False
        for (address, port), places in ports.items():
            targets = tuple(map(self._target, places))
            if against and any(target.remote for target in targets):
                kept = True
            else:
                wanted[Entry(IPv4Address(address), port)] = targets
        if kept and against != self._said:
            _log.warning("ports with tasks on other machines are left to the balancer", why=against)
        self._said = against if kept else ""
        try:
            self._table.sync(wanted)
        except SwarmError as error:
            _log.warning("the table of published ports is not as it was left", error=error.message)
            self._table.make(wanted)

    def connected(self, ways: Iterable[Way]) -> frozenset[Way]:
        """Return those of the ways by which there are connections.

        Raises:
            SwarmError: the kernel does not tell.
        """
        asked: dict[tuple[IPv4Address, int, IPv4Address, int], list[Way]] = {}
        for way in ways:
            target = self._target(way.target)
            key = (IPv4Address(way.entry[0]), way.entry[1], target.address, target.port)
            asked.setdefault(key, []).append(way)
        found: set[Way] = set()
        for flow in self._conntrack.flows("tcp") if asked else ():
            if flow.is_open:
                for address in (flow.address, ANY_ADDRESS):
                    found.update(asked.get((address, flow.port, flow.backend, flow.backend_port), ()))
        return frozenset(found)

    def end(self) -> None:
        """Leave all ports to the balancer; connections stay where they are."""
        try:
            self._table.remove()
        except SwarmError as error:
            _log.error("the table of published ports is left behind", error=error.message)

    def _target(self, place: Place) -> Target:
        """Return where a task is reached from here: a container of this node at its own address."""
        address, port = IPv4Address(place[0]), place[1]
        is_own = address == self._place.data_address
        for there in self._host.publications:
            here = there.address == address or (is_own and there.address == ANY_ADDRESS)
            if here and (there.transport, there.port) == ("tcp", port):
                return Target(there.target, there.target_port)
        return Target(address, port, remote=not is_own and not address.is_loopback)
