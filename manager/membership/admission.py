"""The use cases of joining the group and leaving it, on the leader."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import msgspec
import structlog

from manager.membership.group import Group, members_of, why_not_without
from manager.raft.types import ConfChange, ConfChangeKind, MemberChange
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import ManagerStatus, Node, NodeSpec, with_spec
from swarmpy.model.states import NodeRole

log = structlog.get_logger(__name__)

RETRY_S: Final = 0.1
PATIENCE_S: Final = 15.0
SPARED_WITHIN_S: Final = 5.0


@dataclass(frozen=True)
class Placed:
    """A new member: its id, and who else is in the group as (member id, node id, `host:port`)."""

    member_id: int
    members: tuple[tuple[int, str, str], ...]
    feature_level: int


class Placement:
    """Takes managers into the group, and lets them go.

    Args:
        lock: held while the group changes; shared with the `members` loop, which does the rest of both.
    """

    def __init__(self, store: Store, group: Group, clock: Clock, lock: asyncio.Lock) -> None:
        self._store, self._group, self._clock, self._lock = store, group, clock, lock

    async def join(self, node_id: str, addr: str, feature_level: int, request_id: str) -> Placed:
        """Make a node's manager a learner; the same request again gives the same member.

        A node that has a member already has lost its log: it gets a new member, since the old one may have voted.

        Raises:
            SwarmError: PERMISSION_DENIED, it is no manager's node; FAILED_PRECONDITION, its release is too old.
        """
        now_s = self._clock.now()

        def place(tx: Transaction) -> int:
            node, cluster = _manager(tx, node_id), _cluster(tx)
            if feature_level < cluster.feature_level:
                raise precondition(
                    f"this manager's release has feature level {feature_level}, the cluster is at "
                    f"{cluster.feature_level}: install a newer release of swarmpy on this node"
                )
            member_id = cluster.next_raft_id
            status = ManagerStatus(raft_id=member_id, addr=addr, learner=True, feature_level=feature_level)
            tx.update(CLUSTERS, msgspec.structs.replace(cluster, next_raft_id=member_id + 1))
            tx.update(NODES, msgspec.structs.replace(node, manager=status, updated_at=now_s))
            return member_id

        async with self._lock:
            member_id = await self._store.update(place, request_id=request_id)
            if member_id not in members_of(self._group.status().conf):
                await self._add_learner(member_id)
        log.info("manager_joined", node=node_id, member=member_id, addr=addr)
        view = self._store.view()
        members = tuple(
            (node.manager.raft_id, node.id, node.manager.addr) for node in view.all(NODES) if node.manager is not None
        )
        return Placed(member_id, members, next(iter(view.all(CLUSTERS))).feature_level)

    async def leave(self, node_id: str, request_id: str) -> None:
        """Let a manager go that leaves the cluster; returns once it is in the group no more.

        Raises:
            SwarmError: FAILED_PRECONDITION, no quorum would be left; UNAVAILABLE, it has not gone in time.
        """
        node = self._store.view().get(NODES, node_id)
        if node is None or node.manager is None:
            return
        await self._spared(node.manager.raft_id, node.name)
        now_s = self._clock.now()

        def demote(tx: Transaction) -> None:
            present = tx.get(NODES, node_id)
            if present is not None and present.spec.role is NodeRole.MANAGER:
                tx.update(NODES, with_spec(present, _as_worker(present.spec), revision=tx.revision, now_s=now_s))

        await self._store.update(demote, request_id=request_id)
        until_s = self._clock.monotonic() + PATIENCE_S
        while self._is_member(node_id):
            if self._clock.monotonic() >= until_s:
                raise SwarmError(Code.UNAVAILABLE, f"{node.name} was not let go within {PATIENCE_S:g} s: try again")
            await self._clock.sleep(RETRY_S)

    async def _spared(self, member_id: int, name: str) -> None:
        """Return once the others can do without a member: one of them may be about to come back."""
        until_s = self._clock.monotonic() + SPARED_WITHIN_S
        while (reason := why_not_without(self._group.status(), member_id, name)) is not None:
            if self._clock.monotonic() >= until_s or len(self._group.status().conf.voters) == 1:
                raise precondition(reason)
            await self._clock.sleep(RETRY_S)

    def _is_member(self, node_id: str) -> bool:
        node = self._store.view().get(NODES, node_id)
        return node is not None and node.manager is not None

    async def _add_learner(self, member_id: int) -> None:
        """Add a member, once a change that is under way is through."""
        change = ConfChange(changes=(MemberChange(ConfChangeKind.ADD_LEARNER, member_id),))
        until_s = self._clock.monotonic() + PATIENCE_S
        while True:
            try:
                await self._group.change_members(change)
            except SwarmError as error:
                if error.code is not Code.FAILED_PRECONDITION or self._clock.monotonic() >= until_s:
                    raise
                await self._clock.sleep(RETRY_S)
            else:
                return


def _manager(tx: Transaction, node_id: str) -> Node:
    node = tx.get(NODES, node_id)
    if node is None:
        raise SwarmError(Code.PERMISSION_DENIED, "this node was removed from the cluster")
    if node.spec.role is not NodeRole.MANAGER:
        raise SwarmError(Code.PERMISSION_DENIED, f"node {node.name} is to be a worker: promote it first")
    return node


def _cluster(tx: Transaction) -> Cluster:
    for cluster in tx.all(CLUSTERS):
        return cluster
    raise SwarmError(Code.UNAVAILABLE, "the cluster is being created: try again in a moment")


def _as_worker(spec: NodeSpec) -> NodeSpec:
    return msgspec.structs.replace(spec, role=NodeRole.WORKER)
