"""All who wait for something of one member, so that none is forgotten whatever happens to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from manager.raft.changes import Changes
from manager.raft.handover import Handover
from manager.raft.outlet import Settled
from manager.raft.proposals import Proposals
from manager.raft.reads import Reads
from manager.raft.types import Entry

READ_RETRY_TICKS: Final = 3


class Waiting:
    """Proposals, changes of the members, reads and hand-overs.

    Args:
        patience_ticks: how long an outcome may fail to come without a leader.
        first_read: see `Reads`.
    """

    def __init__(self, member_id: int, *, patience_ticks: int, first_read: int) -> None:
        self.proposals = Proposals(patience_ticks)
        self.changes = Changes(patience_ticks)
        self.handover = Handover(patience_ticks)
        self.reads = Reads(member_id, first=first_read, patience_ticks=patience_ticks, retry_ticks=READ_RETRY_TICKS)

    def tick(self, *, leads: bool) -> list[Settled]:
        """Let a tick pass, and give up what waited too long."""
        return [
            *self.proposals.tick(leads=leads),
            *self.changes.tick(leads=leads),
            *self.reads.tick(),
            *self.handover.tick(),
        ]

    def stored(self, entries: Sequence[Entry]) -> list[Settled]:
        """Give up those whose places these entries take, if they are another leader's."""
        if not entries:
            return []
        return [*self.proposals.replaced(entries[0]), *self.changes.replaced(entries[0])]

    def restored(self, index: int) -> list[Settled]:
        """Give up those whose places a leader's snapshot took."""
        return [*self.proposals.covered(index), *self.changes.covered()]
