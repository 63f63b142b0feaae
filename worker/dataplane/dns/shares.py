"""Services by what they are called on each network, and by their VIPs there. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from swarmpy.model.endpoints import ServiceEndpoint


class Shares:
    """Ids of services by network and name (their own and their aliases, lower-cased), and by network and VIP."""

    def __init__(self) -> None:
        self._named: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
        self._vips: defaultdict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, endpoint: ServiceEndpoint) -> None:
        for share in endpoint.networks:
            for name in (endpoint.name, *share.aliases):
                self._named[share.network_id, name.lower()].add(endpoint.service_id)
            if share.vip:
                self._vips[share.network_id, share.vip].add(endpoint.service_id)

    def remove(self, endpoint: ServiceEndpoint) -> None:
        for share in endpoint.networks:
            for name in (endpoint.name, *share.aliases):
                _discard(self._named, (share.network_id, name.lower()), endpoint.service_id)
            _discard(self._vips, (share.network_id, share.vip), endpoint.service_id)

    def named(self, network_id: str, name: str) -> Sequence[str]:
        """Return the services that have a name on a network, in the order of their ids."""
        return sorted(self._named.get((network_id, name), ()))

    def vip_owner(self, network_id: str, address: str) -> str:
        """Return the service that has a VIP, empty if none has; of several, the one with the lowest id."""
        return min(self._vips.get((network_id, address), ()), default="")


def _discard(groups: defaultdict[tuple[str, str], set[str]], key: tuple[str, str], service_id: str) -> None:
    group = groups.get(key)
    if group is not None:
        group.discard(service_id)
        if not group:
            del groups[key]
