"""The Raft core, sans-IO: it is told of time, messages and proposals, and says what to store, send and apply.

Today's core serves a cluster of one voter and refuses any other membership. The shape is etcd's: `Ready` gives the
order (store, send, apply) and `advance()` says that it was done; an entry commits only once it is stored, and only
through an entry of the leader's own term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from manager.raft.entries import EntryLog
from manager.raft.types import (
    NOBODY,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    Leadership,
    Message,
    Ready,
    Role,
)
from swarmpy.errors import Code, SwarmError, not_supported


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what the core holds and hands out.

    Args:
        uncommitted_bytes: data of proposals not yet committed; one proposal is always let in.
        apply_entries: most entries in one `Ready.committed`.
        apply_bytes: most data in one `Ready.committed`, but at least one entry.
    """

    uncommitted_bytes: int = 64 * 1024 * 1024
    apply_entries: int = 256
    apply_bytes: int = 256 * 1024


class RaftCore:
    """One member's state.

    Args:
        member_id: who this is.
        hard_state: what was stored last.
        conf: the members.
        log: the entries, all of them stored.
        applied: index of the last entry in the state machine (the snapshot's, at start).

    Raises:
        SwarmError: NOT_SUPPORTED unless `member_id` is the only voter.
    """

    def __init__(
        self, member_id: int, hard_state: HardState, conf: ConfState, log: EntryLog, applied: int, limits: Limits
    ) -> None:
        if conf != ConfState(voters=(member_id,)):
            raise not_supported(f"a cluster of managers other than member {member_id} alone ({conf})")
        self.member_id: Final = member_id
        self._conf, self._log, self._limits = conf, log, limits
        self._stored_hard = hard_state
        self._term, self._vote = hard_state.term, hard_state.vote
        self._commit = max(hard_state.commit, applied)
        self._role, self._leader_id = Role.FOLLOWER, NOBODY
        self._stable, self._handed = log.last_index, applied
        self._uncommitted_bytes = 0
        self._noop_index = 0
        self._ready: Ready | None = None

    @property
    def term(self) -> int:
        return self._term

    @property
    def role(self) -> Role:
        return self._role

    @property
    def leader_id(self) -> int:
        """The member that leads, as far as this one knows; 0 for nobody."""
        return self._leader_id

    @property
    def commit_index(self) -> int:
        return self._commit

    @property
    def hard_state(self) -> HardState:
        return HardState(self._term, self._vote, self._commit)

    @property
    def conf(self) -> ConfState:
        return self._conf

    @property
    def log(self) -> EntryLog:
        """The entries, to read and to compact."""
        return self._log

    def tick(self) -> None:
        """Let one tick of time pass. An only voter has nobody to wait for and stands at once."""
        if self._role is Role.FOLLOWER:
            self.campaign()

    def campaign(self) -> None:
        """Stand for leader. The own vote is all there is to win; term, vote and NOOP are stored in one go."""
        if self._role is Role.LEADER:
            return
        self._term, self._vote = self._term + 1, self.member_id
        self._role, self._leader_id = Role.LEADER, self.member_id
        self._noop_index = self._append(EntryKind.NOOP, b"")

    def step(self, message: Message) -> None:
        """Take a message from another member.

        Raises:
            SwarmError: NOT_SUPPORTED: an only voter has no other members.
        """
        raise not_supported(f"a message of Raft from member {message.sender}, in a cluster of one manager,")

    def propose(self, data: bytes) -> int:
        """Append an entry and return its index; it is committed once `Ready.committed` holds it in this term.

        Raises:
            SwarmError: NOT_LEADER; RESOURCE_EXHAUSTED if too much waits to be committed.
        """
        if self._role is not Role.LEADER:
            who = f"member {self._leader_id} leads" if self._leader_id else "nobody leads yet"
            raise SwarmError(Code.NOT_LEADER, f"member {self.member_id} does not lead, {who}: try again there")
        waiting = self._uncommitted_bytes
        if waiting and waiting + len(data) > self._limits.uncommitted_bytes:
            raise SwarmError(
                Code.RESOURCE_EXHAUSTED,
                f"{waiting} bytes of changes wait to be committed, the limit is {self._limits.uncommitted_bytes}:"
                " try again in a moment",
                retryable=True,
            )
        self._uncommitted_bytes += len(data)
        return self._append(EntryKind.NORMAL, data)

    def has_ready(self) -> bool:
        """Return whether `ready()` has something to do."""
        return (
            self._stable < self._log.last_index
            or self._handed < min(self._commit, self._stable)
            or self.hard_state != self._stored_hard
        )

    def ready(self) -> Ready | None:
        """Return what is to be done now, or None; `advance()` must be called before the next one."""
        assert self._ready is None, "advance() comes before the next ready()"
        if not self.has_ready():
            return None
        hard, stored = self.hard_state, self._stored_hard
        entries = self._log.between(self._stable + 1, self._log.last_index)
        committed = self._log.between(
            self._handed + 1,
            min(self._commit, self._stable),
            max_entries=self._limits.apply_entries,
            max_bytes=self._limits.apply_bytes,
        )
        leads = bool(committed) and committed[0].index <= self._noop_index <= committed[-1].index
        self._ready = Ready(
            hard_state=hard if hard != stored else None,
            entries=entries,
            must_sync=bool(entries) or (hard.term, hard.vote) != (stored.term, stored.vote),
            messages=(),
            committed=committed,
            leadership=Leadership(True, self._term, self.member_id) if leads else None,
        )
        return self._ready

    def advance(self) -> None:
        """Say that the last `Ready` was carried out. What it stored may be committed now."""
        done, self._ready = self._ready, None
        assert done is not None, "ready() comes before advance()"
        if done.hard_state is not None:
            self._stored_hard = done.hard_state
        if done.committed:
            self._handed = done.committed[-1].index
            # Entries of earlier terms were never counted, so this is a floor, as in etcd.
            freed = sum(len(e.data) for e in done.committed)
            self._uncommitted_bytes = max(0, self._uncommitted_bytes - freed)
        if done.entries:
            self._stable = done.entries[-1].index
            self._maybe_commit()

    def _maybe_commit(self) -> None:
        """Commit what is stored on a majority, which is this member; never by counting an earlier term's entry."""
        if self._role is Role.LEADER and self._stable > self._commit and self._log.term(self._stable) == self._term:
            self._commit = self._stable

    def _append(self, kind: EntryKind, data: bytes) -> int:
        index = self._log.last_index + 1
        self._log.append(Entry(self._term, index, kind, data))
        return index
