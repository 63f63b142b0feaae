"""A leader: takes proposals, counts what is stored (Raft paper, 5.3 and 5.4.2), and proves that it leads."""

from __future__ import annotations

from typing import Final

from manager.raft import confchange
from manager.raft.member import Member, Move
from manager.raft.read_rounds import ReadRounds
from manager.raft.replication import Replication
from manager.raft.types import (
    NOBODY,
    ConfChange,
    Entry,
    EntryKind,
    Message,
    MessageKind,
    PeerStatus,
    ReadState,
    Role,
)
from swarmpy.errors import Code, SwarmError, precondition


class Leader:
    """What a member does while it leads; one object is one leadership, and begins with its NOOP.

    Attributes:
        noop_index: its first entry; once that is committed, so is all that earlier terms left.
        transferee: who is to lead next, while that is under way; else 0.
    """

    role: Final = Role.LEADER

    def __init__(self, member: Member) -> None:
        self._member = member
        self._replication = Replication(member)
        self._reads = ReadRounds(member.id, member.config.max_reads)
        self._uncommitted_bytes = 0
        self._ticks = self._transfer_ticks = 0
        self.transferee = NOBODY
        self.noop_index = self._append(EntryKind.NOOP, b"")
        # Until it has applied all that it found, it does not know of every change of the members.
        self._conf_index = self.noop_index

    @property
    def has_work(self) -> bool:
        """Whether `send_due` may have something to send."""
        return self._replication.is_due or (self._reads.has_questions and self._knows_commit)

    @property
    def peers(self) -> tuple[PeerStatus, ...]:
        return self._replication.statuses()

    def tick(self) -> Move | None:
        config = self._member.config
        self._replication.tick()
        if config.check_quorum and not self._replication.hears_a_majority():
            return Move.STEP_DOWN
        self._ticks += 1
        if self._ticks % config.heartbeat_ticks == 0:
            self._replication.send_heartbeats(self._reads.context)
        if self.transferee != NOBODY:
            self._transfer_ticks += 1
            if self._transfer_ticks >= config.election_ticks:
                self.transferee = NOBODY
        self._leave_joint()
        return None

    def step(self, message: Message) -> Move | None:
        if message.kind is MessageKind.READ_INDEX:
            if not self._reads.ask(message.sender, message.context):
                self._member.ignore("too many reads")
        elif not self._replication.knows(message.sender):
            self._member.ignore("from nobody")
        elif message.kind is MessageKind.APPEND_RESPONSE:
            self._replication.heard(message)
            self._appended(message)
        elif message.kind is MessageKind.HEARTBEAT_RESPONSE:
            self._replication.heard(message)
            self._replication.heartbeat_answered(message)
            self._reads.answer(message.sender, message.context)
            self._hand_out_reads()
        else:
            self._member.ignore(f"{message.kind.name} to a leader")
        return None

    # What is asked of it

    def propose(self, data: bytes) -> int:
        """See `RaftCore.propose`."""
        self._refuse_while_handing_over()
        waiting, most = self._uncommitted_bytes, self._member.config.uncommitted_bytes
        if waiting and waiting + len(data) > most:
            raise SwarmError(
                Code.RESOURCE_EXHAUSTED,
                f"{waiting} bytes of changes wait to be committed, the limit is {most}: try again in a moment",
                retryable=True,
            )
        self._uncommitted_bytes += len(data)
        return self._append(EntryKind.NORMAL, data)

    def propose_conf_change(self, change: ConfChange) -> int:
        """See `RaftCore.propose_conf_change`."""
        self._refuse_while_handing_over()
        member = self._member
        if self._conf_index > member.applied:
            raise SwarmError(
                Code.FAILED_PRECONDITION,
                f"a change of the managers may be under way at entry {self._conf_index}, and entry {member.applied} is"
                " the last one applied: try again in a moment",
                retryable=True,
            )
        confchange.apply(member.configuration, change)
        base = member.conf
        data = confchange.encode(ConfChange(change.changes, change.transition, base))
        self._conf_index = self._append(EntryKind.CONF_CHANGE, data)
        return self._conf_index

    def ask_read(self, context: bytes) -> None:
        """Let a read of this member's own wait for the next round."""
        if not self._reads.ask(self._member.id, context):
            raise SwarmError(Code.UNAVAILABLE, "too many reads wait for their turn: try again in a moment")

    def transfer(self, to: int) -> None:
        """See `RaftCore.transfer`."""
        if to == self._member.id:
            raise precondition(f"member {to} leads already: name another one")
        if to not in self._member.configuration.voters.ids:
            raise precondition(f"member {to} is no voter and cannot lead: name one of the managers that vote")
        if to == self.transferee:
            return
        self.transferee, self._transfer_ticks = to, 0
        if self._replication.has_all(to):
            self._tell_to_stand(to)
        else:
            self._replication.poke(to)

    # What becomes of it

    def send_due(self) -> None:
        """Send what is due, a round of heartbeats for the reads that wait included."""
        if self._reads.has_questions and self._knows_commit:
            self._reads.begin(self._member.commit)
            self._replication.send_heartbeats(self._reads.context)
            self._hand_out_reads()
        self._replication.send_due()

    def stored(self) -> None:
        """Learn that more of the own log is stored."""
        self._maybe_commit()

    def applied(self, entries: tuple[Entry, ...]) -> None:
        """Learn that `entries` were committed and applied, up to `Member.applied`."""
        # Entries of earlier terms were never counted, so this is a floor, as in etcd.
        freed = sum(len(e.data) for e in entries if e.kind is EntryKind.NORMAL)
        self._uncommitted_bytes = max(0, self._uncommitted_bytes - freed)
        self._leave_joint()

    def members_changed(self) -> Move | None:
        """Go by the new configuration; whoever is not to vote in it cannot lead (thesis, 4.2.2)."""
        member = self._member
        if not member.is_voter:
            return Move.STEP_DOWN
        self._replication.follow_members(max(member.log.last_index, 1))
        if self.transferee not in member.configuration.voters.ids:
            self.transferee = NOBODY
        self._maybe_commit()
        self._hand_out_reads()
        return None

    def unreachable(self, member_id: int) -> None:
        """See `RaftCore.report_unreachable`."""
        self._replication.lost(member_id)

    def snapshot_ended(self, member_id: int, *, ok: bool) -> None:
        """See `RaftCore.report_snapshot`."""
        self._replication.snapshot_ended(member_id, ok=ok)

    @property
    def _knows_commit(self) -> bool:
        """Whether it knows all that was committed before it led: only then may anybody read at its commit index."""
        return self._member.commit >= self.noop_index

    def _leave_joint(self) -> None:
        """Propose the end of a joint configuration that is to be left by itself (Raft paper, 6)."""
        member = self._member
        if member.configuration.auto_leave and member.applied >= self._conf_index and self.transferee == NOBODY:
            self.propose_conf_change(ConfChange())

    def _append(self, kind: EntryKind, data: bytes) -> int:
        member = self._member
        index = member.log.last_index + 1
        member.log.append(Entry(member.term, index, kind, data))
        self._replication.is_due = True
        return index

    def _appended(self, message: Message) -> None:
        if message.reject:
            self._replication.refused(message)
            return
        if self._replication.accepted(message):
            self._maybe_commit()
        if message.sender == self.transferee and self._replication.has_all(self.transferee):
            self._tell_to_stand(self.transferee)

    def _maybe_commit(self) -> None:
        """Commit what a majority has stored, but never by counting an entry of an earlier term (5.4.2)."""
        member = self._member
        index = member.configuration.voters.committed_index(self._replication.stored)
        if index > member.commit and member.log.term(index) == member.term:
            member.commit_to(index)
            self._replication.is_due = True

    def _hand_out_reads(self) -> None:
        member = self._member
        for index, question in self._reads.proven(member.configuration.voters):
            if question.asker == member.id:
                member.reads.append(ReadState(index, question.context))
            else:
                kind = MessageKind.READ_INDEX_RESPONSE
                member.send(
                    Message(kind, member.id, question.asker, member.term, index=index, context=question.context)
                )

    def _tell_to_stand(self, to: int) -> None:
        self._member.send(Message(MessageKind.TIMEOUT_NOW, self._member.id, to, self._member.term))

    def _refuse_while_handing_over(self) -> None:
        if self.transferee != NOBODY:
            raise SwarmError(
                Code.UNAVAILABLE,
                f"member {self._member.id} is handing the lead over to member {self.transferee}: try again in a moment",
            )
