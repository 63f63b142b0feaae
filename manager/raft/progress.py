"""What a leader knows of one other member's log, and what it may send there (a member is probed before it is fed).

PROBE sends one message and waits, until it is known where the logs agree. REPLICATE takes for granted that what was
sent arrives, and sends on, within bounds. SNAPSHOT sends nothing until the snapshot's fate is told.
"""

from __future__ import annotations

from collections import deque

import msgspec

from manager.raft.types import PeerState, PeerStatus


class Inflights:
    """Unanswered APPENDs with entries: how many, and how much, oldest first.

    Args:
        max_messages: so many at most.
        max_bytes: no more are begun once their entries come to this.
    """

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self._max_messages, self._max_bytes = max_messages, max_bytes
        self._sent: deque[tuple[int, int]] = deque()  # last index and bytes
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sent)

    @property
    def is_full(self) -> bool:
        return len(self._sent) >= self._max_messages or self._bytes >= self._max_bytes

    def add(self, last_index: int, size_bytes: int) -> None:
        """Note an APPEND that ends with entry `last_index`."""
        self._sent.append((last_index, size_bytes))
        self._bytes += size_bytes

    def free(self, index: int) -> None:
        """Note that all up to `index` was stored."""
        while self._sent and self._sent[0][0] <= index:
            self._bytes -= self._sent.popleft()[1]

    def clear(self) -> None:
        self._sent.clear()
        self._bytes = 0


class Progress:
    """One member as its leader sees it.

    Attributes:
        match: the last entry it is known to have stored as the leader has it.
        next: the first entry to send; `match < next`.
        is_paused: a probe was sent and not answered, and no heartbeat since.
        is_poked: it is to be sent an APPEND even without entries, so that it says where it is.
        sent_commit: the highest commit index it was told.
        pending_snapshot: the index of the snapshot on its way.
        silent_ticks: since it was heard of.
    """

    def __init__(self, next_index: int, inflights: Inflights) -> None:
        self.match, self.next = 0, next_index
        self.state = PeerState.PROBE
        self.inflights = inflights
        self.is_paused = self.is_poked = False
        self.sent_commit = self.pending_snapshot = 0
        self.silent_ticks = 0

    @property
    def may_send_entries(self) -> bool:
        if self.state is PeerState.REPLICATE:
            return not self.inflights.is_full
        return self.state is PeerState.PROBE and not self.is_paused

    def wants_commit(self, commit: int) -> bool:
        """Whether being told `commit` can help a member that has what was sent."""
        return self.state is PeerState.REPLICATE and commit > self.sent_commit and self.sent_commit < self.next - 1

    def sent(self, count: int, size_bytes: int, commit: int) -> None:
        """Note that an APPEND with `count` entries from `next` on was sent."""
        if self.state is PeerState.PROBE:
            self.is_paused = True
        elif count:
            self.next += count
            self.inflights.add(self.next - 1, size_bytes)
        self.is_poked = False
        self.sent_commit = commit

    def probe(self) -> None:
        """Find out anew where the logs agree, beginning behind what is known for certain, or was in a snapshot."""
        behind = self.pending_snapshot if self.state is PeerState.SNAPSHOT else 0
        self._enter(PeerState.PROBE, max(self.match, behind) + 1)
        self.sent_commit = min(self.sent_commit, self.next - 1)

    def replicate(self) -> None:
        self._enter(PeerState.REPLICATE, self.match + 1)

    def await_snapshot(self, index: int) -> None:
        """Note that the snapshot at `index` is on its way."""
        self._enter(PeerState.SNAPSHOT, index + 1)
        self.pending_snapshot = index

    def advance(self, index: int) -> bool:
        """Learn that all up to `index` is stored there; returns whether that is news."""
        if index <= self.match:
            return False
        self.match = index
        self.next = max(self.next, index + 1)
        self.is_paused = False
        return True

    def retreat(self, refused: int, agreed: int) -> bool:
        """Learn that it has not the entry `refused`, and that `agreed` is the last that may fit; False if stale."""
        if self.state is PeerState.SNAPSHOT or refused <= self.match:
            return False
        if self.state is PeerState.REPLICATE:
            if refused >= self.next:
                return False
            self.probe()
        elif refused != self.next - 1:
            return False
        else:
            self.next = max(min(refused, agreed + 1), self.match + 1)
            self.sent_commit = min(self.sent_commit, self.next - 1)
            self.is_paused = False
        self.is_poked = True
        return True

    def status(self, member_id: int, *, is_learner: bool, active: bool) -> PeerStatus:
        return PeerStatus(member_id, self.match, self.next, self.state, is_learner, active, self.silent_ticks)

    def _enter(self, state: PeerState, next_index: int) -> None:
        self.state, self.next = state, next_index
        self.pending_snapshot = 0
        self.is_paused = self.is_poked = False
        self.inflights.clear()


def timed(peer: PeerStatus, tick_s: float) -> PeerStatus:
    """Return it with its silence in seconds; a member that was just heard of says so by 0."""
    return msgspec.structs.replace(peer, silent_s=peer.silent_ticks * tick_s)
