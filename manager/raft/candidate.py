"""A candidate, or a pre-candidate that first asks whether it could win (Raft paper, 5.2; thesis, 9.6)."""

from __future__ import annotations

from typing import Final

from manager.raft.member import Member, Move
from manager.raft.quorum import VoteResult
from manager.raft.types import Message, MessageKind, Role


class Candidate:
    """What a member does while it stands: counts votes, its own included.

    Args:
        pre: ask for pre-votes: they promise nothing, and change no term.
        forced: the leader wants it to win: leases do not hold votes back (thesis, 4.2.3).
    """

    def __init__(self, member: Member, *, pre: bool, forced: bool = False) -> None:
        self.role: Final = Role.PRE_CANDIDATE if pre else Role.CANDIDATE
        self._member, self._pre, self._forced = member, pre, forced
        self._votes = {member.id: True}

    def ask(self) -> None:
        """Ask the other voters. The core stores term and own vote before this is sent."""
        member, log = self._member, self._member.log
        kind = MessageKind.PRE_VOTE if self._pre else MessageKind.VOTE
        for voter in sorted(member.configuration.voters.ids - {member.id}):
            member.send(
                Message(
                    kind,
                    member.id,
                    voter,
                    self._asked_term,
                    log_term=log.last_term,
                    index=log.last_index,
                    forced=self._forced,
                    commit=member.commit,
                    commit_term=log.term(member.commit),
                )
            )

    def tick(self) -> Move | None:
        """Wait for votes; begin anew if neither enough of them nor a leader came (5.2)."""
        self._member.elapsed += 1
        return Move.STAND if self._member.is_timed_out else None

    def step(self, message: Message) -> Move | None:
        """Count a vote. Granted pre-votes come in the term that was asked for, all else in the member's."""
        expected = MessageKind.PRE_VOTE_RESPONSE if self._pre else MessageKind.VOTE_RESPONSE
        if message.kind is not expected or message.term != (self._member.term if message.reject else self._asked_term):
            self._member.ignore(f"{message.kind.name} to a {self.role.value}")
            return None
        if message.sender in self._member.configuration.voters.ids:
            self._votes.setdefault(message.sender, not message.reject)
        return self.result()

    def result(self) -> Move | None:
        """Return what the votes so far come to."""
        match self._member.configuration.voters.vote_result(self._votes):
            case VoteResult.WON:
                return Move.WON
            case VoteResult.LOST:
                return Move.LOST
            case VoteResult.PENDING:
                return None

    @property
    def _asked_term(self) -> int:
        return self._member.term + 1 if self._pre else self._member.term
