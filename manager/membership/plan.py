"""What is to be done next so that the group becomes what the nodes' roles say; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from manager.membership.group import active_of, may_do_without, members_of
from manager.raft.types import PeerState, Status
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import Node
from swarmpy.model.states import NodeRole

CAUGHT_UP_ENTRIES: Final = 100
"""A learner that is no further behind gets its vote: what is left is there before the change is committed."""


@dataclass(frozen=True)
class Admit:
    """Take in, as a learner, whoever was given his place by a leader that then lost the lead."""

    member_id: int


@dataclass(frozen=True)
class Promote:
    """Give a learner its vote."""

    member_id: int


@dataclass(frozen=True)
class Remove:
    """Let a member go."""

    member_id: int
    reason: str


@dataclass(frozen=True)
class HandOver:
    """Give the lead away: this manager is to be let go."""


@dataclass(frozen=True)
class Stuck:
    """A member should go, and its going would leave no quorum."""

    member_id: int
    reason: str


Step: TypeAlias = Admit | Promote | Remove | HandOver | Stuck


def next_step(nodes: Iterable[Node], status: Status) -> Step | None:
    """Return the one change of the members that comes next; None where all is as it should be.

    Args:
        status: of this member, which leads.
    """
    if status.conf.voters_outgoing:
        return None  # a change is under way
    by_member = {node.manager.raft_id: node for node in nodes if node.manager is not None}
    for member_id in sorted(by_member.keys() - members_of(status.conf)):
        if not _why_out(by_member[member_id]):
            return Admit(member_id)
    peers = {peer.member_id: peer for peer in status.peers}
    for member_id in status.conf.learners:
        reason = _why_out(by_member.get(member_id))
        if reason:
            return Remove(member_id, reason)
        peer = peers.get(member_id)
        if peer is None or not peer.active or peer.state is not PeerState.REPLICATE:
            continue
        if peer.match + CAUGHT_UP_ENTRIES >= status.commit_index:
            return Promote(member_id)
    stuck: Stuck | None = None
    for member_id in status.conf.voters:
        reason = _why_out(by_member.get(member_id))
        if not reason:
            continue
        if not may_do_without(status, (member_id,)):
            stuck = Stuck(member_id, reason)
        elif member_id == status.member_id:
            return HandOver()
        else:
            return Remove(member_id, reason)
    return stuck


def _why_out(node: Node | None) -> str:
    if node is None:
        return "no node has this member any more"
    return "" if node.spec.role is NodeRole.MANAGER else f"node {node.name} is to be a worker"


def rows_in_step(nodes: Iterable[Node], status: Status) -> list[Node]:
    """Return the rows that say something else of their manager than Raft does, as they should be.

    One that is to be a manager and is no member yet is about to be admitted.
    """
    members, learners = members_of(status.conf), frozenset(status.conf.learners)
    active = active_of(status)
    changed: list[Node] = []
    for node in nodes:
        if node.manager is None:
            continue
        member_id = node.manager.raft_id
        manager = None if _why_out(node) else node.manager
        if member_id in members:
            manager = msgspec.structs.replace(
                node.manager,
                leader=member_id == status.member_id,
                reachable=member_id in active,
                learner=member_id in learners,
            )
        if manager != node.manager:
            changed.append(msgspec.structs.replace(node, manager=manager))
    return changed


def dead_managers(
    nodes: Iterable[Node], status: Status, silent_since_s: Mapping[int, float], now_s: float, after_s: float
) -> list[Node]:
    """Return the first manager that was silent for so long that it is to become a worker, as its row should be.

    One at a time: whether the next may follow is seen once this one is gone.

    Args:
        silent_since_s: member -> monotonic time at which it was found silent.
        after_s: 0 is never.
    """
    if not after_s:
        return []
    for node in nodes:
        if node.manager is None or node.spec.role is not NodeRole.MANAGER:
            continue
        since_s = silent_since_s.get(node.manager.raft_id)
        if since_s is None or now_s - since_s < after_s or not may_do_without(status, (node.manager.raft_id,)):
            continue
        return [msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, role=NodeRole.WORKER))]
    return []


def risen_level(cluster: Cluster, nodes: Iterable[Node], status: Status) -> int | None:
    """Return the feature level that all members have reached, if it is above the cluster's."""
    levels = {node.manager.raft_id: node.manager.feature_level for node in nodes if node.manager is not None}
    members = members_of(status.conf)
    if not members or not members <= levels.keys():
        return None
    level = min(levels[member_id] for member_id in members)
    return level if level > cluster.feature_level else None
