"""What changes in the state when a group of managers begins anew with one of them; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from manager.store import codec
from manager.store.state import State
from manager.store.tables import CLUSTERS, NODES, Table
from swarmpy.errors import precondition
from swarmpy.model import features
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from swarmpy.model.states import NodeRole, NodeState


@dataclass(frozen=True)
class Founder:
    """The only manager from now on. `hostname` is that of a node that the cluster does not know yet."""

    node_id: str
    addr: str
    hostname: str = ""
    feature_level: int = features.LEVEL


@dataclass(frozen=True)
class Anew:
    """The member that the founder is, and the former managers, as their rows were."""

    member_id: int
    given_up: tuple[Node, ...]


def begin_anew(state: State, index: int, founder: Founder, *, now_s: float) -> Anew:
    """Make `founder` the only manager, by one transaction at log entry `index`.

    Others that were managers are workers that are down: those that still run come back as such. It is an entry like
    any other, built on the state before it, so that nothing which was made for the old group can be applied after it.

    Raises:
        SwarmError: FAILED_PRECONDITION: the state has no cluster, or one of a newer release, or not this node.
    """
    cluster = cluster_of(state)
    if cluster.feature_level > founder.feature_level:
        raise precondition(
            f"the state is of feature level {cluster.feature_level}, this release knows {founder.feature_level}: "
            "install a newer release of swarmpy on this node"
        )
    nodes = list(state.rows(NODES).all())
    member_id = cluster.next_raft_id
    given_up = tuple(sorted((n for n in nodes if n.manager and n.id != founder.node_id), key=lambda n: n.name))
    own = _own(state.rows(NODES).get(founder.node_id), founder, member_id, now_s)
    revision = state.revision + 1
    changes = [
        _put(CLUSTERS, msgspec.structs.replace(cluster, next_raft_id=member_id + 1), revision),
        *(
            _put(NODES, msgspec.structs.replace(node, spec_revision=revision), revision)
            for node in (own, *(_without_manager(node, now_s) for node in given_up))
        ),
    ]
    data = codec.encode_entry(state.digest, revision, [codec.EncodedTransaction(changes)])
    state.apply(index, data)
    return Anew(member_id, given_up)


def cluster_of(state: State) -> Cluster:
    """Return the cluster's row. FAILED_PRECONDITION: there is none."""
    for cluster in state.rows(CLUSTERS).all():
        return cluster
    raise precondition("this manager has not received the state of the swarm yet: use another manager's")


def _own(known: Node | None, founder: Founder, member_id: int, now_s: float) -> Node:
    status = ManagerStatus(
        raft_id=member_id, addr=founder.addr, leader=True, reachable=True, feature_level=founder.feature_level
    )
    if known is not None:
        spec = msgspec.structs.replace(known.spec, role=NodeRole.MANAGER)
        return msgspec.structs.replace(known, spec=spec, manager=status, updated_at=now_s)
    if not founder.hostname:
        raise precondition("the swarm's state on this node does not hold this node: it was removed from the swarm")
    return Node(
        id=founder.node_id,
        spec=NodeSpec(role=NodeRole.MANAGER),
        description=NodeDescription(hostname=founder.hostname),
        state=NodeState.DOWN,
        message="it has not connected yet",
        created_at=now_s,
        updated_at=now_s,
        manager=status,
    )


def _without_manager(node: Node, now_s: float) -> Node:
    return msgspec.structs.replace(
        node,
        spec=msgspec.structs.replace(node.spec, role=NodeRole.WORKER),
        manager=None,
        state=NodeState.DOWN,
        message="it was a manager before the swarm began anew with one",
        updated_at=now_s,
    )


def _put(table: Table[Any], row: Any, revision: int) -> codec.EncodedChange:
    return codec.encode_change(table, row.id, msgspec.structs.replace(row, version=revision))
