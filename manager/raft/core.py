"""The Raft core, sans-IO: it is told of time, messages and proposals, and says what to store, send and apply.

The shape is etcd's: `Ready` gives the order (store, send, apply) and `advance()` says that it was done; an entry counts
as stored only then. `member` is what outlives roles, `follower`, `candidate` and `leader` are the roles, `election` is
what terms and votes ask of all of them. This module moves a member from role to role and hands out what came of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from manager.raft import confchange, election
from manager.raft.candidate import Candidate
from manager.raft.confchange import Configuration
from manager.raft.config import Chance, CoreConfig
from manager.raft.entries import EntryLog
from manager.raft.follower import Follower
from manager.raft.leader import Leader
from manager.raft.member import Member, Move
from manager.raft.output import Output
from manager.raft.types import (
    NOBODY,
    ConfChange,
    ConfState,
    HardState,
    Message,
    MessageKind,
    PeerStatus,
    Ready,
    Role,
    SnapshotMark,
)
from swarmpy.errors import Code, SwarmError

__all__ = ["CoreConfig", "RaftCore"]

Behaviour: TypeAlias = Follower | Candidate | Leader


class RaftCore:
    """One member. Between `ready()` and `advance()` anything but `ready()` may be called.

    Args:
        member_id: who this is; it need not be among the members (yet).
        hard_state: what was stored last.
        conf: the members as of entry `applied`.
        log: the entries, all of them stored.
        applied: index of the last entry in the state machine (the newest snapshot's, at start).
        config: time-outs and bounds.
        rng: makes election time-outs random.

    Raises:
        SwarmError: FAILED_PRECONDITION, the parts of `conf` do not fit together.
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
        self._member = Member(member_id, hard_state, conf, log, applied, config, rng)
        self._role: Behaviour = Follower(self._member)
        self._output = Output(self._member, hard_state)

    @property
    def member_id(self) -> int:
        return self._member.id

    @property
    def term(self) -> int:
        return self._member.term

    @property
    def role(self) -> Role:
        return self._role.role

    @property
    def leader_id(self) -> int:
        """The member that leads, as far as this one knows; 0 for nobody."""
        return self._member.leader_id

    @property
    def commit_index(self) -> int:
        return self._member.commit

    @property
    def applied_index(self) -> int:
        """The last entry that was handed out to be applied, in a `Ready` that was carried out."""
        return self._member.applied

    @property
    def hard_state(self) -> HardState:
        """The hard state as it is now, stored or not."""
        return self._member.hard_state

    @property
    def conf(self) -> ConfState:
        """The members as of the last change applied."""
        return self._member.conf

    @property
    def configuration(self) -> Configuration:
        return self._member.configuration

    @property
    def log(self) -> EntryLog:
        """The entries, to read and to compact (up to `snapshot` at most)."""
        return self._member.log

    @property
    def snapshot(self) -> SnapshotMark:
        """The newest snapshot that is stored here, for members that need entries which are gone."""
        return self._member.snapshot

    @snapshot.setter
    def snapshot(self, mark: SnapshotMark) -> None:
        self._member.snapshot = mark

    @property
    def pending_snapshot(self) -> SnapshotMark | None:
        """A leader's snapshot that was taken and will be, or is, in a `Ready` not yet carried out."""
        return self._member.restored

    @property
    def transferee(self) -> int:
        """Who is to lead next, while this leader hands over; else 0."""
        return leader.transferee if (leader := self._leader) else NOBODY

    @property
    def ignored(self) -> Mapping[str, int]:
        """How many messages were not taken, by reason, for metrics."""
        return MappingProxyType(self._member.ignored)

    def peers(self) -> tuple[PeerStatus, ...]:
        """Return what a leader knows of each member, itself included; () if this one does not lead."""
        return leader.peers if (leader := self._leader) else ()

    # Time and messages

    def tick(self) -> None:
        """Let one tick of time pass."""
        self._carry_out(self._role.tick())

    def step(self, message: Message) -> None:
        """Take a message from another member. One that makes no sense (stale, doubled, of nobody) changes nothing.

        A SNAPSHOT is to be stepped once its file is stored.
        """
        member = self._member
        if not election.is_believable(member, message):
            member.ignore("not for this member")
            return
        if message.term > member.term:
            if election.is_held_back(member, message):
                member.ignore("held back by the leader's lease")
                return
            if election.brings_its_term(message):
                self._follow(message.term, message.sender if message.kind in election.FROM_LEADERS else NOBODY)
        elif message.term < member.term:
            election.answer_old(member, message)
            return
        if message.kind in election.ABOUT_VOTES and not self._leader:
            election.learn_commit(member, message)
            if isinstance(self._role, Candidate) and not member.may_stand:
                self._follow(member.term, NOBODY)
        if message.kind in election.VOTES:
            election.vote(member, message)
            return
        if message.kind in election.FROM_LEADERS and isinstance(self._role, Candidate):
            self._follow(message.term, message.sender)
        self._carry_out(self._role.step(message))

    # Wishes

    def campaign(self) -> None:
        """Stand for leader, by a pre-vote first. Does nothing for a leader or for one that may not stand.

        An only voter leads at once: term, vote and NOOP are stored in one go.
        """
        self._stand(forced=False)

    def propose(self, data: bytes) -> int:
        """Append an entry and return its index; it is committed once `Ready.committed` holds it in this term.

        Raises:
            SwarmError: NOT_LEADER; UNAVAILABLE while the lead is handed over; RESOURCE_EXHAUSTED if too much waits to
                be committed.
        """
        return self._lead().propose(data)

    def propose_conf_change(self, change: ConfChange) -> int:
        """Append a change of the members and return its index; it holds from when it is applied.

        Raises:
            SwarmError: NOT_LEADER; UNAVAILABLE while the lead is handed over; FAILED_PRECONDITION: the change does
                not fit the members, or (to be retried) another one may be under way.
        """
        return self._lead().propose_conf_change(change)

    def apply_conf_change(self, change: ConfChange) -> ConfState:
        """Carry out a change of the members that was committed, and return the members from there on.

        Raises:
            SwarmError: FAILED_PRECONDITION: the log holds a change that does not fit its own `base`.
        """
        member = self._member
        base = member.configuration if change.base == ConfState() else Configuration.from_conf_state(change.base)
        changed = confchange.apply(base, change)
        if not self._output.is_overtaken:
            assert member.configuration in (base, Configuration()), (
                f"{change} is for {base}, not {member.configuration}"
            )
            member.configuration = changed
            if leader := self._leader:
                self._carry_out(leader.members_changed())
        return changed.to_conf_state()

    def read_index(self, context: bytes) -> None:
        """Ask for an index to read at; the answer comes with `context` in `Ready.reads`, or never (then ask again).

        `context` must be of this question only, also across restarts of this member.

        Raises:
            SwarmError: UNAVAILABLE: nobody leads.
        """
        member = self._member
        if leader := self._leader:
            leader.ask_read(context)
        elif member.leader_id != NOBODY:
            kind = MessageKind.READ_INDEX
            member.send(Message(kind, member.id, member.leader_id, member.term, context=context))
        else:
            raise SwarmError(
                Code.UNAVAILABLE,
                f"member {member.id} knows of no leader, so nothing can be read: try again in a moment",
            )

    def transfer(self, to: int) -> None:
        """Hand the lead to voter `to`; given up if it does not lead within an election time-out.

        Raises:
            SwarmError: NOT_LEADER; FAILED_PRECONDITION: `to` leads already or does not vote.
        """
        self._lead().transfer(to)

    def resign(self) -> None:
        """Step down, if this member leads."""
        if self._leader:
            self._follow(self._member.term, NOBODY)

    def leader_lost(self) -> None:
        """Learn that the leader cannot be reached: others may be voted for at once (until it is heard of again)."""
        if isinstance(self._role, Follower):
            self._member.leader_id = NOBODY

    def report_unreachable(self, member_id: int) -> None:
        """Learn that messages to a member were lost."""
        if leader := self._leader:
            leader.unreachable(member_id)

    def report_snapshot(self, member_id: int, ok: bool) -> None:
        """Learn what became of a SNAPSHOT message: whether its file and then the message were delivered."""
        if leader := self._leader:
            leader.snapshot_ended(member_id, ok=ok)

    # What is to be done

    def has_ready(self, *, hand_out: bool = True) -> bool:
        """Return whether `ready()` may have something to do."""
        return self._output.has_ready(self._leader, hand_out=hand_out)

    def ready(self, *, hand_out: bool = True) -> Ready | None:
        """Return what is to be done now, or None; `advance()` must be called before the next one.

        Args:
            hand_out: False keeps committed entries back (for a state machine that is behind).
        """
        return self._output.ready(self._leader, hand_out=hand_out)

    def advance(self) -> None:
        """Say that the last `Ready` was carried out. What it stored may be committed now."""
        self._output.advance(self._leader)

    # Roles

    @property
    def _leader(self) -> Leader | None:
        return self._role if isinstance(self._role, Leader) else None

    def _lead(self) -> Leader:
        """Return the role of leader; NOT_LEADER if it is another's."""
        if leader := self._leader:
            return leader
        who = f"member {self.leader_id} leads" if self.leader_id else "nobody leads yet"
        raise SwarmError(Code.NOT_LEADER, f"member {self.member_id} does not lead, {who}: try again there")

    def _carry_out(self, move: Move | None) -> None:
        match move:
            case Move.STAND | Move.STAND_FORCED:
                self._stand(forced=move is Move.STAND_FORCED)
            case Move.WON:
                self._won()
            case Move.LOST | Move.STEP_DOWN:
                self._follow(self._member.term, NOBODY)
            case None:
                pass

    def _follow(self, term: int, leader_id: int) -> None:
        self._member.enter_term(term)
        self._member.leader_id = leader_id
        self._member.restart_timer()
        self._role = Follower(self._member)

    def _stand(self, *, forced: bool) -> None:
        """Begin an election; one that the leader asked for needs no pre-vote: it disturbs nobody who should lead."""
        member = self._member
        if self._leader or not member.may_stand:
            return
        if member.config.pre_vote and not forced and not member.is_only_voter:
            member.leader_id = NOBODY
            self._begin(Candidate(member, pre=True))
        else:
            self._campaign(forced=forced)

    def _campaign(self, *, forced: bool) -> None:
        member = self._member
        member.enter_term(member.term + 1)
        member.vote, member.leader_id = member.id, NOBODY
        self._begin(Candidate(member, pre=False, forced=forced))

    def _begin(self, candidate: Candidate) -> None:
        self._member.restart_timer()
        self._role = candidate
        candidate.ask()
        self._carry_out(candidate.result())

    def _won(self) -> None:
        if self._role.role is Role.PRE_CANDIDATE:
            self._campaign(forced=False)
            return
        self._member.leader_id = self._member.id
        self._member.restart_timer()
        self._role = Leader(self._member)
