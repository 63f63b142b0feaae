"""Where a member's work goes: messages to other members, and what is committed to the state machine's side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from manager.raft.types import Entry, Leadership, Message, SnapshotMark

Waiter: TypeAlias = object  # whoever waits for an outcome; the node carries it and never looks into it
Settled: TypeAlias = tuple[Waiter, object]


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the state machine's side does next, in this order; then it calls `RaftNode.applied()` once.

    Args:
        restore: the newest stored snapshot replaces all state; if so, `entries` is empty.
        entries: committed entries of every kind, in order, without holes behind what was delivered before.
        settled: each waiter with its outcome: a proposal's `Commit`, a change's `ConfState`, None for reads and
            transfers, or the `SwarmError` that it failed with.
        leadership: who leads now, if that changed.
    """

    entries: tuple[Entry, ...] = ()
    restore: SnapshotMark | None = None
    settled: tuple[Settled, ...] = ()
    leadership: Leadership | None = None

    @property
    def last_index(self) -> int:
        """What is applied once this was taken; 0 if it brings nothing to apply."""
        if self.entries:
            return self.entries[-1].index
        return self.restore.index if self.restore is not None else 0


class Outlet(Protocol):
    """What a `RaftNode` is given to act through. Nothing here may block, or call back into the node at once."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send to other members. May lose any; those of one call to one member keep their order."""

    def send_snapshot(self, message: Message) -> None:
        """Stream the newest stored snapshot (`message.snapshot`) to `message.to`, then deliver `message` there.

        It is open by `RaftNode.snapshot_reader()` at this moment, and may be replaced later. Whatever comes of it is
        told by `RaftNode.snapshot_sent()`, once.
        """

    def deliver(self, delivery: Delivery) -> None:
        """Give the state machine's side something to do, behind all that it was given before."""
