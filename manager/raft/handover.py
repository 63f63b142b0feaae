"""Who waits for this member to hand the lead over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from manager.raft.outlet import Settled, Waiter
from manager.raft.types import PeerStatus
from swarmpy.errors import Code, SwarmError, precondition


class _Asked(NamedTuple):
    waiter: Waiter
    to: int
    until_tick: int


class Handover:
    """The hand-overs that were asked for.

    Args:
        patience_ticks: how long one may take; the core gives it up by then.
    """

    def __init__(self, patience_ticks: int) -> None:
        self._patience_ticks, self._ticks = patience_ticks, 0
        self._asked: list[_Asked] = []

    def add(self, to: int, waiter: Waiter) -> None:
        self._asked.append(_Asked(waiter, to, self._ticks + self._patience_ticks))

    @property
    def is_asked(self) -> bool:
        """Whether anybody waits."""
        return bool(self._asked)

    def stepped_down(self) -> list[Settled]:
        """Settle all: this member does not lead any more."""
        asked, self._asked = self._asked, []
        return [(one.waiter, None) for one in asked]

    def tick(self) -> Iterator[Settled]:
        """Let a tick pass, and give up what took too long."""
        self._ticks += 1
        while self._asked and self._asked[0].until_tick < self._ticks:
            waiter, to, _ = self._asked.pop(0)
            sentence = f"member {to} did not take the lead over in time, this one still leads: is it up? Try again"
            yield waiter, SwarmError(Code.UNAVAILABLE, sentence)


def successor(peers: Iterable[PeerStatus], leader_id: int) -> int:
    """Return who can take the lead over from `leader_id` soonest: the voter that has most of the log.

    Raises:
        SwarmError: FAILED_PRECONDITION, no other voter answers.
    """
    able = [peer for peer in peers if peer.active and not peer.is_learner and peer.member_id != leader_id]
    if not able:
        raise precondition("no other manager can take the lead over now: is another one up?")
    return max(able, key=lambda peer: (peer.match, -peer.member_id)).member_id
