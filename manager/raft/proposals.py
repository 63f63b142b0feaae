"""Who waits for which place in the log, and what becomes of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from manager.raft.outlet import Settled, Waiter
from manager.raft.types import Commit, Entry
from swarmpy.errors import Code, SwarmError


class _Proposal(NamedTuple):
    place: Commit
    waiter: Waiter


class Proposals:
    """The proposals under way of one member, in the order of their places.

    A member that no longer leads does not know yet what becomes of them: the next leader may hold them and commit
    them. So they are kept for a while, which makes a hand-over lose none.

    Args:
        patience_ticks: how long they are kept without leading.
    """

    def __init__(self, patience_ticks: int) -> None:
        self._patience_ticks = patience_ticks
        self._waiting: deque[_Proposal] = deque()
        self._idle_ticks = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, place: Commit, waiter: Waiter) -> None:
        self._waiting.append(_Proposal(place, waiter))

    def committed(self, entries: Sequence[Entry]) -> Iterator[Settled]:
        """Settle those whose place is among `entries`: made, if the entry there is theirs."""
        if not entries:
            return
        first, last = entries[0].index, entries[-1].index
        while self._waiting and self._waiting[0].place.index <= last:
            place, waiter = self._waiting.popleft()
            own = place.index >= first and entries[place.index - first].term == place.term
            yield waiter, place if own else lost()

    def replaced(self, first: Entry) -> Iterator[Settled]:
        """Give up those whose place is taken by `first`, which is stored now, or lies behind it."""
        while self._waiting and _is_taken(self._waiting[-1].place, first):
            yield self._waiting.pop().waiter, lost()

    def covered(self, index: int) -> Iterator[Settled]:
        """Give up those up to `index`: a snapshot came in the entries' place and does not name them."""
        while self._waiting and self._waiting[0].place.index <= index:
            yield self._waiting.popleft().waiter, lost()

    def tick(self, *, leads: bool) -> Iterator[Settled]:
        """Let a tick pass; without leading for too long, all are given up."""
        self._idle_ticks = 0 if leads or not self._waiting else self._idle_ticks + 1
        if self._idle_ticks > self._patience_ticks:
            while self._waiting:
                yield self._waiting.popleft().waiter, lost()


def _is_taken(place: Commit, first: Entry) -> bool:
    return place.index >= first.index and place.term < first.term


def lost() -> SwarmError:
    """Return what a proposal fails with whose outcome this member cannot know."""
    return SwarmError(
        Code.UNAVAILABLE,
        "this manager no longer leads, and the change may have been made or not: look, or try again with the same"
        " request id",
    )
