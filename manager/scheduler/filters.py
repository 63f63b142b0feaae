"""Where a task may go. Each filter explains itself: its sentence is what `service ps` shows. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from manager.scheduler.fleet import Need, NodeInfo, need_of
from swarmpy.model.constraints import Constraint, matches, parse
from swarmpy.model.needs import needed_capabilities
from swarmpy.model.node import Capability, Node
from swarmpy.model.service import ServiceVersion
from swarmpy.model.states import Availability, NodeState

Reason = str


@dataclass(frozen=True)
class Demand:
    """What a group of tasks of one service version asks of a node."""

    version: ServiceVersion
    need: Need
    constraints: tuple[Constraint, ...]
    capabilities: tuple[Capability, ...]

    @classmethod
    def of(cls, version: ServiceVersion) -> Demand:
        """Read a service version; its constraints were validated when it was stored."""
        placement = version.task.placement
        return cls(
            version,
            need_of(version),
            tuple(parse(text) for text in placement.constraints),
            needed_capabilities(version.task),
        )


Filter = Callable[[Demand, NodeInfo], Reason | None]


def accepts_tasks(node: Node) -> bool:
    """Tell whether a node takes new tasks at all."""
    return node.state is NodeState.READY and node.spec.availability is Availability.ACTIVE


def ready(_demand: Demand, info: NodeInfo) -> Reason | None:
    if info.node.state is not NodeState.READY:
        return "not ready"
    if info.node.spec.availability is not Availability.ACTIVE:
        return "not available for new tasks"
    return None


def capability(demand: Demand, info: NodeInfo) -> Reason | None:
    have = info.node.description.capabilities
    lacking = [c.value for c in demand.capabilities if c not in have]
    return f"no capability {', '.join(lacking)}" if lacking else None


def constraint(demand: Demand, info: NodeInfo) -> Reason | None:
    unmet = not all(matches(c, info.node) for c in demand.constraints)
    return "scheduling constraints not satisfied" if unmet else None


def platform(demand: Demand, info: NodeInfo) -> Reason | None:
    wanted = demand.version.task.placement.platforms
    have = info.node.description.platform
    if not wanted or any(p.casefold() in (have.os, f"{have.os}/{have.arch}") for p in wanted):
        return None
    return "unsupported platform"


def resource(demand: Demand, info: NodeInfo) -> Reason | None:
    reserved = demand.need.reservations
    lacks = info.nano_cpus < reserved.nano_cpus or info.memory_bytes < reserved.memory_bytes
    return "insufficient resources" if lacks else None


def host_port(demand: Demand, info: NodeInfo) -> Reason | None:
    taken = any(map(info.has_taken, demand.need.host_ports))
    return "host-mode port already in use" if taken else None


def max_replicas(demand: Demand, info: NodeInfo) -> Reason | None:
    """Cap the tasks of one version: in a start-first update the old task must not keep the new one out."""
    cap = demand.version.task.placement.max_replicas
    return "max replicas per node reached" if cap and info.of_version[demand.version.id] >= cap else None


# In the order in which they are said; the last three are the ones that placing a task can change.
LASTING: tuple[Filter, ...] = (ready, capability, constraint, platform)
CHANGING: tuple[Filter, ...] = (resource, host_port, max_replicas)


def why_not(demand: Demand, info: NodeInfo) -> Reason | None:
    """Return why a node cannot take one more task of this version, or None if it can."""
    for test in (*LASTING, *CHANGING):
        reason = test(demand, info)
        if reason is not None:
            return reason
    return None


def room(demand: Demand, info: NodeInfo, most: int) -> int:
    """Return how many more tasks of this version an otherwise fitting node can take, at most `most`."""
    reserved, cap = demand.need.reservations, demand.version.task.placement.max_replicas
    if reserved.nano_cpus:
        most = min(most, info.nano_cpus // reserved.nano_cpus)
    if reserved.memory_bytes:
        most = min(most, info.memory_bytes // reserved.memory_bytes)
    if cap:
        most = min(most, cap - info.of_version[demand.version.id])
    if demand.need.host_ports:
        most = min(most, 1)
    return max(0, most)
