"""What the rooms here ask of Raft, and what follows from its answers for quorums; pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

from manager.raft.types import ConfChange, ConfState, PeerState, Status

ANSWERS_WITHIN_TICKS: Final = 5
"""Heartbeats go out and are answered every tick; this many may be late on a busy machine."""


class Group(Protocol):
    """The replicated log as membership sees it."""

    def status(self) -> Status: ...

    async def change_members(self, change: ConfChange) -> ConfState:
        """Return the members once the change is in force.

        Raises:
            SwarmError: NOT_LEADER, UNAVAILABLE; FAILED_PRECONDITION, another change is under way.
        """

    async def transfer(self, to: int = 0) -> None:
        """Hand the lead to another voter (0: the best one); return once this member no longer leads."""


def members_of(conf: ConfState) -> frozenset[int]:
    """Return everybody in the configuration, with a vote or without."""
    return frozenset((*conf.voters, *conf.voters_outgoing, *conf.learners, *conf.learners_next))


def active_of(status: Status) -> frozenset[int]:
    """Return who was heard of lately, the leader itself included. Only a leader knows."""
    return frozenset(peer.member_id for peer in status.peers if peer.active) | {status.member_id}


def answering_of(status: Status) -> frozenset[int]:
    """Return who answers right now, the leader itself included: those that can be counted on.

    `active_of` takes up to a second and a half to notice a death, and a new leader takes all for active at first.
    """
    answering = (
        peer.member_id
        for peer in status.peers
        if peer.active and peer.state is PeerState.REPLICATE and peer.silent_ticks <= ANSWERS_WITHIN_TICKS
    )
    return frozenset(answering) | {status.member_id}


def may_do_without(status: Status, member_ids: Collection[int]) -> bool:
    """Tell whether those left behind by `member_ids` have a quorum that is there."""
    rest = frozenset(status.conf.voters) - frozenset(member_ids)
    return bool(rest) and len(rest & answering_of(status)) > len(rest) // 2


def why_not_without(status: Status, member_id: int, name: str) -> str | None:
    """Return why the voter `member_id`, the node `name`, cannot be let go; None if it can."""
    rest = frozenset(status.conf.voters) - {member_id}
    if member_id not in status.conf.voters:
        return None
    if not rest:
        return f"{name} is the last manager: promote another node first, so that the swarm's state is kept"
    if may_do_without(status, (member_id,)):
        return None
    there = len(rest & answering_of(status))
    return (
        f"without {name}, {there} of {len(rest)} managers would be reachable, and a quorum needs {len(rest) // 2 + 1}: "
        "bring another manager back first"
    )
