"""A follower: takes what its leader sends (Raft paper, 5.3), and stands once it has not heard of one for too long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from manager.raft.confchange import Configuration
from manager.raft.member import Member, Move
from manager.raft.types import NOBODY, Entry, Message, MessageKind, ReadState, Role, SnapshotMark
from swarmpy.errors import SwarmError


class Follower:
    """What a member does while it follows somebody, or waits for somebody to follow."""

    role: Final = Role.FOLLOWER

    def __init__(self, member: Member) -> None:
        self._member = member

    def tick(self) -> Move | None:
        """Wait for the leader. An only voter has nobody to wait for and stands at once."""
        member = self._member
        member.elapsed += 1
        if member.is_timed_out:
            member.leader_id = NOBODY
        return Move.STAND if member.is_only_voter or member.is_timed_out else None

    def step(self, message: Message) -> Move | None:
        match message.kind:
            case MessageKind.APPEND | MessageKind.HEARTBEAT | MessageKind.SNAPSHOT:
                self._obey(message)
            case MessageKind.TIMEOUT_NOW if self._member.leader_id in (NOBODY, message.sender):
                return Move.STAND_FORCED
            case MessageKind.READ_INDEX_RESPONSE if self._member.leader_id == message.sender:
                self._member.reads.append(ReadState(message.index, message.context))
            case _:
                self._member.ignore(f"{message.kind.name} to a follower")
        return None

    def _obey(self, message: Message) -> None:
        member = self._member
        if member.leader_id not in (NOBODY, message.sender):
            member.ignore("a second leader of a term")
            return
        member.leader_id, member.elapsed = message.sender, 0
        if message.kind is MessageKind.APPEND:
            self._append(message)
        elif message.kind is MessageKind.HEARTBEAT:
            self._heartbeat(message)
        else:
            self._restore(message)

    def _append(self, message: Message) -> None:
        """Append what fits behind a place where the logs agree; else say where they might (5.3)."""
        member, log = self._member, self._member.log
        if not _are_in_order(message):
            member.ignore("entries out of order")
        elif message.index < member.commit:
            # What is committed here is in every later leader's log: so much agrees for certain.
            member.answer(message, MessageKind.APPEND_RESPONSE, index=member.commit)
        elif not log.holds(message.index, message.log_term):
            self._refuse(message)
        else:
            self._take(message)

    def _take(self, message: Message) -> None:
        member, log = self._member, self._member.log
        last = message.index + len(message.entries)
        news: Sequence[Entry] = log.differing(message.entries)
        if news:
            assert news[0].index > member.commit, "no place behind the commit index is asked about"
            log.replace_tail(news)
        # What is behind `last` in this log may be of another leader: nothing is known of that.
        member.commit_to(min(message.commit, last))
        member.answer(message, MessageKind.APPEND_RESPONSE, index=last)

    def _refuse(self, message: Message) -> None:
        """Say where the logs may agree, so that the leader can skip a term at a time (5.3; thesis, 3.5)."""
        member = self._member
        hint, hint_term = member.log.last_within(message.log_term, message.index)
        member.send(
            Message(
                MessageKind.APPEND_RESPONSE,
                member.id,
                message.sender,
                member.term,
                index=message.index,
                log_term=hint_term,
                reject=True,
                reject_index=hint,
            )
        )

    def _heartbeat(self, message: Message) -> None:
        member = self._member
        if message.commit <= member.log.last_index:
            member.commit_to(message.commit)
        else:  # this log lost what it acknowledged: it must not commit anything by hearsay
            member.ignore("commits what this log does not hold")
        member.answer(message, MessageKind.HEARTBEAT_RESPONSE, context=message.context)

    def _restore(self, message: Message) -> None:
        """Let a snapshot stand for log and state, unless the log can do without it (7)."""
        member, mark = self._member, message.snapshot
        if mark is None or mark.term > message.term or (members := _members_at(mark)) is None:
            member.ignore("a snapshot that cannot be")
            return
        if mark.index > member.commit:
            if member.log.holds(mark.index, mark.term):
                member.commit_to(mark.index)
            else:
                member.log.restart(mark)
                member.commit = member.applied = mark.index
                member.configuration = members
                member.restored = mark
        member.answer(message, MessageKind.APPEND_RESPONSE, index=member.commit)


def _members_at(mark: SnapshotMark) -> Configuration | None:
    try:
        return Configuration.from_conf_state(mark.conf)
    except SwarmError:
        return None


def _are_in_order(message: Message) -> bool:
    """Return whether the entries follow each other and their message's place, in terms that can be."""
    index, term = message.index, message.log_term
    for entry in message.entries:
        index += 1
        if entry.index != index or not term <= entry.term <= message.term:
            return False
        term = entry.term
    return index >= len(message.entries)
