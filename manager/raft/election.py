"""What a member does with a message before its role sees it: terms (Raft paper, 5.1), leases and votes."""

from __future__ import annotations

from typing import Final

from manager.raft.member import Member
from manager.raft.types import NOBODY, Message, MessageKind

FROM_LEADERS: Final = frozenset({MessageKind.APPEND, MessageKind.HEARTBEAT, MessageKind.SNAPSHOT})
VOTES: Final = {
    MessageKind.VOTE: MessageKind.VOTE_RESPONSE,
    MessageKind.PRE_VOTE: MessageKind.PRE_VOTE_RESPONSE,
}
ABOUT_VOTES: Final = frozenset({*VOTES, *VOTES.values()})
MAX_TERM: Final = 2**62
"""Far above any term that can come about; beyond it a message is no member's."""


def is_believable(member: Member, message: Message) -> bool:
    """Return whether `message` can be a member's word to this one at all."""
    is_for_us = message.to == member.id and message.sender not in (NOBODY, member.id)
    return is_for_us and 0 < message.term < MAX_TERM


def is_held_back(member: Member, message: Message) -> bool:
    """Return whether a request for a vote is not even looked at: this member hears of a leader (thesis, 4.2.3)."""
    return message.kind in VOTES and not message.forced and member.has_lease


def brings_its_term(message: Message) -> bool:
    """Return whether a message of a higher term is of a term that has begun.

    A pre-vote asks about a term that may never be; so does the answer that grants it.
    """
    if message.kind is MessageKind.PRE_VOTE_RESPONSE:
        return message.reject
    return message.kind is not MessageKind.PRE_VOTE


def answer_old(member: Member, message: Message) -> None:
    """Refuse a request of a lower term, and so tell the sender what term it is (5.1).

    A member that came back with a higher term, and is not voted for, would not hear of its leader else: its answer to
    heartbeats makes the leader step down, and an election in a still higher term lets it take part again.
    """
    if message.kind in FROM_LEADERS:
        member.answer(message, MessageKind.APPEND_RESPONSE)
    elif message.kind in VOTES:
        _respond(member, message, granted=False)
    else:
        member.ignore("of an earlier term")


def learn_commit(member: Member, message: Message) -> None:
    """Believe what a request for a vote, or a refusal, says is committed, if this log holds it.

    Without it an election could be stuck for good: a member may need the vote of one that has left (or the vote of
    one that does not know yet that it votes), which refuses it for its longer log and never stands itself.
    """
    if message.commit > member.commit and member.log.holds(message.commit, message.commit_term):
        member.commit_to(message.commit)


def vote(member: Member, message: Message) -> None:
    """Answer a request for a vote or pre-vote of this member's term, or a pre-vote of a higher one.

    One vote a term, first come first served, and only for a log that has all that is committed (5.2, 5.4.1). Who
    asks is not compared with the configuration: the asker may know of members that this one has not heard of yet, and a
    learner may have been made a voter.
    """
    is_free = (
        member.vote == message.sender
        or (member.vote == NOBODY and member.leader_id == NOBODY)
        or (message.kind is MessageKind.PRE_VOTE and message.term > member.term)
    )
    granted = is_free and member.log.is_behind(message.log_term, message.index)
    _respond(member, message, granted=granted)
    if granted and message.kind is MessageKind.VOTE:
        member.vote = message.sender
        member.restart_timer()


def _respond(member: Member, message: Message, *, granted: bool) -> None:
    """A granted (pre-)vote is of the term that was asked for; a refusal tells this member's term, and what it knows."""
    kind, to = VOTES[message.kind], message.sender
    if granted:
        member.send(Message(kind, member.id, to, message.term))
        return
    commit, commit_term = member.commit, member.log.term(member.commit)
    member.send(Message(kind, member.id, to, member.term, reject=True, commit=commit, commit_term=commit_term))
