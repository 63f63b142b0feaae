"""A group of managers of straw: its members change when they are told to, at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from manager.raft.types import (
    ConfChange,
    ConfChangeKind,
    ConfState,
    PeerState,
    PeerStatus,
    Role,
    SnapshotMark,
    Status,
)
from swarmpy.errors import SwarmError


@dataclass
class FakeGroup:
    """Member 1 leads. `silent` are not heard of, `behind` have not caught up; `failures` come first, one a change."""

    voters: set[int] = field(default_factory=lambda: {1})
    learners: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    behind: set[int] = field(default_factory=set)
    failures: list[SwarmError] = field(default_factory=list)
    changes: list[tuple[ConfChangeKind, int]] = field(default_factory=list)
    handed_over: int = 0
    changing: int = 0

    def status(self) -> Status:
        peers = tuple(
            PeerStatus(
                member_id,
                match=0 if member_id in self.behind else 10,
                next=1,
                state=PeerState.PROBE if member_id in self.behind else PeerState.REPLICATE,
                is_learner=member_id in self.learners,
                active=member_id not in self.silent,
            )
            for member_id in sorted(self.voters | self.learners)
        )
        return Status(
            member_id=1,
            role=Role.LEADER,
            term=1,
            leader_id=1,
            first_index=1,
            last_index=10,
            commit_index=10,
            applied_index=10,
            log_bytes=0,
            log_segments=1,
            snapshot=SnapshotMark(),
            log_full=None,
            conf=ConfState(voters=tuple(sorted(self.voters)), learners=tuple(sorted(self.learners))),
            peers=peers,
        )

    async def change_members(self, change: ConfChange) -> ConfState:
        assert self.changing == 0, "one change at a time"
        self.changing += 1
        await asyncio.sleep(0)
        self.changing -= 1
        if self.failures:
            raise self.failures.pop(0)
        for one in change.changes:
            self.changes.append((one.kind, one.member_id))
            self.learners.discard(one.member_id)
            self.voters.discard(one.member_id)
            if one.kind is ConfChangeKind.ADD_VOTER:
                self.voters.add(one.member_id)
            elif one.kind is ConfChangeKind.ADD_LEARNER:
                self.learners.add(one.member_id)
        return self.status().conf

    async def transfer(self, to: int = 0) -> None:
        self.handed_over += 1
