"""The cluster's networks, as the endpoints tell: where addresses are, and which tasks stand behind a VIP. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from swarmpy.model.endpoints import EndpointsUpdate
from worker.dataplane.endpoints import Change, EndpointTable
from worker.network.link.forwarding import Neighbour
from worker.network.nft.vip import Vip


@dataclass(slots=True)
class Dirt:
    """What has changed since it was asked for last: VIPs by network, and whether any neighbour did."""

    vips: defaultdict[str, set[IPv4Address]] = field(default_factory=lambda: defaultdict(set))
    neighbours: bool = False


class NetworkView:
    """Follows the endpoints' updates. Knows nothing until the first complete one."""

    def __init__(self, data_address: str) -> None:
        """
        Args:
            data_address: this node's, by which its own tasks are told from others.
        """
        self._data_address = data_address
        self._table = EndpointTable()
        self._vips: defaultdict[str, dict[IPv4Address, tuple[IPv4Address, ...]]] = defaultdict(dict)
        self._of_service: dict[str, dict[str, IPv4Address]] = {}
        self._neighbours: dict[str, tuple[Neighbour, ...]] | None = None
        self._dirt = Dirt()
        self.is_known = False

    @property
    def revision(self) -> int:
        return self._table.revision

    def take(self, update: EndpointsUpdate) -> None:
        """Take over an update; an older one than what is known changes nothing."""
        change = self._table.apply(update)
        if change is None:
            return
        self.is_known = self.is_known or update.complete
        if any(change.moves):
            self._neighbours = None
            self._dirt.neighbours = True
        for service_id in self._touched(change):
            self._set(service_id)

    def take_dirt(self) -> Dirt:
        """Return what has changed since the last call."""
        dirt, self._dirt = self._dirt, Dirt()
        return dirt

    def neighbours(self, network_id: str) -> tuple[Neighbour, ...]:
        """Return where a network's addresses are, this node's own among them."""
        if self._neighbours is None:
            found: defaultdict[str, list[Neighbour]] = defaultdict(list)
            for row in self._table.neighbours.rows.values():
                node = IPv4Address(row.node_addr)
                for place in row.addresses:
                    found[place.network_id].append(Neighbour(IPv4Address(place.address), node))
            self._neighbours = {network: tuple(rows) for network, rows in found.items()}
        return self._neighbours.get(network_id, ())

    def vip(self, network_id: str, address: IPv4Address) -> Vip | None:
        """Return who stands behind a VIP; None if there is no such VIP (any more)."""
        backends = self._vips[network_id].get(address)
        return Vip(address, backends) if backends is not None else None

    def vips(self, networks: Iterable[str]) -> tuple[Vip, ...]:
        """Return all VIPs of some networks."""
        return tuple(Vip(*row) for network_id in networks for row in self._vips[network_id].items())

    def _touched(self, change: Change) -> frozenset[str]:
        touched = change.changed | change.removed | change.moves.services
        if change.moves.networks:  # a network may have become known to be local
            touched |= self._of_service.keys()
        return touched

    def _set(self, service_id: str) -> None:
        """Bring a service's VIPs to what the table says."""
        before = self._of_service.pop(service_id, {})
        after = self._places(service_id)
        backends = {network_id: self._backends(service_id, network_id) for network_id in after}
        for network_id, address in before.items():
            if after.get(network_id) != address:
                del self._vips[network_id][address]
                self._dirt.vips[network_id].add(address)
        for network_id, address in after.items():
            if self._vips[network_id].get(address) != backends[network_id]:
                self._vips[network_id][address] = backends[network_id]
                self._dirt.vips[network_id].add(address)
        if after:
            self._of_service[service_id] = after

    def _places(self, service_id: str) -> dict[str, IPv4Address]:
        service = self._table.services.get(service_id)
        rows = service.networks if service is not None else ()
        return {row.network_id: IPv4Address(row.vip) for row in rows if row.vip}

    def _backends(self, service_id: str, network_id: str) -> tuple[IPv4Address, ...]:
        """Return the ready tasks' addresses on a network; on a local one those of this node only."""
        rows = self._table.neighbours.rows
        network = self._table.neighbours.networks.get(network_id)
        local = network is not None and network.local
        found = []
        for backend in self._table.ready(service_id):
            row = rows.get(backend.task_id)
            if row is not None and not (local and row.node_addr != self._data_address):
                found += [IPv4Address(p.address) for p in row.addresses if p.network_id == network_id]
        return tuple(found)
