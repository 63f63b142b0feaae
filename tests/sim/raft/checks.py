"""The laws of Raft, checked while the members run; whatever breaks one raises ViolationError with the law's name.

What the laws are about is taken from what members store, send and hand out, never from what they say of themselves,
but for who leads and how far it has committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from manager.raft.types import Commit, ConfState, Entry, EntryKind, Message, MessageKind, Role
from manager.store import codec
from tests.sim.raft.shadow import Shadow, ViolationError

TermOf: TypeAlias = Callable[[int], int | None]  # the term of an entry in a member's log; None: it is compacted


@dataclass(frozen=True, slots=True)
class Committed:
    """An entry that some member took for committed; `known_term` is the term of whoever did first."""

    term: int
    known_term: int


@dataclass(slots=True)
class Seen:
    """What a running member was seen to be, to tell what it changes."""

    term: int = 0
    commit: int = 0
    role: Role = Role.FOLLOWER


class Checks:
    """One run's laws and what is known to judge by them."""

    def __init__(self) -> None:
        self.shadows: Final[dict[int, Shadow]] = {}
        self.commit_max = 0
        self.leaders: dict[int, int] = {}
        self.confs: dict[int, ConfState] = {}
        self.last_conf = ConfState()
        self.last_applied = 0
        self._contents: dict[tuple[int, int], tuple[int, Entry]] = {}
        self._committed: dict[int, Committed] = {}
        self._applied: dict[int, Entry] = {}
        self._votes: dict[tuple[int, int], int] = {}
        self._states: dict[int, tuple[int, bytes]] = {}
        self._snapshots: dict[int, bytes] = {}
        self._requests: dict[str, int] = {}
        self._known_at_election: dict[int, int] = {}

    # What is stored

    def stored(self, member_id: int, entries: Sequence[Entry], role: Role, applied: int) -> None:
        """Log matching: index and term name an entry and the term of the one before; so the logs before agree."""
        shadow = self.shadows[member_id]
        if entries[0].index <= applied:
            raise _violation(
                "never back", f"member {member_id} replaces entry {entries[0].index}, it applied {applied}"
            )
        before = entries[0].index - 1
        self._name(entries, shadow.terms.get(before, shadow.mark.term if before == shadow.mark.index else -1))
        if role is Role.LEADER:
            self._one_change_at_a_time(member_id, shadow, entries, applied)

    def found(self, entries: Sequence[Entry]) -> None:
        """What a start finds may have been written by a run that died before it could say so."""
        self._name(entries, -1)

    def _name(self, entries: Sequence[Entry], term: int) -> None:
        """Check that each entry is the one that its index and term name; `term` is that of the one before, or -1."""
        for entry in entries:
            known = self._contents.setdefault((entry.index, entry.term), (term, entry))
            if known[1] != entry:
                raise _violation("log matching", f"entry {entry.index} of term {entry.term} is two different ones")
            if -1 not in (known[0], term) and known[0] != term:
                terms = f"{known[0]} and {term}"
                sentence = f"entry {entry.index} of term {entry.term} stands behind terms {terms}"
                raise _violation("log matching", sentence)
            if known[0] == -1:
                self._contents[(entry.index, entry.term)] = (term, entry)
            term = entry.term

    def _one_change_at_a_time(self, member_id: int, shadow: Shadow, entries: Sequence[Entry], applied: int) -> None:
        pending = sorted(index for index in shadow.changes if applied < index < entries[0].index)
        for entry in entries:
            if entry.kind is EntryKind.CONF_CHANGE:
                pending.append(entry.index)
        if len(pending) > 1:
            sentence = f"leader {member_id} has changes of the members at {pending}, and {applied} is applied"
            raise _violation("one change at a time", sentence)

    # What is sent

    def sent(self, member_id: int, message: Message) -> None:
        """A member promises only what its disk holds, votes once a term, and never speaks for others."""
        shadow = self.shadows[member_id]
        kind = message.kind
        if message.sender != member_id:
            raise _violation("identity", f"member {member_id} sends as member {message.sender}")
        if kind is MessageKind.APPEND_RESPONSE and not message.reject and message.term == shadow.term:
            if message.index > shadow.last_index:
                sentence = f"member {member_id} acknowledges entry {message.index}, and stored {shadow.last_index}"
                raise _violation("promises are stored", sentence)
        elif kind is MessageKind.VOTE_RESPONSE and not message.reject:
            self._voted(member_id, message.term, message.to)
        elif kind is MessageKind.VOTE:
            self._voted(member_id, message.term, member_id)
        if kind is not MessageKind.PRE_VOTE and not _is_pre_vote_granted(message) and message.term > shadow.term:
            sentence = f"member {member_id} says {kind.name} in term {message.term}, and stored term {shadow.term}"
            raise _violation("promises are stored", sentence)

    def _voted(self, member_id: int, term: int, candidate: int) -> None:
        shadow = self.shadows[member_id]
        earlier = self._votes.setdefault((member_id, term), candidate)
        if earlier != candidate:
            sentence = f"member {member_id} votes for {candidate} in term {term}, after a vote for {earlier}"
            raise _violation("one vote a term", sentence)
        if shadow.term == term and shadow.vote != candidate:
            sentence = f"member {member_id} votes for {candidate} in term {term}, and stored {shadow.vote}"
            raise _violation("promises are stored", sentence)

    def matched(self, leader_id: int, message: Message, before: int, now: int) -> None:
        """What a leader takes a member to have stored only grows while it leads, and is stored there."""
        if now == before:
            return
        if 0 < now < before:
            sentence = f"leader {leader_id} takes member {message.sender} to have {now}, after {before}"
            raise _violation("never back", sentence)
        if now > self.shadows[message.sender].last_index:
            sentence = f"leader {leader_id} takes member {message.sender} to have {now}, more than it stored"
            raise _violation("promises are stored", sentence)

    # What a member is

    def observed(self, member_id: int, seen: Seen, now: Seen, conf: ConfState, term_of: TermOf) -> None:
        """Take note of a member's term, part and commit index, and of what changed since `seen`."""
        if now == seen:
            return
        if now.term < seen.term or now.commit < seen.commit:
            raise _violation("never back", f"member {member_id} went from {seen} to {now}")
        if now.role is Role.LEADER and (seen.role is not Role.LEADER or now.term != seen.term):
            self._elected(member_id, now.term, conf, term_of)
        if now.role is Role.PRE_CANDIDATE and seen.role is not Role.PRE_CANDIDATE and now.term != seen.term:
            raise _violation("pre-vote", f"member {member_id} asks for pre-votes and went to term {now.term} for it")
        if now.commit > seen.commit:
            self._commits(member_id, now, seen.commit + 1, conf, term_of)

    def _elected(self, member_id: int, term: int, conf: ConfState, term_of: TermOf) -> None:
        """Election safety and leader completeness."""
        other = self.leaders.setdefault(term, member_id)
        self._known_at_election[term] = self.commit_max
        if other != member_id:
            raise _violation("election safety", f"members {other} and {member_id} both lead in term {term}")
        for voters in (conf.voters, conf.voters_outgoing):
            gave = [v for v in voters if v == member_id or self._votes.get((v, term)) == member_id]
            if voters and len(gave) * 2 <= len(voters):
                sentence = f"member {member_id} leads in term {term}; of {voters} only {gave} voted for it"
                raise _violation("election quorum", sentence)
        for index in range(self.commit_max, self.shadows[member_id].mark.index, -1):
            committed = self._committed.get(index)
            if committed is not None and committed.known_term < term and term_of(index) != committed.term:
                sentence = f"member {member_id} leads in term {term} without entry {index} of term {committed.term}"
                raise _violation("leader completeness", sentence)

    def _commits(self, member_id: int, now: Seen, first: int, conf: ConfState, term_of: TermOf) -> None:
        for index in range(max(first, self.shadows[member_id].mark.index + 1), now.commit + 1):
            term = term_of(index)
            if term is None:
                continue
            known = self._committed.setdefault(index, Committed(term, now.term))
            if known.term != term:
                sentence = f"entry {index} was committed with term {known.term}, member {member_id} has term {term}"
                raise _violation("state machine safety", sentence)
        self.commit_max = max(self.commit_max, now.commit)
        if now.role is Role.LEADER:
            self._check_quorum(member_id, now, conf)

    def _check_quorum(self, member_id: int, now: Seen, conf: ConfState) -> None:
        """What a leader commits is its own term's, and is stored by a majority, of both halves if it is joint."""
        term = self._committed[now.commit].term if now.commit in self._committed else now.term
        if term != now.term:
            sentence = f"leader {member_id} of term {now.term} commits entry {now.commit} of term {term} by counting"
            raise _violation("commit rule", sentence)
        for voters in (conf.voters, conf.voters_outgoing):
            have = [v for v in voters if v in self.shadows and self.shadows[v].holds(now.commit, term)]
            if voters and len(have) * 2 <= len(voters):
                sentence = f"leader {member_id} commits entry {now.commit}, which of {voters} only {have} stored"
                raise _violation("commit quorum", sentence)

    # What is applied

    def handed_out(self, member_id: int, entries: Iterable[Entry], applied: int) -> None:
        """State machine safety: the same entries, in the same order, without holes."""
        for entry in entries:
            if entry.index != applied + 1:
                raise _violation("in order", f"member {member_id} is given entry {entry.index} after {applied}")
            applied = entry.index
            known = self._applied.setdefault(entry.index, entry)
            if known != entry:
                what = f"entry {entry.index}: term {known.term} elsewhere, term {entry.term} on member {member_id}"
                raise _violation("state machine safety", what)
            self.last_applied = max(self.last_applied, entry.index)

    def conf_applied(self, member_id: int, index: int, conf: ConfState) -> None:
        """After the same entry all have the same members."""
        conf = normal(conf)
        known = self.confs.setdefault(index, conf)
        if known != conf:
            raise _violation("same members", f"after entry {index}: {known} elsewhere, {conf} on member {member_id}")
        if index >= max(self.confs):
            self.last_conf = conf

    def conf_at(self, member_id: int, index: int, conf: ConfState) -> None:
        """A snapshot names the members of its own index.

        One who joined is told of the first members by the first change of them, and knows nobody before it.
        """
        since = max(each for each in self.confs if each <= index)
        if since == 0 and conf == ConfState():
            return
        expected = self.confs[since]
        if normal(conf) != expected:
            sentence = f"member {member_id} has {conf} in its snapshot at entry {index}, it should be {expected}"
            raise _violation("same members", sentence)

    def state_after(self, member_id: int, index: int, revision: int, digest: bytes) -> None:
        """After the same entry all have the same state."""
        known = self._states.setdefault(index, (revision, digest))
        if known != (revision, digest):
            raise _violation("same state", f"member {member_id} differs after entry {index}: revision {revision}")

    def content(self, member_id: int, index: int, content: bytes) -> None:
        """As `state_after`, every byte of it."""
        if self._snapshots.setdefault(index, content) != content:
            raise _violation("same state", f"the whole state of member {member_id} differs after entry {index}")

    def came_into_force(self, index: int, data: bytes) -> None:
        """A request id has one effect."""
        for transaction in codec.decode_body(data).transactions:
            request = transaction.request_id
            if request and self._requests.setdefault(request, index) != index:
                where = f"{self._requests[request]} and {index}"
                raise _violation("one effect", f"request {request} came into force at entries {where}")

    def acknowledged(self, member_id: int, place: object) -> None:
        """What is said to be made is committed there."""
        known = self._committed.get(place.index) if isinstance(place, Commit) else None
        if known is None or not isinstance(place, Commit) or known.term != place.term:
            raise _violation("acknowledged", f"member {member_id} says that {place} was made, which is not committed")

    def told_to_lead(self, member_id: int, term: int, applied: int) -> None:
        """Who is told that it leads has applied all that was committed before it was elected."""
        if self.leaders.get(term) != member_id or applied < self._known_at_election[term]:
            known = self._known_at_election.get(term)
            sentence = f"member {member_id} is told to lead in term {term} at {applied}; {known} was committed before"
            raise _violation("leaders know all", sentence)

    def read_served(self, member_id: int, floor: int, applied: int) -> None:
        """A read sees all that anybody knew to be committed when it began."""
        if applied < floor:
            sentence = f"member {member_id} serves a read at {applied}; {floor} was committed when it began"
            raise _violation("no stale read", sentence)


def normal(conf: ConfState) -> ConfState:
    """Return `conf` with its members sorted."""
    return msgspec.structs.replace(
        conf,
        voters=tuple(sorted(conf.voters)),
        learners=tuple(sorted(conf.learners)),
        voters_outgoing=tuple(sorted(conf.voters_outgoing)),
        learners_next=tuple(sorted(conf.learners_next)),
    )


def _is_pre_vote_granted(message: Message) -> bool:
    """A granted pre-vote answers in the term that is asked about, which nobody is in yet."""
    return message.kind is MessageKind.PRE_VOTE_RESPONSE and not message.reject


def _violation(checker: str, sentence: str) -> ViolationError:
    return ViolationError(checker, sentence)
