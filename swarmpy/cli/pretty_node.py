"""`node inspect --pretty`: a node for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from swarmpy import units
from swarmpy.cli.human import timestamp
from swarmpy.model.node import Node
from swarmpy.model.states import word

_WIDTH = 24


def pretty_node(node: Node) -> str:
    """Return the lines about a node."""
    return "\n".join(_lines(node))


def _lines(node: Node) -> Iterator[str]:
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
        yield "Manager Status:"
        yield _line("Address", node.manager.addr, 1)
        yield _line("Raft Status", "Reachable" if node.manager.reachable else "Unreachable", 1)
        yield _line("Leader", "Yes" if node.manager.leader else "No", 1)
    yield "Platform:"
    yield _line("Operating System", described.platform.os, 1)
    yield _line("Architecture", described.platform.arch, 1)
    yield "Resources:"
    yield _line("CPUs", f"{described.resources.nano_cpus / 1e9:g}", 1)
    yield _line("Memory", units.human_bytes(described.resources.memory_bytes), 1)
    yield _line("Capabilities", ", ".join(described.capabilities) or "none")
    yield _line("Engine Version", described.engine_version)
    yield from _pairs("Engine Labels", described.engine_labels)


def _line(name: str, value: str, indent: int = 0) -> str:
    return f"{(' ' * indent + name + ':').ljust(_WIDTH)}{value}".rstrip()


def _pairs(name: str, values: Mapping[str, str]) -> Iterator[str]:
    if values:
        yield f"{name}:"
        yield from (f" - {key}={value}" for key, value in sorted(values.items()))
