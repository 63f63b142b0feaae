"""The rules for how a service is reached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from swarmpy.errors import Problem
from swarmpy.model.endpoints import AppProtocol, PublishMode, Transport
from swarmpy.model.spec import EndpointSpec, PortSpec
from swarmpy.model.states import EndpointMode, word
from swarmpy.model.validate.checks import unsupported

_HIGHEST: Final = 65_535


def check_endpoint(endpoint: EndpointSpec) -> Iterator[Problem]:
    """Check each port, then the ports against each other."""
    published: dict[tuple[int, Transport], int] = {}
    targets: dict[tuple[int, Transport], int] = {}
    for number, port in enumerate(endpoint.ports):
        path = f"endpoint.ports[{number}]"
        yield from _port(path, port)
        name = f"{port.published}/{word(port.transport)}"
        first = published.setdefault((port.published, port.transport), number) if port.published else number
        if first != number:
            yield Problem(f"{path}.published", f"{name} is published by ports[{first}] already: choose another one")
        first = targets.setdefault((port.target, port.transport), number)
        if first != number:
            yield Problem(
                f"{path}.target",
                f"{port.target}/{word(port.transport)} is the target of ports[{first}] already: drop one",
            )
        if endpoint.mode is EndpointMode.DNSRR and port.publish and port.mode is PublishMode.INGRESS:
            yield Problem(
                f"{path}.mode", "a service with endpoint mode dnsrr cannot publish ports: use endpoint mode vip"
            )


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
    if port.transport is not Transport.TCP:
        if port.app_protocol is AppProtocol.HTTP:
            yield Problem(f"{path}.app_protocol", "http needs tcp: use protocol http alone")
        yield unsupported(f"{path}.transport", f"the protocol {word(port.transport)} is")
    if port.mode is PublishMode.HOST:
        yield unsupported(f"{path}.mode", "publishing in mode host is")
    if port.address:
        yield unsupported(f"{path}.address", "publishing on a chosen address is")
