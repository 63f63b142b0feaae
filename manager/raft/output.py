"""What is to be done next, in an order that keeps every promise: what was said of it before, and what is under way."""

from __future__ import annotations

from typing import Final

from manager.raft.leader import Leader
from manager.raft.member import Member
from manager.raft.types import NOBODY, Entry, HardState, Leadership, Message, MessageKind, Ready

# What a leader sends before its own disk has it: none of it promises anything in the sender's name.
_AHEAD: Final = frozenset(
    {
        MessageKind.APPEND,
        MessageKind.HEARTBEAT,
        MessageKind.SNAPSHOT,
        MessageKind.TIMEOUT_NOW,
        MessageKind.READ_INDEX_RESPONSE,
    }
)


class Output:
    """Makes a member's `Ready`s, one at a time. `leader` is the member's role if it leads, here and below.

    Args:
        stored: the hard state that is stored.
    """

    def __init__(self, member: Member, stored: HardState) -> None:
        self._member = member
        self._told_hard = stored
        self._told_leadership = (False, NOBODY, 0)
        self._ready: Ready | None = None

    @property
    def is_overtaken(self) -> bool:
        """Whether a snapshot came after the `Ready` under way, and stands for all that this one hands out."""
        restored = self._member.restored
        return restored is not None and (self._ready is None or restored is not self._ready.snapshot)

    def has_ready(self, leader: Leader | None, *, hand_out: bool) -> bool:
        """See `RaftCore.has_ready`."""
        return (leader is not None and leader.has_work) or self._has_news(leader, hand_out=hand_out)

    def ready(self, leader: Leader | None, *, hand_out: bool) -> Ready | None:
        """See `RaftCore.ready`."""
        assert self._ready is None, "advance() comes before the next ready()"
        if leader is not None and leader.has_work:
            leader.send_due()
        if not self._has_news(leader, hand_out=hand_out):
            return None
        member = self._member
        hard, told = member.hard_state, self._told_hard
        is_promised = (hard.term, hard.vote) == (told.term, told.vote)
        entries = member.log.begin_storing()
        committed = self._committed() if hand_out and member.applied < member.commit else ()
        ahead, messages = self._sent(is_promised) if member.outbox else ((), ())
        self._ready = Ready(
            hard_state=hard if hard != told else None,
            entries=entries,
            must_sync=bool(entries) or not is_promised or member.restored is not None,
            messages=messages,
            committed=committed,
            leadership=self._news(leader, committed),
            ahead=ahead,
            snapshot=member.restored,
            reads=tuple(member.reads),
        )
        member.reads.clear()
        return self._ready

    def advance(self, leader: Leader | None) -> None:
        """See `RaftCore.advance`."""
        done, self._ready = self._ready, None
        assert done is not None, "ready() comes before advance()"
        member = self._member
        if done.hard_state is not None:
            self._told_hard = done.hard_state
        if done.snapshot is not None:
            if member.snapshot.index < done.snapshot.index:
                member.snapshot = done.snapshot
            if member.restored is done.snapshot:
                member.restored = None
        if done.committed:
            member.applied = max(member.applied, done.committed[-1].index)
            if leader is not None:
                leader.applied(done.committed)
        if done.entries:
            member.log.end_storing()
            if leader is not None:
                leader.stored()

    def _has_news(self, leader: Leader | None, *, hand_out: bool) -> bool:
        """Return whether there is anything to do, once a leader has said all that it has to say."""
        member = self._member
        return (
            bool(member.outbox or member.reads)
            or member.log.is_unstored
            or (hand_out and member.applied < member.commit)
            or member.hard_state != self._told_hard
            or member.restored is not None
            or self._leadership(leader, member.applied) != self._told_leadership
        )

    def _committed(self) -> tuple[Entry, ...]:
        """Return what is to be applied: all of it is stored, or will be by the `Ready` that hands it out."""
        member, config = self._member, self._member.config
        return member.log.between(
            member.applied + 1, member.commit, max_entries=config.apply_entries, max_bytes=config.apply_bytes
        )

    def _sent(self, is_promised: bool) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
        """Return the messages that may go ahead of the disk, where term and vote are, and those that may not."""
        sent, self._member.outbox = self._member.outbox, []
        if not is_promised:
            return (), tuple(sent)
        return tuple(m for m in sent if m.kind in _AHEAD), tuple(m for m in sent if m.kind not in _AHEAD)

    def _leadership(self, leader: Leader | None, applied: int) -> tuple[bool, int, int]:
        """Return whether this member leads, who does, and in which term, as it is to be told."""
        member = self._member
        if leader is not None:
            knows_all = applied >= leader.noop_index
            return (True, member.id, member.term) if knows_all else (False, NOBODY, 0)
        return False, member.leader_id, member.term if member.leader_id else 0

    def _news(self, leader: Leader | None, committed: tuple[Entry, ...]) -> Leadership | None:
        now = self._leadership(leader, committed[-1].index if committed else self._member.applied)
        if now == self._told_leadership:
            return None
        self._told_leadership = now
        return Leadership(is_leader=now[0], term=self._member.term, leader_id=now[1])
