"""The names in a node's certificate, which say its cluster, its role and its id.

A dialler overrides the target name with one of these, so that TLS itself checks role and cluster, whatever address
the other side has at the moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from swarmpy.model.states import NodeRole, word


@dataclass(frozen=True)
class NodeName:
    """What a certificate says of its holder."""

    cluster_id: str
    node_id: str
    role: NodeRole


def role_name(cluster_id: str, role: NodeRole) -> str:
    """Return the name that every node of this role and cluster has: `manager.<cluster>.swarmpy`."""
    return f"{word(role)}.{cluster_id}.swarmpy"


def node_name(name: NodeName) -> str:
    """Return the name that one node alone has: `<node>.manager.<cluster>.swarmpy`."""
    return f"{name.node_id}.{role_name(name.cluster_id, name.role)}"


def spiffe_uri(name: NodeName) -> str:
    return f"spiffe://{name.cluster_id}.swarmpy/{word(name.role)}/{name.node_id}"


def parse_uri(uri: str) -> NodeName | None:
    """Return what a SPIFFE URI of ours says, or None if it is not one of ours."""
    prefix, suffix = "spiffe://", ".swarmpy"
    domain, _, path = uri.removeprefix(prefix).partition("/")
    role, _, node_id = path.partition("/")
    roles = {word(r): r for r in NodeRole}
    if not uri.startswith(prefix) or not domain.endswith(suffix) or role not in roles or not node_id:
        return None
    return NodeName(domain.removesuffix(suffix), node_id, roles[role])


def from_alternative_names(names: Iterable[bytes | str]) -> NodeName | None:
    """Return the holder that the subject alternative names of a verified certificate name, if any does."""
    for name in names:
        found = parse_uri(name.decode("ascii", "replace") if isinstance(name, bytes) else name)
        if found is not None:
            return found
    return None
