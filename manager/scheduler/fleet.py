"""What the scheduler knows of the nodes: room, tasks and recent failures, kept up to date change by change. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

from swarmpy.model.endpoints import PublishMode, Transport, addresses_meet
from swarmpy.model.node import Node
from swarmpy.model.service import ServiceVersion
from swarmpy.model.spec import NO_RESOURCES, Resources
from swarmpy.model.task import Task

FAILURE_WINDOW_S: Final = 300.0
FAILURES_TO_AVOID: Final = 5

HostPortKey = tuple[int, Transport, str]
"""A port that a task takes of its node: number, transport, address (empty: the node's data address)."""


@dataclass(frozen=True, slots=True)
class Need:
    """What one task takes of its node."""

    service_id: str
    version_id: str
    reservations: Resources = NO_RESOURCES
    host_ports: tuple[HostPortKey, ...] = ()


def need_of(version: ServiceVersion) -> Need:
    """Return what each task of this version takes."""
    on_host = [p for p in version.ports if p.mode is PublishMode.HOST and p.published]
    ports = tuple((p.published, p.transport, p.address) for p in on_host)
    return Need(version.service_id, version.id, version.task.reservations, ports)


@dataclass(slots=True)
class NodeInfo:
    """One node with what is on it. `nano_cpus` and `memory_bytes` are what is not reserved."""

    node: Node
    nano_cpus: int
    memory_bytes: int
    tasks: int = 0
    of_service: Counter[str] = field(default_factory=Counter)
    of_version: Counter[str] = field(default_factory=Counter)
    host_ports: Counter[HostPortKey] = field(default_factory=Counter)
    failures: dict[str, deque[float]] = field(default_factory=dict)

    def has_taken(self, wanted: HostPortKey) -> bool:
        """Whether a task here has this port, on an address that is, or may be, the same."""
        return any(held[:2] == wanted[:2] and addresses_meet(held[2], wanted[2]) for held in self.host_ports)

    def fails_often(self, version_id: str, now_s: float) -> bool:
        """Whether tasks of this version failed here 5 times or more in the last 5 minutes (wall seconds)."""
        # Those from before this manager led are of the nodes' clocks, and need not be in order.
        times = self.failures.get(version_id, ())
        return sum(at >= now_s - FAILURE_WINDOW_S for at in times) >= FAILURES_TO_AVOID


class Fleet:
    """All nodes, and which task holds what where."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self._placed: dict[str, str] = {}
        # By node, its tasks: also those of nodes that are not known (yet).
        self._held: dict[str, dict[str, Need]] = {}

    def set_node(self, node: Node) -> None:
        """Add a node, or take in what changed of it."""
        have = node.description.resources
        known = self.nodes.get(node.id)
        if known is None:
            info = NodeInfo(node, have.nano_cpus, have.memory_bytes)
            self.nodes[node.id] = info
            for need in self._held.get(node.id, {}).values():
                _count(info, need, 1)
            return
        had = known.node.description.resources
        known.nano_cpus += have.nano_cpus - had.nano_cpus
        known.memory_bytes += have.memory_bytes - had.memory_bytes
        known.node = node

    def remove_node(self, node_id: str) -> None:
        self.nodes.pop(node_id, None)

    def place(self, task_id: str, node_id: str, need: Need) -> None:
        """Count a task on its node; once, however often it is said."""
        held = self._placed.get(task_id)
        if held is not None:
            if held == node_id:
                return
            self.release(task_id)
        self._placed[task_id] = node_id
        self._held.setdefault(node_id, {})[task_id] = need
        info = self.nodes.get(node_id)
        if info is not None:
            _count(info, need, 1)

    def release(self, task_id: str) -> bool:
        """Give back what a task held; tell whether it held anything."""
        node_id = self._placed.pop(task_id, None)
        if node_id is None:
            return False
        tasks = self._held[node_id]
        need = tasks.pop(task_id)
        if not tasks:
            del self._held[node_id]
        info = self.nodes.get(node_id)
        if info is not None:
            _count(info, need, -1)
        return True

    def note_failure(self, task: Task, at_s: float) -> None:
        """Remember that a task failed or was rejected on its node, at `at_s` in wall seconds of this machine."""
        info = self.nodes.get(task.node_id)
        if info is not None:
            times = info.failures.setdefault(task.service_version_id, deque(maxlen=FAILURES_TO_AVOID))
            times.append(at_s)

    def forget_version(self, version_id: str) -> None:
        """Forget the failures of a service version that is gone."""
        for info in self.nodes.values():
            info.failures.pop(version_id, None)


def _count(info: NodeInfo, need: Need, sign: int) -> None:
    info.tasks += sign
    info.nano_cpus -= sign * need.reservations.nano_cpus
    info.memory_bytes -= sign * need.reservations.memory_bytes
    for counter, key in ((info.of_service, need.service_id), (info.of_version, need.version_id)):
        counter[key] += sign
        if not counter[key]:
            del counter[key]
    for port in need.host_ports:
        info.host_ports[port] += sign
        if not info.host_ports[port]:
            del info.host_ports[port]
