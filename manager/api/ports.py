"""Which ports a service may have beside the others, and which of them its tasks are made with."""

from __future__ import annotations

import msgspec

from manager.api.attachments import check_level
from manager.store.tables import SERVICES
from manager.store.view import View
from swarmpy.errors import Code, SwarmError
from swarmpy.model import features
from swarmpy.model.endpoints import PublishMode, ServicePort, Transport, addresses_meet
from swarmpy.model.spec import PortSpec, ServiceSpec
from swarmpy.model.states import word


def check_ports(view: View, spec: ServiceSpec, service_id: str) -> None:
    """Refuse a port that another service publishes, or was given, and what a manager could not read.

    Two services may publish a port in mode host: their tasks are on different nodes then.

    Raises:
        SwarmError: ALREADY_EXISTS; FAILED_PRECONDITION while a manager's release is too old.
    """
    if any(map(_is_new, spec.endpoint.ports)):
        check_level(view, "services with such ports", features.PORTS)
    wanted = [port for port in spec.endpoint.ports if port.published]
    if not wanted:
        return
    numbers = {port.published for port in wanted}
    for other in view.all(SERVICES):
        if other.id == service_id:
            continue
        for theirs in (*other.spec.endpoint.ports, *other.endpoint.ports):
            if theirs.published not in numbers:
                continue
            for port in wanted:
                if _clash(port, theirs):
                    how = " in mode host" if theirs.mode is PublishMode.HOST else ""
                    raise SwarmError(
                        Code.ALREADY_EXISTS,
                        f"port {port.published}/{word(port.transport)} is already published{how} by service "
                        f"{other.name}: choose another port, or remove that service",
                    )


def target_ports(spec: ServiceSpec) -> tuple[ServicePort, ...]:
    """Return the ports that a task listens on, each once; where they are published matters on its node only."""
    ports: dict[tuple[int, Transport], ServicePort] = {}
    for port in spec.endpoint.ports:
        key = (port.target, port.transport)
        if port.publish and port.mode is PublishMode.HOST:
            ports[key] = ServicePort(
                target=port.target,
                transport=port.transport,
                published=port.published,
                mode=PublishMode.HOST,
                address=port.address,
            )
        else:
            ports.setdefault(key, ServicePort(target=port.target, transport=port.transport))
    return tuple(ports[key] for key in sorted(ports))


def _is_new(port: PortSpec) -> bool:
    """Whether earlier releases refused such a port, and so would misread it."""
    plain = msgspec.structs.replace(port, transport=Transport.TCP, mode=PublishMode.INGRESS, address="")
    return port != plain or port.proxy_protocol != 0


def _clash(one: ServicePort, other: ServicePort) -> bool:
    return (
        one.published == other.published
        and one.transport is other.transport
        and addresses_meet(one.address, other.address)
        and not PublishMode.HOST is one.mode is other.mode
    )
