"""Who must agree: a majority of the voters, and of both groups of voters while their membership changes.

A joint configuration (Raft paper, section 6) needs a majority of the voters that come and, apart from it, one of
those that go. Everything here is pure and knows neither logs nor messages.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

Acked = Callable[[int], int | None] | Mapping[int, int]
"""The highest index that a member is known to have stored; None or missing: nothing was heard of it."""

MAX_INDEX: Final = 2**64 - 1
"""What a majority of nobody commits: it never holds up the other half of a joint configuration."""


class VoteResult(enum.Enum):
    """How an election stands."""

    PENDING = "pending"  # the votes still out decide
    LOST = "lost"
    WON = "won"


@dataclass(frozen=True, slots=True, init=False)
class Majority:
    """One group of voters, of which more than half must agree.

    Attributes:
        ids: the voters, each once, in order.
    """

    ids: tuple[int, ...]

    def __init__(self, ids: Iterable[int] = ()) -> None:
        object.__setattr__(self, "ids", tuple(sorted(set(ids))))

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, member_id: object) -> bool:
        return member_id in self.ids

    def __str__(self) -> str:
        return f"({' '.join(map(str, self.ids))})"

    @property
    def needed(self) -> int:
        """How many must agree; 0 of nobody."""
        return len(self.ids) // 2 + 1 if self.ids else 0

    def committed_index(self, acked: Acked) -> int:
        """Return the highest index that a majority has stored; MAX_INDEX if there are no voters."""
        if not self.ids:
            return MAX_INDEX
        look_up = _lookup(acked)
        return sorted(look_up(i) or 0 for i in self.ids)[-self.needed]

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Return how an election stands, True being a vote for the candidate; without voters it is won.

        Votes of others than the voters do not count.
        """
        granted = sum(votes.get(i) is True for i in self.ids)
        if granted >= self.needed:
            return VoteResult.WON
        open_votes = sum(i not in votes for i in self.ids)
        return VoteResult.PENDING if granted + open_votes >= self.needed else VoteResult.LOST

    def describe(self, acked: Acked) -> str:
        """Draw who has stored what, a line for each voter, its bar as long as there are voters behind it."""
        if not self.ids:
            return "<empty majority quorum>"
        look_up, width = _lookup(acked), len(self.ids)
        known = {i: look_up(i) for i in self.ids}
        lines = [" " * width + "    idx"]
        for member_id, index in known.items():
            behind = sum((other or 0) < (index or 0) for other in known.values())
            bar = "?" if index is None else "x" * behind + ">"
            lines.append(f"{bar:<{width + 1}} {index or 0:>5}    (id={member_id})")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Joint:
    """Two groups of voters that must both agree; with nobody in `outgoing` it is the majority of `incoming`."""

    incoming: Majority = Majority()
    outgoing: Majority = Majority()

    def __str__(self) -> str:
        return f"{self.incoming}&&{self.outgoing}" if self.outgoing else str(self.incoming)

    @property
    def ids(self) -> frozenset[int]:
        """The voters of either group."""
        return frozenset(self.incoming.ids + self.outgoing.ids)

    def committed_index(self, acked: Acked) -> int:
        """Return the highest index that is stored on a majority of each group."""
        return min(self.incoming.committed_index(acked), self.outgoing.committed_index(acked))

    def vote_result(self, votes: Mapping[int, bool]) -> VoteResult:
        """Return how an election stands: won in both groups, lost in one of them, or still open."""
        results = (self.incoming.vote_result(votes), self.outgoing.vote_result(votes))
        if VoteResult.LOST in results:
            return VoteResult.LOST
        return VoteResult.PENDING if VoteResult.PENDING in results else VoteResult.WON

    def describe(self, acked: Acked) -> str:
        """Draw who of both groups has stored what; see `Majority.describe`."""
        return Majority(self.ids).describe(acked)


def _lookup(acked: Acked) -> Callable[[int], int | None]:
    return acked.get if isinstance(acked, Mapping) else acked
