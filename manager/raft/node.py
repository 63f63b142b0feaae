"""One member: core and storage in their order, synchronous, without threads or clock; the simulator's unit too.

The commit index alone is not worth a sync. It goes into the next frame, or into one of its own once the log has
been idle for a tick; that frame also stands behind the last acknowledged one and so proves it whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from manager.raft.core import Limits, RaftCore
from manager.raft.entries import EntryLog
from manager.raft.log.disk import Disk
from manager.raft.log.snapshot_file import SnapshotReader, SnapshotWriter
from manager.raft.log.storage import Storage
from manager.raft.log.wal import DEFAULT_SEGMENT_BYTES
from manager.raft.types import Entry, EntryKind, Leadership, Metadata, Role, SnapshotMark, Status
from swarmpy.errors import Code, SwarmError, invalid, not_supported, precondition

_log: Final = structlog.get_logger()
HandOut = Callable[[tuple[Entry, ...], Leadership | None], None]


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a member keeps its log.

    Args:
        segment_bytes: size of a log segment.
        keep_entries: entries kept behind a snapshot, for followers that are a little late.
        max_entry_bytes: largest proposal.
        limits: bounds of the core.
    """

    segment_bytes: int = DEFAULT_SEGMENT_BYTES
    keep_entries: int = 500
    max_entry_bytes: int = 16 * 1024 * 1024
    limits: Limits = field(default_factory=Limits)


class RaftNode:
    """A member with its directory open; not safe for several threads."""

    def __init__(self, core: RaftCore, storage: Storage, config: NodeConfig) -> None:
        self._core, self._storage, self._config = core, storage, config
        self._wrote_since_tick = False
        self._full: str | None = None
        self.applied_index = storage.mark.index

    @classmethod
    def open(cls, disk: Disk, directory: Path, metadata: Metadata, config: NodeConfig) -> RaftNode:
        """Open what `storage.create` began; raises what `Storage.open` raises, NOT_SUPPORTED for other members."""
        storage, state = Storage.open(disk, directory, metadata, segment_bytes=config.segment_bytes)
        try:
            if any(e.kind is EntryKind.CONF_CHANGE for e in state.entries if e.index > state.mark.index):
                raise not_supported("a change of the managers in the log")
            entries = EntryLog.recovered(state.mark, state.entries)
            mark = state.mark
            core = RaftCore(metadata.member_id, state.hard_state, mark.conf, entries, mark.index, config.limits)
        except BaseException:
            storage.close()
            raise
        return cls(core, storage, config)

    @property
    def leads(self) -> bool:
        return self._core.role is Role.LEADER

    @property
    def term(self) -> int:
        return self._core.term

    def status(self) -> Status:
        core, storage = self._core, self._storage
        return Status(
            member_id=core.member_id,
            role=core.role,
            term=core.term,
            leader_id=core.leader_id,
            first_index=core.log.first_index,
            last_index=core.log.last_index,
            commit_index=core.commit_index,
            applied_index=self.applied_index,
            log_bytes=storage.log_bytes,
            log_segments=storage.log_segments,
            snapshot=storage.mark,
            log_full=self._full,
        )

    def start(self) -> None:
        """Stand for leader; with a full disk, `tick` does it once there is space."""
        if self._has_room(0, 0, control=True) is None:
            self._core.campaign()

    def tick(self) -> None:
        """Let a tick pass: time for the core, and for the log what is best done while idle.

        A member that could not store its vote must not stand, so time passes for it only when there is space.
        """
        if not self.leads and self._has_room(0, 0, control=True) is None:
            self._core.tick()
        if self._wrote_since_tick:
            self._wrote_since_tick = False
        else:
            self.seal()
        if self._full is not None:
            self._has_room(0, 0)
        self._storage.prepare_next()

    def propose(self, batch: Sequence[bytes]) -> list[int | SwarmError]:
        """Append each proposal, and return its index or why it was refused."""
        most = self._config.max_entry_bytes
        full = self._has_room(len(batch), sum(len(data) for data in batch if len(data) <= most))
        results: list[int | SwarmError] = []
        for data in batch:
            try:
                if len(data) > most:
                    raise invalid(f"a change of {len(data)} bytes is too large, the limit is {most}: split it up")
                if full is not None:
                    raise full
                results.append(self._core.propose(data))
            except SwarmError as error:
                results.append(error)
        return results

    def run(self, hand_out: HandOut) -> None:
        """Carry out all that the core has ready: store, sync, then hand out what is committed, in order.

        Raises:
            LogFailedError: the log cannot be trusted any more; nothing may be done with this node but `close`.
        """
        while (ready := self._core.ready()) is not None:
            if ready.must_sync:
                self._storage.append(ready.entries, self._core.hard_state)
                self._wrote_since_tick = True
            if ready.committed:
                hand_out(ready.committed, ready.leadership)
            self._core.advance()

    def mark_at(self, index: int) -> SnapshotMark:
        """Return the mark of a snapshot of the state after entry `index`.

        Raises:
            SwarmError: FAILED_PRECONDITION, nothing new is applied there.
        """
        if not self._storage.mark.index < index <= self.applied_index:
            raise precondition(
                f"a snapshot at entry {index} is of no use: the last one is at {self._storage.mark.index},"
                f" and {self.applied_index} is applied"
            )
        return SnapshotMark(index, self._core.log.term(index), self._core.conf)

    def snapshot_writer(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin a snapshot's file; this and the writer may be used on another thread, one at a time."""
        return self._storage.snapshot_writer(mark)

    def snapshot_reader(self) -> SnapshotReader | None:
        """Open the newest snapshot; None if there is none."""
        return self._storage.snapshot_reader()

    def adopt_snapshot(self, mark: SnapshotMark) -> None:
        """Let a finished snapshot count and forget the entries it makes needless."""
        kept_from = max(mark.index - self._config.keep_entries, 0) + 1
        self._storage.adopt_snapshot(mark, self._core.hard_state, keep_from=kept_from)
        self._core.log.compact(kept_from - 1)

    def close(self) -> None:
        self._storage.close()

    def seal(self) -> None:
        """Store the commit index by itself, if it is not stored; a full disk is no reason to fail."""
        if self._core.hard_state != self._storage.hard_state and self._has_room(0, 0, control=True) is None:
            self._storage.append((), self._core.hard_state)

    def _has_room(self, entries: int, data_bytes: int, *, control: bool = False) -> SwarmError | None:
        """Return None once the next frame is sure to fit, else the refusal; says in the log when that changes."""
        try:
            self._storage.make_room(entries, data_bytes, control=control)
        except SwarmError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                raise
            if self._full is None:
                _log.error("log full", reason=error.message)
            self._full = error.message
            return error
        if self._full is not None and not control:
            _log.info("log has space again")
            self._full = None
        return None
