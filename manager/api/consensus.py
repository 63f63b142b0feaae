"""The use case of looking at how the managers agree: works without a quorum, so it reads nothing but this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from manager.raft.types import PeerStatus, Role, Status
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.errors import SwarmError
from swarmpy.model.node import Node

log = structlog.get_logger(__name__)

ASK_WITHIN_S: Final = 2.0


class AskLeader(Protocol):
    """Asks another manager the same question."""

    def __call__(self, address: str, timeout_s: float) -> Awaitable[pb.GetConsensusResponse]:
        """Return the answer of the manager at `address`; SwarmError if there is none in time."""


class ConsensusReport:
    """What this manager knows of the group, and what the leader adds.

    Args:
        status: returns the state of this member.
        ask: None on a manager that has nobody to ask.
    """

    def __init__(self, store: Store, node_id: str, status: Callable[[], Status], ask: AskLeader | None = None) -> None:
        self._store, self._node_id, self._status, self._ask = store, node_id, status, ask

    @property
    def term(self) -> int:
        """The term that this manager is in."""
        return self._status().term

    async def get(self) -> pb.GetConsensusResponse:
        """Return this manager's own state, with the members as the leader sees them where it can be asked."""
        status = self._status()
        nodes = {n.manager.raft_id: n for n in self._store.view().all(NODES) if n.manager is not None}
        leader = nodes.get(status.leader_id)
        response = pb.GetConsensusResponse(
            node_id=self._node_id,
            member_id=status.member_id,
            role=status.role.value,
            term=status.term,
            leader_id=status.leader_id,
            leader_addr=leader.manager.addr if leader is not None and leader.manager is not None else "",
            first_index=status.first_index,
            last_index=status.last_index,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            log_bytes=status.log_bytes,
            log_segments=status.log_segments,
            snapshot_index=status.snapshot.index,
            log_full=status.log_full or "",
            feature_level=next((c.feature_level for c in self._store.view().all(CLUSTERS)), 0),
        )
        if status.role is Role.LEADER:
            response.members.extend(_peer(peer, status, nodes) for peer in status.peers)
        elif not await self._take_from_leader(response):
            response.members.extend(_known(member_id, status, nodes) for member_id in _members(status))
        return response

    async def _take_from_leader(self, response: pb.GetConsensusResponse) -> bool:
        if not response.leader_addr or self._ask is None:
            response.problem = "no manager leads, as far as this one knows"
            return False
        try:
            answer = await self._ask(response.leader_addr, ASK_WITHIN_S)
        except SwarmError as error:
            response.problem = f"the leader at {response.leader_addr} does not answer: {error.message}"
            return False
        if answer.role != Role.LEADER.value:
            response.problem = f"the manager at {response.leader_addr} does not lead any more"
            return False
        response.members.extend(answer.members)
        return True


def _members(status: Status) -> list[int]:
    conf = status.conf
    return sorted({*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next})


def _known(member_id: int, status: Status, nodes: dict[int, Node]) -> pb.ConsensusMember:
    member = pb.ConsensusMember(
        member_id=member_id,
        voter=member_id in status.conf.voters or member_id in status.conf.voters_outgoing,
        leader=member_id == status.leader_id,
    )
    node = nodes.get(member_id)
    if node is not None and node.manager is not None:
        member.node_id, member.hostname, member.addr = node.id, node.name, node.manager.addr
    return member


def _peer(peer: PeerStatus, status: Status, nodes: dict[int, Node]) -> pb.ConsensusMember:
    member = _known(peer.member_id, status, nodes)
    member.active, member.state, member.match = peer.active, peer.state.value, peer.match
    member.lag = max(0, status.last_index - peer.match)
    if peer.silent_s is not None and peer.member_id != status.member_id:
        member.last_contact_s = peer.silent_s
    return member
