"""What a service gets. Pure: pools in, an endpoint or a sentence out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from manager.allocator.pools import Pool
from manager.allocator.ports import PortNumbers
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
    ports: dict[Transport, PortNumbers] = field(
        default_factory=lambda: {t: PortNumbers(FIRST_DYNAMIC_PORT, LAST_DYNAMIC_PORT) for t in Transport}
    )

    def hold(self, endpoint: Endpoint) -> None:
        """Hold what a service was given before."""
        if endpoint.vip_index:
            self.vips.hold(endpoint.vip_index)
        for port in endpoint.ports:
            if port.published and port.mode is PublishMode.HOST:
                self.ports[port.transport].hold_on_hosts(port.published)
            elif port.published:
                self.ports[port.transport].hold(port.published, port.address)

    def release(self, endpoint: Endpoint) -> None:
        """Take back what a service was given."""
        if endpoint.vip_index:
            self.vips.release(endpoint.vip_index)
        for port in endpoint.ports:
            if port.published and port.mode is PublishMode.HOST:
                self.ports[port.transport].release_on_hosts(port.published)
            elif port.published:
                self.ports[port.transport].release(port.published, port.address)


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
    undo: list[Callable[[], None]] = []
    try:
        endpoint = Endpoint(
            vip_index=_vip(spec, old, pools, undo),
            ports=tuple(_port(port, old, pools, undo) for port in _fixed_first(spec.ports)),
        )
    except _Exhausted as exhausted:
        for give_back in undo:
            give_back()
        pools.hold(old)
        return Allocation(old, str(exhausted))
    return Allocation(endpoint)


class _Exhausted(Exception):  # noqa: N818  # a signal inside this module, not an error that anybody sees
    pass


def _vip(spec: EndpointSpec, old: Endpoint, pools: Pools, undo: list[Callable[[], None]]) -> int:
    if spec.mode is EndpointMode.DNSRR:
        return 0
    had = old.vip_index if old.vip_index and pools.vips.hold(old.vip_index) else 0
    index = had or pools.vips.take()
    if index is None:
        raise _Exhausted("no virtual address is free: remove a service, or use --endpoint-mode dnsrr")
    undo.append(partial(pools.vips.release, index))
    return index


def _port(port: PortSpec, old: Endpoint, pools: Pools, undo: list[Callable[[], None]]) -> ServicePort:
    published = port.published
    numbers = pools.ports[port.transport]
    if port.publish and port.mode is PublishMode.INGRESS:
        if not published:
            published = _dynamic(port, old, numbers)
        elif not numbers.hold(published, port.address):
            raise _Exhausted(f"port {published}/{port.transport.name.lower()} is published by another service")
        undo.append(partial(numbers.release, published, port.address))
    elif port.publish and published:
        numbers.hold_on_hosts(published)
        undo.append(partial(numbers.release_on_hosts, published))
    return ServicePort(
        target=port.target,
        published=published if port.publish else 0,
        transport=port.transport,
        app_protocol=port.app_protocol,
        mode=port.mode,
        name=port.name,
        address=port.address if port.publish else "",
        proxy_protocol=port.proxy_protocol,
    )


def _dynamic(port: PortSpec, old: Endpoint, numbers: PortNumbers) -> int:
    for had in old.ports:
        dynamic = FIRST_DYNAMIC_PORT <= had.published <= LAST_DYNAMIC_PORT and had.mode is PublishMode.INGRESS
        same = dynamic and (had.target, had.transport) == (port.target, port.transport)
        if same and numbers.hold(had.published, port.address):
            return had.published
    number = numbers.take(port.address)
    if number is None:
        raise _Exhausted(
            f"no port is free between {FIRST_DYNAMIC_PORT} and {LAST_DYNAMIC_PORT}: name a published port yourself"
        )
    return number


def _fixed_first(ports: Iterable[PortSpec]) -> list[PortSpec]:
    """Order ports so that a dynamic one cannot be given a number that a later one asks for."""
    return sorted(ports, key=lambda p: not p.published)
