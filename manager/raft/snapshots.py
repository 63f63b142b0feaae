"""A member's snapshots: which one counts, which entries it makes needless, and who the members were at it."""

from __future__ import annotations

from manager.raft.changes import ConfHistory
from manager.raft.core import RaftCore
from manager.raft.log.snapshot_file import SnapshotReader, SnapshotWriter
from manager.raft.log.storage import Storage
from manager.raft.types import ConfState, HardState, SnapshotMark
from swarmpy.errors import precondition


class Snapshots:
    """The snapshots in a member's storage, own ones and those that a leader sent.

    Args:
        keep_entries: entries kept behind a snapshot.
    """

    def __init__(self, core: RaftCore, storage: Storage, *, keep_entries: int) -> None:
        self._core, self._storage, self._keep_entries = core, storage, keep_entries
        self._history = ConfHistory(storage.mark)
        self._received: list[SnapshotMark] = []
        core.snapshot = storage.mark

    def note_members(self, index: int, conf: ConfState) -> None:
        """Note that `conf` holds from entry `index` on."""
        self._history.add(index, conf)

    def mark_at(self, index: int, *, applied: int) -> SnapshotMark:
        """Return the mark of a snapshot of the state after entry `index`; see `RaftNode.mark_at`."""
        coming = self._core.pending_snapshot
        last = max(self._storage.mark.index, coming.index if coming is not None else 0)
        if not last < index <= applied:
            raise precondition(
                f"a snapshot at entry {index} is of no use: the last one is at {last}, and {applied} is applied"
            )
        return SnapshotMark(index, self._core.log.term(index), self._history.at(index))

    def writer(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin a snapshot's file."""
        return self._storage.snapshot_writer(mark)

    def receiver(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin the file of a snapshot that a leader sends."""
        return self._storage.receive_snapshot(mark)

    def reader(self) -> SnapshotReader | None:
        """Open the newest snapshot; None if there is none."""
        return self._storage.snapshot_reader()

    def adopt(self, mark: SnapshotMark, hard_state: HardState) -> None:
        """Let a finished snapshot of this member's own count; see `RaftNode.adopt_snapshot`."""
        last = self._storage.mark.index
        if mark.index <= last:
            self.forget(mark)
            raise precondition(
                f"the snapshot at entry {mark.index} is of no use any more: one at {last} came meanwhile"
            )
        kept_from = max(mark.index - self._keep_entries, 0) + 1
        self._storage.adopt_snapshot(mark, hard_state, keep_from=kept_from)
        self._core.log.compact(kept_from - 1)
        self._core.snapshot = mark
        self._history.forget_before(mark)

    def received(self, mark: SnapshotMark) -> None:
        """Learn that a leader's snapshot is stored; it is removed unless `install` comes before `forget_received`."""
        self._received.append(mark)

    def install(self, mark: SnapshotMark, hard_state: HardState) -> None:
        """Let a leader's snapshot count, in place of the log."""
        self._storage.install_snapshot(mark, HardState(hard_state.term, hard_state.vote, mark.index))
        self._core.snapshot = mark
        self._history = ConfHistory(mark)

    def forget_received(self) -> None:
        """Remove the received snapshots that the core did not want."""
        while self._received:
            self.forget(self._received.pop())

    def forget(self, mark: SnapshotMark) -> None:
        """Remove the file of a snapshot that does not count and never will, if there is one."""
        self._storage.discard_snapshot(mark)
