"""What names mean to a task, by the networks it is on: it knows whom it shares one with, and nobody else. Pure.

Beside the names of `view`, with and without `.swarm` behind them:

<alias>                                    in place of <service>; one that several services have means all of them
<service>.<network>                        the service on that network
<service>.<slot>.<task id>[.<network>]     one task, ready or not; with the node's id for a slot it has none of
<address>.in-addr.arpa                     PTR: the last two, of an address that the asker can reach
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Final

import msgspec

from swarmpy.model.endpoints import Backend, HostPort, Neighbour, ServiceEndpoint, ServiceNetwork
from worker.dataplane.dns.view import Absence, Labels, NodeView, View, addresses_of, chosen_by, is_part, is_task_id
from worker.dataplane.dns.zone import APEX, Name, Zone

Scope = frozenset[str]
_REVERSE: Final = ("in-addr", "arpa")


def view_of(zone: Zone, scope: Scope) -> View:
    """Return what a task on these networks sees."""
    return ScopedView(zone, scope) if scope else OutsiderView(zone)


class OutsiderView(NodeView):
    """What a task on no network sees: what askers on other machines do, also without `.swarm`; the rest is outside."""

    def __init__(self, zone: Zone) -> None:
        super().__init__(zone, local=False)

    def find(self, labels: Labels) -> Name | Absence:
        return _found(self, labels) or (Absence.NO_SUCH_NAME if self.is_ours(labels) else Absence.OUTSIDE)


class ScopedView(View):
    """What a task on the networks `scope` sees."""

    def __init__(self, zone: Zone, scope: Scope) -> None:
        super().__init__(zone)
        self._scope = scope

    def find(self, labels: Labels) -> Name | Absence:
        if tuple(labels[-2:]) == _REVERSE:
            return self._reverse(labels[:-2])
        return _found(self, labels) or (Absence.NO_SUCH_NAME if self.is_ours(labels) else Absence.OUTSIDE)

    def tasks(self, labels: Labels) -> Name | None:
        if not labels:
            return None
        tokens = _tokens(labels)
        whole, rest = ".".join(labels), ".".join(labels[1:])
        found = self.service(whole, tokens) or self.part(labels[0], rest, tokens)
        if found is not None:
            return found
        if len(labels) in (2, 3) and self.zone.in_stack(f"{labels[-1]}_{labels[-2]}", labels[-1]):
            name = f"{labels[-1]}_{labels[-2]}"
            found = self.service(name, tokens) if len(labels) == 2 else self.part(labels[0], name, tokens)
        return found or self._one_task(labels) or self._on_network(labels, tokens)

    def is_ours(self, labels: Labels) -> bool:
        if super().is_ours(labels):
            return True
        networks = self.zone.table.neighbours.networks.values()
        if len(labels) > 1 and any(network.name.lower() == labels[-1] for network in networks):
            return super().is_ours(labels[:-1])  # a service by the name of a network that is not the asker's
        return len(labels) > 1 and is_part(labels[0]) and bool(self._services(".".join(labels[1:])))

    def service(self, name: str, tokens: tuple[str, ...]) -> Name | None:
        found = [(service, self._members(service)) for service in self._services(name)]
        if not found:
            return None
        (first, peers), *_ = found
        addresses = tuple(dict.fromkeys(a for service, ready in found for a in self._front(service, ready)))
        return Name(addresses, tokens, service=first.name.lower(), peers=peers, backends=peers)

    def part(self, part: str, name: str, tokens: tuple[str, ...]) -> Name | None:
        services = self._services(name)
        members = {s.name.lower(): self._members(s) for s in services}
        chosen = {own: backends for own, ready in members.items() if (backends := chosen_by(part, ready)) is not None}
        if not chosen:
            return None
        own = next(iter(chosen))
        addresses = addresses_of(b for backends in chosen.values() for b in backends)
        return Name(addresses, tokens, service=own, peers=members[own], backends=chosen[own])

    def _services(self, name: str) -> list[ServiceEndpoint]:
        """Return the services that a name means on the asker's networks: the one of that name, else by alias."""
        ids = {s for network_id in self._scope for s in self.zone.shares.named(network_id, name)}
        endpoints = [e for e in map(self.zone.service, sorted(ids)) if e is not None]
        return [e for e in endpoints if e.name.lower() == name] or endpoints

    def _members(self, endpoint: ServiceEndpoint) -> tuple[Backend, ...]:
        """Return a service's ready tasks as the asker reaches them: an address of a network, and target ports."""
        ports = dict.fromkeys(HostPort(target=p.target, port=p.target, transport=p.transport) for p in endpoint.ports)
        rows = self.zone.table.neighbours.rows
        members = []
        for backend in self.zone.table.ready(endpoint.service_id):
            row = rows.get(backend.task_id)
            address = next(self._reached(row), "") if row else ""
            if address:
                members.append(msgspec.structs.replace(backend, address=address, ports=tuple(ports)))
        return tuple(members)

    def _reached(self, row: Neighbour) -> Iterator[str]:
        """Yield the addresses of a task that the asker reaches."""
        networks = self.zone.table.neighbours.networks
        for place in row.addresses:
            if place.network_id not in self._scope:
                continue
            network = networks.get(place.network_id)
            here = not self.zone.node_id or row.node_id == self.zone.node_id
            if here or network is None or not network.local:
                yield place.address

    def _front(self, endpoint: ServiceEndpoint, ready: tuple[Backend, ...]) -> Iterable[str]:
        """Return what the service's own name holds.

        A service that is being moved to another network has VIPs on both: the one with more ready tasks behind it.
        """
        fronts = [share for share in endpoint.networks if share.network_id in self._scope and share.vip]
        if not fronts:
            return addresses_of(ready)
        rows = self.zone.table.neighbours.rows
        behind = Counter(place.network_id for b in ready for place in rows[b.task_id].addresses)
        return (max(fronts, key=lambda share: behind[share.network_id]).vip,)

    def _one_task(self, labels: Labels) -> Name | None:
        """Find a task by what a PTR record says of it."""
        match list(labels):
            case [name, slot, task_id, *network] if len(network) < 2 and is_task_id(task_id):
                row = self.zone.table.neighbours.rows.get(task_id)
                endpoint = self.zone.service(row.service_id) if row else None
                if row is None or endpoint is None or (name, slot) != (endpoint.name.lower(), _slot(row)):
                    return None
                there = self._scope.intersection(self._networks_named(network[0]) if network else self._scope)
                there = there.intersection(share.network_id for share in endpoint.networks)
                addresses = [p.address for p in row.addresses if p.network_id in there]
                return Name(tuple(addresses)) if addresses else None
        return None

    def _on_network(self, labels: Labels, tokens: tuple[str, ...]) -> Name | None:
        """Find a service by its name or alias and that of a network."""
        networks = self._networks_named(labels[-1])
        if not networks or len(labels) < 2:
            return None
        return ScopedView(self.zone, frozenset(networks)).service(".".join(labels[:-1]), tokens)

    def _networks_named(self, name: str) -> list[str]:
        networks = self.zone.table.neighbours.networks
        return [n for n in self._scope if n in networks and networks[n].name.lower() == name]

    def _reverse(self, labels: Labels) -> Name | Absence:
        """Say whose an address is: of a task or a VIP, on one of the asker's networks."""
        try:
            address = IPv4Address(".".join(reversed(labels)))
        except AddressValueError:
            return Absence.OUTSIDE
        neighbours = self.zone.table.neighbours
        known = [neighbours.networks[n] for n in sorted(self._scope) if n in neighbours.networks]
        for network in known:
            row = neighbours.owner(network.id, str(address))
            service_id = row.service_id if row else self.zone.shares.vip_owner(network.id, str(address))
            endpoint = self.zone.service(service_id)
            if endpoint is None or not _is_on(endpoint.networks, network.id):
                continue
            task = (_slot(row), row.task_id) if row else ()
            return Name(pointer=(endpoint.name, *task, *network.name.split(".")))
        within = any(network.subnet and address in IPv4Network(network.subnet) for network in known)
        return Absence.NO_SUCH_NAME if within else Absence.OUTSIDE


def _found(view: View, labels: Labels) -> Name | Absence | None:
    """Look a name up with or without `.swarm`; None if it is neither there nor below `swarm.`."""
    if tuple(labels[-1:]) == (APEX,):
        return view.below(labels[:-1]) or Absence.NO_SUCH_NAME
    return view.bare(labels)


def _is_on(shares: Iterable[ServiceNetwork], network_id: str) -> bool:
    return any(share.network_id == network_id for share in shares)


def _slot(row: Neighbour) -> str:
    """Return what stands for a task's slot in its name: a global service has one task a node and no slots."""
    return str(row.slot) if row.slot else row.node_id.lower()


def _tokens(labels: Labels) -> tuple[str, ...]:
    """Return all names that a look-up of `labels` may go by; whichever of them changes, the answer may."""
    tokens = []
    for base in (labels, labels[:-1]):
        tokens += [".".join(base), ".".join(base[1:])]
    if len(labels) > 1:
        tokens.append(f"{labels[-1]}_{labels[-2]}")
    return tuple(dict.fromkeys(filter(None, tokens)))
