"""The tasks that have addresses on networks, and the networks: what an update changes in them. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from swarmpy.model.endpoints import EndpointsUpdate, Neighbour
from swarmpy.model.network import NetworkRow


class Moves(NamedTuple):
    """What one update changed: the tasks whose row came, went or differs, their services, and whether networks did."""

    tasks: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    networks: bool = False


NO_MOVES: Final = Moves()


class NeighbourTable:
    """Neighbours by task id and by each of their addresses; rows of unknown networks are kept."""

    def __init__(self) -> None:
        self._rows: dict[str, Neighbour] = {}
        self._networks: dict[str, NetworkRow] = {}
        self._owners: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    @property
    def rows(self) -> Mapping[str, Neighbour]:
        return MappingProxyType(self._rows)

    @property
    def networks(self) -> Mapping[str, NetworkRow]:
        return MappingProxyType(self._networks)

    def owner(self, network_id: str, address: str) -> Neighbour | None:
        """Return the task that has an address; of several that claim it, the one with the lowest id."""
        claiming = self._owners.get((network_id, address))
        return self._rows[min(claiming)] if claiming else None

    def apply(self, update: EndpointsUpdate) -> Moves:
        """Take over an update, whose revision has been looked at."""
        networks = {} if update.complete else self._networks.copy()
        for network_id in update.removed_networks:
            networks.pop(network_id, None)
        networks.update((row.id, row) for row in update.networks)
        before = {t: self._rows[t] for t in self._leaving(update)}
        coming = {row.task_id: row for row in update.neighbours if self._rows.get(row.task_id) != row}
        before |= {t: self._rows[t] for t in coming if t in self._rows}
        for row in before.values():
            self._drop(row)
        for row in coming.values():
            self._add(row)
        changed_networks, self._networks = networks != self._networks, networks
        services = {row.service_id for row in (*before.values(), *coming.values())}
        return Moves(frozenset(before.keys() | coming.keys()), frozenset(services), changed_networks)

    def _leaving(self, update: EndpointsUpdate) -> Iterable[str]:
        """Return the known tasks that an update withdraws; one that it brings, too, is brought."""
        stay = {row.task_id for row in update.neighbours}
        if update.complete:
            return self._rows.keys() - stay
        return [t for t in update.removed_neighbours if t in self._rows and t not in stay]

    def _drop(self, row: Neighbour) -> None:
        del self._rows[row.task_id]
        for place in row.addresses:
            claiming = self._owners[place.network_id, place.address]
            claiming.discard(row.task_id)
            if not claiming:
                del self._owners[place.network_id, place.address]

    def _add(self, row: Neighbour) -> None:
        self._rows[row.task_id] = row
        for place in row.addresses:
            self._owners[place.network_id, place.address].add(row.task_id)
