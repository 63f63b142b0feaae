"""What a member is in every role: its place in time and log, the members it knows, and what it has to say.

The roles (`follower`, `candidate`, `leader`) read and change it. They never change places themselves: what they find
out is a `Move`, which the core carries out.
"""

from __future__ import annotations

import enum
from collections import Counter
from typing import Final

from manager.raft.confchange import Configuration
from manager.raft.config import Chance, CoreConfig
from manager.raft.entries import EntryLog
from manager.raft.quorum import VoteResult
from manager.raft.types import (
    NOBODY,
    ConfState,
    EntryKind,
    HardState,
    Message,
    MessageKind,
    ReadState,
    SnapshotMark,
)


class Move(enum.Enum):
    """What a role asks the core for: to become something else."""

    STAND = "stand"  # the time-out passed
    STAND_FORCED = "stand forced"  # the leader asked for it: no pre-vote, and leases do not hold it back
    WON = "won"  # a majority granted its (pre-)vote
    LOST = "lost"  # a majority refused it
    STEP_DOWN = "step down"  # this leader should not, or cannot, lead any more


class Member:
    """One member's state that outlives its roles.

    Attributes:
        applied: the last entry handed out to be applied, with its change of the members carried out.
        elapsed: ticks since a leader was heard of, a vote was given or an election began.
        outbox: messages to be sent, in order.
        reads: answers to questions for an index to read at.
        restored: a leader's snapshot that stands for log and state from now on, until it was handed out.
        snapshot: the newest snapshot that is stored here.
        ignored: how many messages were not taken, by reason.
    """

    def __init__(
        self,
        member_id: int,
        hard_state: HardState,
        conf: ConfState,
        log: EntryLog,
        applied: int,
        config: CoreConfig,
        rng: Chance,
    ) -> None:
        self.id: Final = member_id
        self.config: Final = config
        self.log: Final = log
        self._rng = rng
        self.term, self.vote, self.leader_id = hard_state.term, hard_state.vote, NOBODY
        self.commit = min(max(hard_state.commit, applied), log.last_index)
        self.applied = applied
        self.configuration = Configuration.from_conf_state(conf)
        self.snapshot = SnapshotMark(applied, log.term(applied), conf)
        self.outbox: list[Message] = []
        self.reads: list[ReadState] = []
        self.restored: SnapshotMark | None = None
        self.ignored: Counter[str] = Counter()
        self.restart_timer()

    @property
    def conf(self) -> ConfState:
        return self.configuration.to_conf_state()

    @property
    def is_voter(self) -> bool:
        """Whether it votes in either half of the configuration; only then may it stand and lead."""
        return self.id in self.configuration.voters.ids

    @property
    def is_only_voter(self) -> bool:
        """Whether its own vote is all there is to win."""
        return self.configuration.voters.vote_result({self.id: True}) is VoteResult.WON and self.is_voter

    @property
    def may_stand(self) -> bool:
        """Whether it knows who votes: no change of the members is committed that is not applied here yet."""
        if not self.is_voter or self.restored is not None:
            return False
        unapplied = self.log.between(self.applied + 1, self.commit)
        return not any(entry.kind is EntryKind.CONF_CHANGE for entry in unapplied)

    @property
    def has_lease(self) -> bool:
        """Whether a leader was heard of so lately that nobody else should be voted for (6; thesis, 4.2.3)."""
        heard = self.leader_id != NOBODY and self.elapsed < self.config.election_ticks
        return self.config.check_quorum and heard

    @property
    def is_timed_out(self) -> bool:
        return self.elapsed >= self._patience_ticks

    def restart_timer(self) -> None:
        """Begin to wait anew, for another random time, so that votes are rarely split (5.2)."""
        self.elapsed = 0
        self._patience_ticks = self._rng.randrange(self.config.election_ticks, 2 * self.config.election_ticks)

    @property
    def hard_state(self) -> HardState:
        """What is to be stored of it, as it is now."""
        return HardState(self.term, self.vote, self.commit)

    def enter_term(self, term: int) -> None:
        """Go to a term, if it is another one, in which no vote is given yet."""
        if term != self.term:
            self.term, self.vote = term, NOBODY

    def commit_to(self, index: int) -> None:
        """Learn that everything up to `index`, which this log holds, is committed."""
        assert index <= self.log.last_index, (
            f"entry {index} is said to be committed, the last one is {self.log.last_index}"
        )
        self.commit = max(self.commit, index)

    def send(self, message: Message) -> None:
        self.outbox.append(message)

    def answer(self, message: Message, kind: MessageKind, *, index: int = 0, context: bytes = b"") -> None:
        """Answer `message` in this member's own term."""
        self.send(Message(kind, self.id, message.sender, self.term, index=index, context=context))

    def ignore(self, why: str) -> None:
        """Count a message that is not taken."""
        self.ignored[why] += 1
