"""What the rest of the manager may know of Raft: the log it proposes to, and what it must bring."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from manager.raft.types import Commit, ConfChange, ConfState, Entry, Leadership, SnapshotMark, Status
from swarmpy.errors import SwarmError


@dataclass(frozen=True, slots=True)
class Peer:
    """Where another member is: its node, which its certificate names, and `host:port` of its control port."""

    node_id: str
    addr: str


@dataclass(frozen=True, slots=True)
class StateMachine:
    """What the replicated log drives; all called on the loop that started the log, never at the same time.

    Args:
        apply: takes committed entries, in order, each once, of every `EntryKind` (only NORMAL ones hold
            proposals); must not raise: an error there means that members may differ, and fails the log.
        restore: takes a snapshot's chunks, as they were given to `snapshot()`, in place of all earlier state: at
            start, and when a leader sent one. An error out of `chunks` (CORRUPT) is to be let through; the log does
            not start, or fails, then.
        leadership: is told who leads, in order with `apply`: as leader, all that is committed was applied before.
    """

    apply: Callable[[Sequence[Entry]], None]
    restore: Callable[[SnapshotMark, AsyncIterator[bytes]], Awaitable[None]]
    leadership: Callable[[Leadership], None]


class ReplicatedLog(Protocol):
    """The log as the store and the manager see it. To be used on the loop that started it."""

    async def start(self) -> None:
        """Restore the last snapshot, then run; entries and leadership follow through the callbacks.

        Raises:
            SwarmError: CORRUPT, NOT_FOUND, FAILED_PRECONDITION or NOT_SUPPORTED: the directory cannot be used.
        """

    async def propose(self, data: bytes) -> Commit:
        """Return once `data` is committed and `apply` has taken it. Calls overlap and keep their order.

        A caller that is cancelled takes nothing back: the entry may still be committed.

        Raises:
            SwarmError: NOT_LEADER; RESOURCE_EXHAUSTED (disk full, too much under way): nothing was appended.
                INTERNAL or UNAVAILABLE (the log failed or was stopped, the lead was lost): the entry may be committed
                or not.
        """

    async def read_barrier(self) -> None:
        """Return once everything that was acknowledged anywhere before this call is applied here.

        Raises:
            SwarmError: UNAVAILABLE: no leader answered, or the log failed or was stopped.
        """

    async def change_members(self, change: ConfChange) -> ConfState:
        """Change who the members are, as the leader; return the members once that is applied, joint stages included.

        Raises:
            SwarmError: NOT_LEADER; FAILED_PRECONDITION: another change is under way, or this one makes no sense;
                RESOURCE_EXHAUSTED; UNAVAILABLE or INTERNAL: it may have been made or not.
        """

    async def transfer(self, to: int = 0) -> None:
        """Hand the lead over to a member (0: to whoever is most up to date); return once this one does not lead.

        Raises:
            SwarmError: NOT_LEADER; FAILED_PRECONDITION: no such voter; UNAVAILABLE: it did not take the lead.
        """

    async def resign(self) -> None:
        """Step down, if this member leads and is not the only voter; the others elect a leader by themselves."""

    def set_peers(self, peers: Mapping[int, Peer]) -> None:
        """Say where the other members are, in place of what was said before."""

    async def snapshot(self, index: int, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> SnapshotMark:
        """Store the state after entry `index` (applied, newer than the last snapshot) and compact the log.

        `chunks` is taken from piece by piece between other work, so it may make each piece when asked.

        Raises:
            SwarmError: FAILED_PRECONDITION (nothing new, or one is being written); RESOURCE_EXHAUSTED (disk full):
                the last snapshot stays.
        """

    def status(self) -> Status:
        """Return the member's state, as of the last thing it did."""

    async def failed(self) -> SwarmError:
        """Return once the log has failed for good, with the reason; the manager must stop then."""

    async def stop(self) -> None:
        """Finish the write under way and let go of everything; what is not yet committed fails as UNAVAILABLE."""
