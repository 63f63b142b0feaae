"""Planted bugs in what the core decides: votes, commits, members, reads."""

from __future__ import annotations

from typing import Any

import msgspec

from manager.raft import election
from manager.raft.core import RaftCore
from manager.raft.entries import EntryLog
from manager.raft.follower import Follower
from manager.raft.leader import Leader
from manager.raft.member import Member
from manager.raft.progress import Progress
from manager.raft.quorum import Joint, Majority
from manager.raft.read_rounds import ReadRounds
from manager.raft.replication import Replication
from manager.raft.types import Message, MessageKind
from tests.sim.raft.planted import Wrap, always, plant


def _forgets_vote(original: Any) -> Any:
    def init(self: Any, member_id: int, hard_state: Any, *rest: Any) -> None:
        original(self, member_id, msgspec.structs.replace(hard_state, vote=0), *rest)

    return init


def _counts_any_term(_original: Any) -> Any:
    def maybe_commit(self: Any) -> None:
        member = self._member
        index = member.configuration.voters.committed_index(self._replication.stored)
        if index > member.commit:
            member.commit_to(min(index, member.log.last_index))
            self._replication.is_due = True

    return maybe_commit


def _counts_learners(_original: Any) -> Any:
    def maybe_commit(self: Any) -> None:
        member = self._member
        index = Majority(member.configuration.members).committed_index(self._replication.stored)
        if index > member.commit and member.log.term(index) == member.term:
            member.commit_to(index)
            self._replication.is_due = True

    return maybe_commit


def _votes_again(original: Any) -> Any:
    def vote(member: Any, message: Any) -> None:
        if message.kind is MessageKind.VOTE:
            member.vote = 0
            member.leader_id = 0
        original(member, message)

    return vote


def _votes_unseen_if_forced(original: Any) -> Any:
    def vote(member: Any, message: Any) -> None:
        if message.forced:
            message = msgspec.structs.replace(message, log_term=2**60)
        original(member, message)

    return vote


def _proves_at_once(_original: Any) -> Any:
    def proven(self: Any, _voters: Any) -> Any:
        while self._rounds:
            done = self._rounds.popleft()
            self._asked -= len(done.questions)
            yield from ((done.index, question) for question in done.questions)

    return proven


def _lease(original: Any) -> Any:
    """A leader that was heard by a majority within the last time-out, by its own ticks, reads at once."""

    def hand_out(self: Any) -> None:
        if self._replication.hears_a_majority():
            self._reads._answered = dict.fromkeys(self._member.configuration.voters.ids, self._reads._last)
        original(self)

    return hand_out


def _forgets_pending(original: Any) -> Any:
    def propose(self: Any, change: Any) -> Any:
        self._conf_index = 0
        return original(self, change)

    return propose


def _restores_always(original: Any) -> Any:
    def restore(self: Any, message: Any) -> None:
        member, mark = self._member, message.snapshot
        if mark.index < member.commit:
            member.log.restart(mark)
            member.commit = member.applied = mark.index
            member.restored = mark
        original(self, message)

    return restore


def _keeps_tail(_original: Any) -> Any:
    def differing(self: Any, entries: Any) -> Any:
        return tuple(entry for entry in entries if entry.index > self.last_index)

    return differing


def _boasts(_original: Any) -> Any:
    def send_heartbeats(self: Any, context: bytes) -> None:
        member = self._member
        for i in self._peers:
            kind = MessageKind.HEARTBEAT
            member.send(Message(kind, member.id, i, member.term, commit=member.commit, context=context))

    return send_heartbeats


def _lowers_match(original: Any) -> Any:
    def advance(self: Any, index: int) -> bool:
        if 0 < index < self.match:
            self.match = index
        return bool(original(self, index))

    return advance


def _takes_hint_for_stored(original: Any) -> Any:
    def accepted(self: Any, message: Any) -> bool:
        return bool(original(self, msgspec.structs.replace(message, index=self._peers[message.sender].next - 1)))

    return accepted


def _counts_own_unstored(original: Any) -> Any:
    def stored(self: Any, member_id: int) -> Any:
        return self._member.log.last_index if member_id == self._member.id else original(self, member_id)

    return stored


def _never_gives_up(original: Any) -> Any:
    def tick(self: Any) -> Any:
        self._transfer_ticks = 0
        return original(self)

    return tick


def _first_half(name: str) -> Wrap:
    return lambda _original: lambda self, given: getattr(self.incoming, name)(given)


plant("vote-forgotten", "a restart forgets whom it voted for", (RaftCore, "__init__", _forgets_vote))
plant("vote-twice", "a vote is given to whoever asks", (election, "vote", _votes_again))
plant("vote-without-look", "votes are given whatever the candidate's log holds", (EntryLog, "is_behind", always(True)))
plant(
    "transfer-without-look",
    "a transfer goes to whoever was named, whatever it holds, and its votes are given unseen",
    (Replication, "has_all", always(True)),
    (election, "vote", _votes_unseen_if_forced),
)
plant("pre-vote-term", "a pre-vote makes others take its term", (election, "brings_its_term", always(True)))
plant(
    "commit-old-term",
    "entries of an earlier term are committed by counting",
    (Leader, "_maybe_commit", _counts_any_term),
)
plant("commit-learners", "learners count in the majority", (Leader, "_maybe_commit", _counts_learners))
plant(
    "commit-joint",
    "joint: only the new half counts for commits",
    (Joint, "committed_index", _first_half("committed_index")),
)
plant("vote-joint", "joint: only the new half counts for votes", (Joint, "vote_result", _first_half("vote_result")))
plant(
    "commit-unstored", "a leader counts entries that it has not stored", (Replication, "stored", _counts_own_unstored)
)
plant(
    "commit-heartbeat", "heartbeats tell the commit index to those that lag", (Replication, "send_heartbeats", _boasts)
)
plant("match-lowered", "a late answer lowers what a member is known to have", (Progress, "advance", _lowers_match))
plant("match-guessed", "what was sent counts as stored", (Replication, "accepted", _takes_hint_for_stored))
plant("tail-kept", "a tail that conflicts is not replaced", (EntryLog, "differing", _keeps_tail))
plant(
    "tail-cut",
    "entries that are there already cut off what is behind them",
    (EntryLog, "differing", lambda _: lambda _self, entries: entries),
)
plant("read-without-quorum", "a leader reads without asking anybody", (ReadRounds, "proven", _proves_at_once))
plant(
    "read-lease",
    "a leader reads if it was heard within a time-out of its own clock",
    (Leader, "_hand_out_reads", _lease),
)
plant(
    "read-too-early", "a leader reads before an entry of its term is committed", (Leader, "_knows_commit", always(True))
)
plant(
    "changes-overlap",
    "the members are changed while a change is pending",
    (Leader, "propose_conf_change", _forgets_pending),
)
plant("snapshot-backwards", "a late snapshot replaces newer state", (Follower, "_restore", _restores_always))
plant("probe-abandoned", "a probe that was lost is never sent again", (Replication, "heartbeat_answered", always(None)))
plant("snapshot-abandoned", "nobody learns what became of a snapshot", (Replication, "snapshot_ended", always(None)))
plant("transfer-for-ever", "a transfer is never given up", (Leader, "tick", _never_gives_up))
plant("joint-not-left", "no leader ends a joint stage by itself", (Leader, "_leave_joint", always(None)))
plant(
    "stands-unready",
    "stands with changes of the members committed and not applied",
    (Member, "may_stand", lambda _: lambda self: self.is_voter),
)
