"""`node inspect --pretty`: a node for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from swarmpy import units
from swarmpy.cli.human import timestamp
from swarmpy.model.node import ManagerStatus, Node
from swarmpy.model.states import word

if TYPE_CHECKING:
    from swarmpy.client import ConsensusMember

_WIDTH = 24


def pretty_node(node: Node, member: ConsensusMember | None = None) -> str:
    """Return the lines about a node; `member` is what the managers' leader knows of a manager."""
    return "\n".join(_lines(node, member))


def _lines(node: Node, member: ConsensusMember | None) -> Iterator[str]:
    described = node.description
    yield _line("ID", node.id)
    if node.spec.name:
        yield _line("Name", node.spec.name)
    yield from _pairs("Labels", node.spec.labels)
    yield _line("Hostname", described.hostname)
    yield _line("Joined at", timestamp(node.created_at))
    yield "Status:"
    yield _line("State", word(node.state).title(), 1)
    if node.message:
        yield _line("Message", node.message, 1)
    yield _line("Availability", word(node.spec.availability).title(), 1)
    yield _line("Address", node.addr, 1)
    if node.data_addr and node.data_addr != node.addr:
        yield _line("Data Address", node.data_addr, 1)
    if node.manager is not None:
        yield from _manager(node.manager, member)
    yield "Platform:"
    yield _line("Operating System", described.platform.os, 1)
    yield _line("Architecture", described.platform.arch, 1)
    yield "Resources:"
    yield _line("CPUs", f"{described.resources.nano_cpus / 1e9:g}", 1)
    yield _line("Memory", units.human_bytes(described.resources.memory_bytes), 1)
    yield _line("Capabilities", ", ".join(described.capabilities) or "none")
    yield _line("Engine Version", described.engine_version)
    if described.container_runtime:
        yield _line("Container Runtime", described.container_runtime)
        yield _line("Storage Driver", described.storage_driver)
    yield from _pairs("Engine Labels", described.engine_labels)


def _manager(manager: ManagerStatus, member: ConsensusMember | None) -> Iterator[str]:
    yield "Manager Status:"
    yield _line("Address", manager.addr, 1)
    yield _line("Raft Status", "Reachable" if manager.reachable else "Unreachable", 1)
    yield _line("Leader", "Yes" if manager.leader else "No", 1)
    if manager.learner:
        yield _line("Learner", "Yes (it has no vote yet)", 1)
    if member is None or not member.state:
        return
    yield _line("Lag", f"{member.lag} entries", 1)
    if member.last_contact_s is not None:
        yield _line("Last Contact", f"{member.last_contact_s:.1f} s ago", 1)


def _line(name: str, value: str, indent: int = 0) -> str:
    return f"{(' ' * indent + name + ':').ljust(_WIDTH)}{value}".rstrip()


def _pairs(name: str, values: Mapping[str, str]) -> Iterator[str]:
    if values:
        yield f"{name}:"
        yield from (f" - {key}={value}" for key, value in sorted(values.items()))
