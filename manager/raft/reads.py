"""Reads that see all that was acknowledged before they began: rounds of one question to a majority.

The first read asks at once; those that come while it is under way share the next round (never the present one, which
may have been answered before they came).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from manager.raft.outlet import Settled, Waiter
from manager.raft.types import ReadState
from swarmpy.errors import Code, SwarmError

_CONTEXT: Final = struct.Struct("<QQ")  # member, number of the question


class _Read(NamedTuple):
    waiter: Waiter
    since_tick: int


class Reads:
    """The reads of one member.

    Args:
        member_id: makes this member's questions different from all others'.
        first: number of the first question; random, so that a late answer to an earlier run is never taken for one.
        patience_ticks: how long a read may take before it fails.
        retry_ticks: how long an answer may take before the question is asked again.
    """

    def __init__(self, member_id: int, *, first: int, patience_ticks: int, retry_ticks: int) -> None:
        self._member_id, self._number = member_id, first
        self._patience_ticks, self._retry_ticks = patience_ticks, retry_ticks
        self._ticks = self._asked_tick = 0
        self._next: list[_Read] = []
        self._asked: list[_Read] = []
        self._context = b""
        self._known: list[tuple[int, list[_Read]]] = []  # answered: to be served once so much is applied

    def add(self, waiter: Waiter) -> None:
        self._next.append(_Read(waiter, self._ticks))

    def ask(self, question: Callable[[bytes], None]) -> None:
        """Begin a round, if there is need and none is under way. `question` may raise UNAVAILABLE: nobody leads."""
        if self._asked or not self._next:
            return
        self._number = (self._number + 1) % 2**64
        context = _CONTEXT.pack(self._member_id, self._number)
        try:
            question(context)
        except SwarmError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
            return
        self._asked, self._next, self._context, self._asked_tick = self._next, [], context, self._ticks

    def again(self) -> None:
        """Give the round under way up and let its reads be asked for anew: another member may lead now."""
        self._next[:0], self._asked, self._context = self._asked, [], b""

    def answered(self, states: Iterable[ReadState]) -> None:
        """Take answers; those to questions that were given up mean nothing."""
        for state in states:
            if self._asked and state.context == self._context:
                self._known.append((state.index, self._asked))
                self._asked, self._context = [], b""

    def served(self, index: int) -> Sequence[Settled]:
        """Settle the reads that may be served once everything up to `index` is applied."""
        if not self._known:
            return ()
        due = [reads for at, reads in self._known if at <= index]
        self._known = [known for known in self._known if known[0] > index]
        return [(read.waiter, None) for reads in due for read in reads]

    def tick(self) -> Iterator[Settled]:
        """Let a tick pass: ask again what was not answered, and give up what waited too long."""
        self._ticks += 1
        if self._asked and self._ticks - self._asked_tick >= self._retry_ticks:
            self.again()
        oldest = self._ticks - self._patience_ticks
        while self._next and self._next[0].since_tick < oldest:
            yield self._next.pop(0).waiter, _unanswered()


def _unanswered() -> SwarmError:
    return SwarmError(
        Code.UNAVAILABLE,
        "no leader of the managers answered in time: a majority of them must be up and reach each other; try again",
    )
