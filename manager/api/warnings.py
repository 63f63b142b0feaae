"""What is accepted but will wait: said when a service is created, and again by the scheduler in `service ps`."""

from __future__ import annotations

from manager.store.tables import NODES
from manager.store.view import View
from swarmpy.model.needs import needed_capabilities
from swarmpy.model.node import Node
from swarmpy.model.spec import ServiceSpec


def service_warnings(view: View, spec: ServiceSpec) -> list[str]:
    """Return a sentence for each reason why no present node could ever run the service's tasks."""
    nodes = [n for n in view.all(NODES) if n.description.hostname]
    if not nodes:
        return []
    warnings = [
        f"no node can provide {capability.value}: the tasks will wait until one joins that can"
        for capability in needed_capabilities(spec.task)
        if not any(capability in n.description.capabilities for n in nodes)
    ]
    reserved = spec.task.reservations
    if not any(_holds(n, reserved.nano_cpus, reserved.memory_bytes) for n in nodes):
        warnings.append(
            "no node is large enough for the reservation "
            f"({reserved.nano_cpus / 1e9:g} CPUs, {reserved.memory_bytes} bytes of memory): the tasks will wait"
        )
    return warnings


def _holds(node: Node, nano_cpus: int, memory_bytes: int) -> bool:
    have = node.description.resources
    return have.nano_cpus >= nano_cpus and have.memory_bytes >= memory_bytes
