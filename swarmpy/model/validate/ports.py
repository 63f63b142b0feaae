"""The rules for how a service is reached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import AddressValueError, IPv4Address
from typing import Final

from swarmpy.errors import Problem
from swarmpy.model.endpoints import AppProtocol, PublishMode, Transport, addresses_meet
from swarmpy.model.spec import EndpointSpec, PortSpec
from swarmpy.model.states import EndpointMode, word

MOST_PORTS: Final = 1000
_HIGHEST: Final = 65_535
_PROXY_PROTOCOLS: Final = (1, 2)


def check_endpoint(endpoint: EndpointSpec) -> Iterator[Problem]:
    """Check each port, then the ports against each other."""
    if len(endpoint.ports) > MOST_PORTS:
        yield Problem("endpoint.ports", f"has {len(endpoint.ports)} ports: give at most {MOST_PORTS}")
        return
    for number, port in enumerate(endpoint.ports):
        path = f"endpoint.ports[{number}]"
        yield from _port(path, port)
        yield from _against(path, port, endpoint.ports[:number])
        if endpoint.mode is EndpointMode.DNSRR and port.publish and port.mode is PublishMode.INGRESS:
            yield Problem(
                f"{path}.mode",
                "a service with endpoint mode dnsrr cannot publish ports: use endpoint mode vip, or mode host",
            )


def _against(path: str, port: PortSpec, others: Sequence[PortSpec]) -> Iterator[Problem]:
    """A published port leads to one target; a target may be published more than once, but on its node only once."""
    transport = word(port.transport)
    for number, other in enumerate(others):
        if other.transport is not port.transport:
            continue
        if port.published and port.published == other.published and addresses_meet(port.address, other.address):
            sentence = f"{port.published}/{transport} is published by ports[{number}] already: choose another one"
            yield Problem(f"{path}.published", sentence)
            return
        if port.target != other.target:
            continue
        on_host = PublishMode.HOST is port.mode is other.mode
        if on_host or port.published == other.published or not (port.publish and other.publish):
            sentence = f"{port.target}/{transport} is the target of ports[{number}] already: drop one"
            yield Problem(f"{path}.target", sentence)
            return


def _port(path: str, port: PortSpec) -> Iterator[Problem]:
    if not 1 <= port.target <= _HIGHEST:
        yield Problem(f"{path}.target", f"{port.target} is not a port: give 1 to {_HIGHEST}")
    if not 0 <= port.published <= _HIGHEST:
        yield Problem(
            f"{path}.published", f"{port.published} is not a port: give 1 to {_HIGHEST}, or 0 to have one picked"
        )
    elif port.published and not port.publish:
        yield Problem(
            f"{path}.published", f"{port.published} is given for a port that is not published: drop one of both"
        )
    if port.transport is not Transport.TCP and port.app_protocol is AppProtocol.HTTP:
        yield Problem(f"{path}.app_protocol", "http needs tcp: use protocol http alone")
    yield from _proxy_protocol(f"{path}.proxy_protocol", port)
    yield from _address(path, port)


def _proxy_protocol(path: str, port: PortSpec) -> Iterator[Problem]:
    if port.proxy_protocol not in (0, *_PROXY_PROTOCOLS):
        yield Problem(path, f"{port.proxy_protocol} is no version of the PROXY protocol: use 1 or 2, or 0 for none")
    elif port.proxy_protocol and port.transport is not Transport.TCP:
        yield Problem(path, "the PROXY protocol needs tcp or http: drop it")
    elif port.proxy_protocol and port.mode is PublishMode.HOST:
        yield Problem(path, "in mode host tasks see their clients' addresses anyway: drop the PROXY protocol")


def _address(path: str, port: PortSpec) -> Iterator[Problem]:
    if not port.address:
        return
    if not port.publish:
        yield Problem(f"{path}.address", "is given for a port that is not published: drop one of both")
        return
    try:
        address = IPv4Address(port.address)
    except AddressValueError:
        yield Problem(
            f"{path}.address", f"{port.address!r} is not an address to publish on: give one such as 10.0.0.5 or 0.0.0.0"
        )
        return
    if address.is_multicast or address.is_reserved:
        yield Problem(f"{path}.address", f"{port.address} is no machine's address: give one such as 10.0.0.5")
