"""The addresses of all networks: what services and tasks hold, and who waits for one. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Final

from manager.allocator.addresses import REUSE_AFTER_S, AddressPool
from manager.allocator.subnets import Taken, single
from swarmpy.model.network import PREDEFINED, Network, NetworkAddress
from swarmpy.model.service import Service
from swarmpy.model.spec import NetworkAttachment
from swarmpy.model.states import EndpointMode

Addresses = tuple[NetworkAddress, ...]

SINCE_EVER: Final = -math.inf


@dataclass(frozen=True)
class Lack:
    """An address that could not be had: where, and the sentence for a person."""

    network_id: str
    reason: str


def targets(joined: Iterable[NetworkAttachment]) -> list[str]:
    """Return the ids of the networks among what a task joins; those that every node has are no business of ours."""
    return [one.target for one in joined if one.target not in PREDEFINED]


def wanted_vips(service: Service) -> list[str]:
    """Return the ids of the networks that the service's present spec asks a virtual address on."""
    return [] if service.spec.endpoint.mode is EndpointMode.DNSRR else targets(service.spec.task.networks)


class NetworkPools:
    """A pool for each allocated network, rebuilt from rows whenever a leader starts."""

    def __init__(self) -> None:
        self._pools: dict[str, AddressPool] = {}
        self._names: dict[str, str] = {}
        # Addresses of tasks whose network is gone, and what removed networks had until a moment ago.
        self._strays: dict[NetworkAddress, None] = {}
        self._left: deque[tuple[float, IPv4Network]] = deque()
        self._last_vni = 0

    def __contains__(self, network_id: str) -> bool:
        return network_id in self._pools

    def add(self, network: Network, known_since_s: float) -> None:
        """Make the pool of an allocated network; see `AddressPool`. One that is there stays as it is."""
        self._last_vni = max(self._last_vni, network.vni)
        self._names[network.id] = network.name
        if network.id not in self._pools:
            self._pools[network.id] = AddressPool(network, known_since_s)

    def remove(self, network_id: str, now_s: float) -> None:
        """Forget a network; its subnet rests, and the addresses of tasks that are still there are avoided."""
        pool = self._pools.pop(network_id, None)
        self._names.pop(network_id, None)
        if pool is not None:
            self._left.append((now_s + REUSE_AFTER_S, pool.subnet))
            self._strays.update((NetworkAddress(network_id=network_id, address=a), None) for a in pool.held)

    def hold(self, addresses: Addresses) -> None:
        """Hold what somebody was given before."""
        for one in addresses:
            if one.network_id in self._pools:
                self._pools[one.network_id].hold(one.address)
            else:
                self._strays[one] = None

    def release(self, addresses: Addresses, now_s: float) -> None:
        """Take back what somebody had."""
        for one in addresses:
            self._strays.pop(one, None)
            if one.network_id in self._pools:
                self._pools[one.network_id].release(one.address, now_s)

    def take(self, network_ids: Sequence[str], now_s: float) -> Addresses | Lack:
        """Return an address on each of the networks and hold them, or what lacks; then nothing is held."""
        taken: list[NetworkAddress] = []
        for network_id in network_ids:
            pool = self._pools.get(network_id)
            address = pool.take(now_s) if pool is not None else None
            if address is None:
                for one in taken:
                    self._pools[one.network_id].give_back(one.address)
                return Lack(network_id, self._why(network_id))
            taken.append(NetworkAddress(network_id=network_id, address=address))
        return tuple(taken)

    def change(self, had: Addresses, network_ids: Sequence[str], now_s: float) -> Addresses | Lack:
        """Return an address on each of the networks in place of `had`; those that are still wanted are kept.

        Where one lacks, everything stays as it was.
        """
        kept = {one.network_id: one for one in had if one.network_id in network_ids}
        new = self.take([n for n in network_ids if n not in kept], now_s)
        if isinstance(new, Lack):
            return new
        self.release(tuple(one for one in had if one.network_id not in kept), now_s)
        kept.update((one.network_id, one) for one in new)
        return tuple(kept[network_id] for network_id in network_ids)

    def cursor(self, network_id: str) -> int:
        return self._pools[network_id].cursor

    def free(self, network_id: str, now_s: float) -> int:
        """Return how many addresses a network has free, at most; 0 if it has no pool."""
        pool = self._pools.get(network_id)
        return 0 if pool is None else pool.free(now_s)

    def next_free_s(self, network_id: str, now_s: float) -> float | None:
        """Return when more of a network's addresses will have rested; None if no time will bring any."""
        pool = self._pools.get(network_id)
        return None if pool is None else pool.next_free_s(now_s)

    def next_subnet_s(self) -> float | None:
        """Return when the next subnet will have rested; None if none rests."""
        return self._left[0][0] if self._left else None

    def forget_rested(self, now_s: float) -> bool:
        """Let subnets be given again that have rested; tell whether there are any."""
        any_rested = False
        while self._left and self._left[0][0] <= now_s:
            self._left.popleft()
            any_rested = True
        return any_rested

    def taken(self, networks: Sequence[Network], node_addresses: Iterable[str]) -> Taken:
        """Return what a new network must keep away from."""
        addresses = (*node_addresses, *(one.address for one in self._strays))
        singles = [found for found in map(single, addresses) if found is not None]
        return Taken(networks, (*(subnet for _, subnet in self._left), *singles), self._last_vni)

    def _why(self, network_id: str) -> str:
        pool = self._pools.get(network_id)
        if pool is None:
            return f"network {network_id} has no subnet yet: see `swarmpy network inspect {network_id}`"
        name = self._names[network_id]
        return (
            f"no address is free on network {name} ({pool.subnet}, {pool.size} addresses for tasks and services): "
            "run fewer tasks on it, or use a network with a larger subnet"
        )
