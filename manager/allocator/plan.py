"""What a service gets. Pure: pools in, an endpoint or a sentence out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from manager.allocator.pools import Pool
from swarmpy.model.endpoints import PublishMode, ServicePort, Transport
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import EndpointSpec, PortSpec
from swarmpy.model.states import EndpointMode

FIRST_DYNAMIC_PORT: Final = 30000
LAST_DYNAMIC_PORT: Final = 32767
LAST_VIP_INDEX: Final = 65000


@dataclass
class Pools:
    """What is free in the cluster: VIP indexes, and published ports for each transport."""

    vips: Pool = field(default_factory=lambda: Pool(1, LAST_VIP_INDEX))
    ports: dict[Transport, Pool] = field(
        default_factory=lambda: {t: Pool(FIRST_DYNAMIC_PORT, LAST_DYNAMIC_PORT) for t in Transport}
    )

    def hold(self, endpoint: Endpoint) -> None:
        """Hold what a service was given before."""
        if endpoint.vip_index:
            self.vips.hold(endpoint.vip_index)
        for port in _ingress(endpoint.ports):
            self.ports[port.transport].hold(port.published)

    def release(self, endpoint: Endpoint) -> None:
        """Take back what a service was given."""
        if endpoint.vip_index:
            self.vips.release(endpoint.vip_index)
        for port in _ingress(endpoint.ports):
            self.ports[port.transport].release(port.published)


@dataclass(frozen=True)
class Allocation:
    """The outcome: an endpoint, or the old one with a sentence on why it cannot be had."""

    endpoint: Endpoint
    problem: str = ""


def allocate(service: Service, pools: Pools) -> Allocation:
    """Return what `service` gets for its present spec, and hold it in `pools`.

    What the service has and still wants is kept: a dynamic port does not change when another port is added.
    On a problem everything stays as it was.
    """
    spec, old = service.spec.endpoint, service.endpoint
    pools.release(old)
    taken: list[tuple[Pool, int]] = []
    try:
        endpoint = Endpoint(
            vip_index=_vip(spec, old, pools, taken),
            ports=tuple(_port(port, old, pools, taken) for port in _fixed_first(spec.ports)),
        )
    except _Exhausted as exhausted:
        for pool, number in taken:
            pool.release(number)
        pools.hold(old)
        return Allocation(old, str(exhausted))
    return Allocation(endpoint)


class _Exhausted(Exception):  # noqa: N818  # a signal inside this module, not an error that anybody sees
    pass


def _vip(spec: EndpointSpec, old: Endpoint, pools: Pools, taken: list[tuple[Pool, int]]) -> int:
    if spec.mode is EndpointMode.DNSRR:
        return 0
    if old.vip_index and pools.vips.hold(old.vip_index):
        taken.append((pools.vips, old.vip_index))
        return old.vip_index
    index = pools.vips.take()
    if index is None:
        raise _Exhausted("no virtual address is free: remove a service, or use --endpoint-mode dnsrr")
    taken.append((pools.vips, index))
    return index


def _port(port: PortSpec, old: Endpoint, pools: Pools, taken: list[tuple[Pool, int]]) -> ServicePort:
    published = port.published
    if port.publish and port.mode is PublishMode.INGRESS:
        pool = pools.ports[port.transport]
        if published:
            if not pool.hold(published):
                raise _Exhausted(f"port {published}/{port.transport.name.lower()} is published by another service")
        else:
            published = _dynamic(port, old, pool)
        taken.append((pool, published))
    return ServicePort(
        target=port.target,
        published=published if port.publish else 0,
        transport=port.transport,
        app_protocol=port.app_protocol,
        mode=port.mode,
        name=port.name,
    )


def _dynamic(port: PortSpec, old: Endpoint, pool: Pool) -> int:
    for had in _ingress(old.ports):
        dynamic = FIRST_DYNAMIC_PORT <= had.published <= LAST_DYNAMIC_PORT
        if dynamic and had.target == port.target and had.transport == port.transport and pool.hold(had.published):
            return had.published
    number = pool.take()
    if number is None:
        raise _Exhausted(
            f"no port is free between {FIRST_DYNAMIC_PORT} and {LAST_DYNAMIC_PORT}: name a published port yourself"
        )
    return number


def _fixed_first(ports: Iterable[PortSpec]) -> list[PortSpec]:
    """Order ports so that a dynamic one cannot be given a number that a later one asks for."""
    return sorted(ports, key=lambda p: not p.published)


def _ingress(ports: Iterable[ServicePort]) -> list[ServicePort]:
    return [p for p in ports if p.published and p.mode is PublishMode.INGRESS]
