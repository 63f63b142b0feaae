"""A member's directory: the log and the snapshots, kept in step.

A snapshot counts once its mark is in the log. Only then do older snapshots and the segments it covers go. One that a
leader sent takes the place of the whole log with the same frame that makes it count.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from manager.raft.log.crypt import CODEC_PLAIN, Plain, Sealer
from manager.raft.log.disk import Disk
from manager.raft.log.faults import LogFailedError, damaged, disk_full, is_full, out_of_order
from manager.raft.log.key_file import key_file
from manager.raft.log.replay import Replayed, last_codec, list_segments, replay
from manager.raft.log.snapshot_file import SUFFIX, TEMPORARY, SnapshotReader, SnapshotWriter, snapshot_name
from manager.raft.log.wal import DEFAULT_SEGMENT_BYTES, WriteAheadLog
from manager.raft.types import ConfState, Entry, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError, precondition

LOG_DIR: Final = "wal"
SNAPSHOT_DIR: Final = "snap"
NO_MEMBERS: Final = ConfState()


def exists(disk: Disk, directory: Path) -> bool:
    """Return whether a log was begun in `directory`."""
    return bool(list_segments(disk, directory / LOG_DIR))


def is_encrypted(disk: Disk, directory: Path) -> bool:
    """Return whether the log in `directory`, if there is one, needs a key."""
    return last_codec(disk, directory / LOG_DIR) != CODEC_PLAIN


def create(
    disk: Disk,
    directory: Path,
    metadata: Metadata,
    conf: ConfState = NO_MEMBERS,
    *,
    salt: int,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
    sealer: Sealer | None = None,
) -> None:
    """Begin a member's log in `directory` (its parent exists).

    Args:
        conf: the cluster's first members; nobody for one that joins: it waits for a leader that tells it of them.
        salt: a random 64-bit number that tells this log's frames from all others.
        sealer: encrypts what is stored; None leaves it plain.

    Raises:
        SwarmError: ALREADY_EXISTS if there is one; RESOURCE_EXHAUSTED if the disk is full.
    """
    if exists(disk, directory):
        raise SwarmError(
            Code.ALREADY_EXISTS, f"{directory} holds a log already: start the manager with it, or choose another"
        )
    for path in (directory, directory / LOG_DIR, directory / SNAPSHOT_DIR):
        try:
            disk.make_dir(path)
        except OSError as error:
            raise disk_full(path, segment_bytes) if is_full(error) else LogFailedError(path, "making", error) from error
    sealer, mark = sealer or Plain(key_file(directory)), SnapshotMark(conf=conf)
    WriteAheadLog.create(disk, directory / LOG_DIR, metadata, mark, sealer, salt=salt, segment_bytes=segment_bytes)


class Storage:
    """The open directory of one member.

    `snapshot_writer`, `receive_snapshot`, `snapshot_reader` and what they return may run on other threads.
    """

    def __init__(self, disk: Disk, directory: Path, log: WriteAheadLog, sealer: Sealer) -> None:
        self._disk, self._snapshots, self._log, self._sealer = disk, directory / SNAPSHOT_DIR, log, sealer
        self._serials = itertools.count(1)
        self._received: dict[Path, SnapshotMark] = {}

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: Path,
        metadata: Metadata,
        *,
        segment_bytes: int = DEFAULT_SEGMENT_BYTES,
        sealer: Sealer | None = None,
    ) -> tuple[Storage, Replayed]:
        """Open the log of `metadata`'s member and clear what a crash left behind.

        Args:
            sealer: holds the key of what is encrypted here, and encrypts what is written from now on.

        Raises:
            SwarmError: NOT_FOUND, CORRUPT, or FAILED_PRECONDITION for another cluster's or member's directory, a
                newer version's, or a key that is wrong or missing.
        """
        sealer = sealer or Plain(key_file(directory))
        state = replay(disk, directory / LOG_DIR, sealer)
        if state.metadata != metadata:
            raise _foreign(directory, metadata, state.metadata)
        log = WriteAheadLog.resume(disk, directory / LOG_DIR, state, sealer, segment_bytes=segment_bytes)
        try:
            storage = cls(disk, directory, log, sealer)
            storage._drop_snapshots((SUFFIX, TEMPORARY))
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
        """Begin to write the file of a snapshot of this member's own, for `adopt_snapshot`."""
        return SnapshotWriter(self._disk, self._snapshots, mark, self._sealer, serial=next(self._serials))

    def receive_snapshot(self, mark: SnapshotMark) -> SnapshotWriter:
        """Begin to write the file of a snapshot that a leader sends.

        Once it is finished it must be given to `install_snapshot` or `discard_snapshot`.
        """

        def keep(path: Path) -> None:
            self._received[path] = mark

        # Until then it keeps its own temporary name: nobody else finds it, and after a crash it is removed.
        return SnapshotWriter(
            self._disk, self._snapshots, mark, self._sealer, serial=next(self._serials), finished=keep
        )

    def snapshot_reader(self) -> SnapshotReader | None:
        """Open the newest snapshot that counts, which stays readable whatever comes; None if there is none yet."""
        while (mark := self.mark).index > 0:
            path = self._snapshots / snapshot_name(mark)
            try:
                reader = SnapshotReader(self._disk, path, self._sealer)
            except FileNotFoundError as error:
                if mark == self.mark:
                    raise damaged(path, 0, "the file is missing") from error
                continue  # a newer one counts by now
            if reader.mark != mark:
                reader.close()
                raise damaged(path, 0, f"it holds the state at {reader.mark}, the log's mark says {mark}")
            return reader
        return None

    def adopt_snapshot(self, mark: SnapshotMark, hard_state: HardState, *, keep_from: int) -> None:
        """Let a finished snapshot count; then drop older ones and the segments below entry `keep_from`.

        Raises:
            SwarmError: FAILED_PRECONDITION, a newer one counts already; RESOURCE_EXHAUSTED, no room for its mark.
                Nothing was changed.
        """
        if mark.index <= self.mark.index:
            raise precondition(
                f"the snapshot at entry {mark.index} is not needed any more: one at {self.mark.index} counts already"
            )
        self._log.make_room_for_mark(mark)
        self._log.append((), None, mark)
        self._settle(hard_state, keep_from)

    def make_room_for_snapshot(self, mark: SnapshotMark) -> None:
        """Make sure that `install_snapshot` will have room; see `make_room`."""
        self._log.make_room_for_mark(mark)

    def install_snapshot(self, mark: SnapshotMark, hard_state: HardState) -> None:
        """Let a received snapshot take the place of the log: no entry is left, and it goes on behind `mark`.

        Args:
            hard_state: what is stored with it; its commit index is the mark's.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, no room for its mark; INTERNAL, it was not received, or entries behind it
                are committed already. Nothing was changed.
        """
        received = self._find_received(mark)
        if received is None:
            raise out_of_order(self._snapshots, f"a snapshot at entry {mark.index}: it was not received")
        if isinstance(refusal := self._log.tail.after((), hard_state, mark, restarts=True), str):
            raise out_of_order(self._snapshots, refusal)
        self._log.make_room_for_mark(mark)
        path = self._snapshots / snapshot_name(mark)
        try:
            self._disk.rename(received, path)
            self._disk.sync_dir(self._snapshots)
        except OSError as error:
            raise self._log.fail(path, "naming", error) from error
        del self._received[received]
        self._log.append((), hard_state, mark, restarts=True)
        self._settle(hard_state, mark.index + 1)

    def discard_snapshot(self, mark: SnapshotMark) -> None:
        """Remove a file at `mark` that nobody wants: a received one, or a finished one that came too late to count."""
        received, path = self._find_received(mark), self._snapshots / snapshot_name(mark)
        if received is not None:
            self._unlink(received)
            del self._received[received]
        elif mark.index <= self.mark.index and path.name != snapshot_name(self.mark):
            self._unlink_if_there(path)

    def close(self) -> None:
        self._log.close()

    def _find_received(self, mark: SnapshotMark) -> Path | None:
        return next((path for path, its_mark in list(self._received.items()) if its_mark == mark), None)

    def _settle(self, hard_state: HardState, keep_from: int) -> None:
        """Put a frame behind a new mark, so that it stands even if the last frame is found broken; then clear up."""
        self._log.append((), hard_state)
        self._drop_snapshots((SUFFIX,))
        self._log.compact(keep_from - 1)

    def _drop_snapshots(self, suffixes: tuple[str, ...]) -> None:
        """Remove all files with these suffixes but the newest snapshot that counts.

        Temporary ones belong to writers at work, except at start.
        """
        names = self._disk.list_dir(self._snapshots)
        newest = snapshot_name(self.mark)
        if self.mark.index and newest not in names:
            raise damaged(self._snapshots / newest, 0, "the log names this snapshot, but the file is missing")
        for name in names:
            if name.endswith(suffixes) and name != newest:
                self._unlink(self._snapshots / name)

    def _unlink_if_there(self, path: Path) -> None:
        if path.name in self._disk.list_dir(self._snapshots):
            self._unlink(path)

    def _unlink(self, path: Path) -> None:
        try:
            self._disk.unlink(path)
        except OSError as error:
            raise self._log.fail(path, "removing", error) from error


def _foreign(directory: Path, wanted: Metadata, found: Metadata) -> SwarmError:
    if wanted.cluster_id != found.cluster_id:
        return precondition(
            f"{directory} belongs to cluster {found.cluster_id}, not to {wanted.cluster_id}:"
            " choose this cluster's state directory, or leave that cluster first"
        )
    return precondition(
        f"{directory} belongs to member {found.member_id}, not to {wanted.member_id}: each member has its own directory"
    )
