"""A member's directory: the log and the snapshots, kept in step.

A snapshot counts once its mark is in the log. Only then do older snapshots and the segments it covers go.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from manager.raft.log.disk import Disk
from manager.raft.log.faults import LogFailedError, damaged
from manager.raft.log.replay import Replayed, list_segments, replay
from manager.raft.log.snapshot_file import SUFFIX, TEMPORARY, SnapshotReader, SnapshotWriter, snapshot_name
from manager.raft.log.wal import DEFAULT_SEGMENT_BYTES, WriteAheadLog
from manager.raft.types import ConfState, Entry, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError, precondition

LOG_DIR: Final = "wal"
SNAPSHOT_DIR: Final = "snap"


def exists(disk: Disk, directory: Path) -> bool:
    """Return whether a log was begun in `directory`."""
    return bool(list_segments(disk, directory / LOG_DIR))


def create(
    disk: Disk,
    directory: Path,
    metadata: Metadata,
    conf: ConfState,
    *,
    salt: int,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> None:
    """Begin a member's log in `directory` (its parent exists), whose first members are `conf`.

    Args:
        salt: a random 64-bit number that tells this log's frames from all others.

    Raises:
        SwarmError: ALREADY_EXISTS if there is one; RESOURCE_EXHAUSTED if the disk is full.
    """
    if exists(disk, directory):
        raise SwarmError(
            Code.ALREADY_EXISTS, f"{directory} holds a log already: start the manager with it, or choose another"
        )
    for path in (directory, directory / LOG_DIR, directory / SNAPSHOT_DIR):
        disk.make_dir(path)
    mark = SnapshotMark(conf=conf)
    WriteAheadLog.create(disk, directory / LOG_DIR, metadata, mark, salt=salt, segment_bytes=segment_bytes)


class Storage:
    """The open directory of one member. Only `snapshot_writer` and what it returns may run on another thread."""

    def __init__(self, disk: Disk, directory: Path, log: WriteAheadLog) -> None:
        self._disk, self._snapshots, self._log = disk, directory / SNAPSHOT_DIR, log

    @classmethod
    def open(
        cls, disk: Disk, directory: Path, metadata: Metadata, *, segment_bytes: int = DEFAULT_SEGMENT_BYTES
    ) -> tuple[Storage, Replayed]:
        """Open the log of `metadata`'s member and clear what a crash left behind.

        Raises:
            SwarmError: NOT_FOUND, CORRUPT, or FAILED_PRECONDITION for another cluster's or member's directory.
        """
        state = replay(disk, directory / LOG_DIR)
        if state.metadata != metadata:
            raise _foreign(directory, metadata, state.metadata)
        log = WriteAheadLog.resume(disk, directory / LOG_DIR, state, segment_bytes=segment_bytes)
        try:
            storage = cls(disk, directory, log)
            storage._tidy()
        except BaseException:
            log.close()
            raise
        return storage, state

    @property
    def hard_state(self) -> HardState:
        """The hard state that is durable."""
        return self._log.hard_state

    @property
    def mark(self) -> SnapshotMark:
        """The newest snapshot that counts; index 0 if there is none."""
        return self._log.mark

    @property
    def log_bytes(self) -> int:
        return self._log.size_bytes

    @property
    def log_segments(self) -> int:
        return self._log.segment_count

    def make_room(self, entries: int, data_bytes: int, *, control: bool = False) -> None:
        """See `WriteAheadLog.make_room`."""
        self._log.make_room(entries, data_bytes, control=control)

    def append(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        """Make entries and hard state durable in one frame; see `WriteAheadLog.append`."""
        self._log.append(entries, hard_state)

    def prepare_next(self) -> None:
        """Preallocate ahead of need; see `WriteAheadLog.prepare_next`."""
        self._log.prepare_next()

    def snapshot_writer(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin to write a snapshot's file."""
        return SnapshotWriter(self._disk, self._snapshots, mark)

    def snapshot_reader(self) -> SnapshotReader | None:
        """Open the newest snapshot that counts; None if there is none yet."""
        if self.mark.index == 0:
            return None
        path = self._snapshots / snapshot_name(self.mark)
        reader = SnapshotReader(self._disk, path)
        if reader.mark != self.mark:
            reader.close()
            raise damaged(path, 0, f"it holds the state at {reader.mark}, the log's mark says {self.mark}")
        return reader

    def adopt_snapshot(self, mark: SnapshotMark, hard_state: HardState, *, keep_from: int) -> None:
        """Let a finished snapshot count; then drop older ones and the segments below entry `keep_from`.

        Two frames: should the last one be found broken at the next start, the mark still stands.
        """
        self._log.append((), None, mark)
        self._log.append((), hard_state)
        self._tidy()
        self._log.compact(keep_from - 1)

    def close(self) -> None:
        self._log.close()

    def _tidy(self) -> None:
        """Remove every snapshot but the newest that counts, and unfinished ones."""
        names = self._disk.list_dir(self._snapshots)
        newest = snapshot_name(self.mark)
        if self.mark.index and newest not in names:
            raise damaged(self._snapshots / newest, 0, "the log names this snapshot, but the file is missing")
        try:
            for name in names:
                if name.endswith((SUFFIX, TEMPORARY)) and name != newest:
                    self._disk.unlink(self._snapshots / name)
        except OSError as error:
            raise LogFailedError(self._snapshots, "removing old snapshots in", error) from error


def _foreign(directory: Path, wanted: Metadata, found: Metadata) -> SwarmError:
    if wanted.cluster_id != found.cluster_id:
        return precondition(
            f"{directory} belongs to cluster {found.cluster_id}, not to {wanted.cluster_id}:"
            " choose this cluster's state directory, or leave that cluster first"
        )
    return precondition(
        f"{directory} belongs to member {found.member_id}, not to {wanted.member_id}: each member has its own directory"
    )
