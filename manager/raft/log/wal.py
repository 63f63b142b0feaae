"""The write-ahead log: appends frames to preallocated segments, one synced frame at a time.

Every write has its room made sure of beforehand (`make_room`), so a full disk is met before anything is begun.
Every write and sync that fails is final: the log refuses all further work and its owner must stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog

from manager.raft.log import frame as fr
from manager.raft.log import records as rec
from manager.raft.log.contents import Tail
from manager.raft.log.crypt import Sealer
from manager.raft.log.disk import Disk, File
from manager.raft.log.faults import LogFailedError, disk_full, is_full, out_of_order
from manager.raft.log.replay import End, Replayed, Segment, segment_name
from manager.raft.log.segment import clear, segment_start
from manager.raft.types import NOBODY, Entry, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError

DEFAULT_SEGMENT_BYTES: Final = 64 * 1024 * 1024
CONTROL_RESERVE_BYTES: Final = 8 * fr.SECTOR  # kept for snapshot marks and votes when proposals find no room
_MARK_RESERVE_BYTES: Final = 4 * fr.SECTOR  # of it, not for votes: the frames of a snapshot, which frees segments
_SPARE: Final = "next.tmp"
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Spare:
    """A preallocated file that will be the next segment."""

    file: File
    size_bytes: int


class WriteAheadLog:
    """The open log of one member. Not safe for several threads; `append` blocks for one sync."""

    def __init__(
        self, disk: Disk, directory: Path, segment_bytes: int, state: Replayed, file: File, sealer: Sealer
    ) -> None:
        self._disk, self._dir, self._segment_bytes, self._sealer = disk, directory, segment_bytes, sealer
        self._metadata, self._salt = state.metadata, state.salt
        self._segments, self._end, self._file = list(state.segments), state.end, file
        self._tail = state.tail
        self._spare: Spare | None = None
        self._broken: LogFailedError | None = None

    @staticmethod
    def create(
        disk: Disk,
        directory: Path,
        metadata: Metadata,
        mark: SnapshotMark,
        sealer: Sealer,
        *,
        salt: int,
        segment_bytes: int,
    ) -> None:
        """Begin a log in `directory`; it is there either wholly or not at all."""
        path = directory / segment_name(1, mark.index + 1)
        hard = HardState(mark.term, NOBODY, mark.index)
        head, crc = segment_start(
            metadata, Tail(mark.index, hard, mark), salt=salt, number=1, first_frame=1, chain=0, sealer=sealer
        )
        # A second frame, so that even here a broken last frame leaves one behind that says whose log this is.
        second, _ = fr.encode_frame(
            rec.encode_hard_state(hard), records=1, salt=salt, number=2, chain=crc, sealer=sealer
        )
        start = head + second
        try:
            file = disk.create(directory / _SPARE)
            try:
                file.allocate(max(segment_bytes, len(start)))
                file.pwrite(start, 0)
                file.datasync()
            finally:
                file.close()
            disk.rename(directory / _SPARE, path)
            disk.sync_dir(directory)
        except OSError as error:
            if not is_full(error):
                raise LogFailedError(path, "creating", error) from error
            _remove_leavings(disk, directory)  # a full disk should not be fuller than before
            raise disk_full(directory, segment_bytes) from error

    @classmethod
    def resume(
        cls, disk: Disk, directory: Path, state: Replayed, sealer: Sealer, *, segment_bytes: int
    ) -> WriteAheadLog:
        """Go on with a log that was replayed, after clearing what a crash left behind."""
        _remove_leavings(disk, directory)
        torn, last = state.torn, state.segments[-1]
        if torn is not None:
            _log.warning("log tail dropped", file=str(torn.path), offset=torn.offset, reason=torn.reason)
        file: File | None = None
        try:
            if torn is not None and torn.drop_file:
                disk.unlink(torn.path)
            file = disk.open(last.path)
            if torn is not None and not torn.drop_file:
                clear(file, torn.offset)
            # Also for a whole frame that a killed process left in memory only: it is believed from now on.
            file.datasync()
            disk.sync_dir(directory)
        except OSError as error:
            if file is not None:
                file.close()
            raise LogFailedError(last.path, "opening", error) from error
        return cls(disk, directory, segment_bytes, state, file, sealer)

    @property
    def tail(self) -> Tail:
        """The durable end of the log."""
        return self._tail

    @property
    def hard_state(self) -> HardState:
        """The hard state that is durable."""
        return self._tail.hard_state

    @property
    def mark(self) -> SnapshotMark:
        """The snapshot that counts."""
        return self._tail.mark

    @property
    def size_bytes(self) -> int:
        """Bytes of the segments on disk, preallocated space included."""
        return sum(s.size_bytes for s in self._segments) + (self._spare.size_bytes if self._spare else 0)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def make_room(self, entries: int, data_bytes: int, *, control: bool = False) -> None:
        """Make sure that the next `append` fits: a frame of so many entries, with a hard state.

        Entries that were made room for before and are not appended yet belong to that frame: count them in.

        Args:
            entries: how many entries the frame will hold.
            data_bytes: their data together.
            control: the frame keeps the log itself going, so it may use the reserve.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full; nothing was changed.
        """
        payload = entries * rec.ENTRY_OVERHEAD_BYTES + data_bytes + rec.HARD_STATE_BYTES
        self._fit(self._frame_bytes(payload), _MARK_RESERVE_BYTES if control else CONTROL_RESERVE_BYTES)

    def make_room_for_mark(self, mark: SnapshotMark) -> None:
        """Make sure that the two frames of a snapshot's mark fit; as `make_room` with `control`."""
        with_mark = self._frame_bytes(rec.HARD_STATE_BYTES + len(rec.encode_mark(mark)))
        self._fit(with_mark + self._frame_bytes(rec.HARD_STATE_BYTES), 0)

    def append(
        self,
        entries: Sequence[Entry],
        hard_state: HardState | None = None,
        mark: SnapshotMark | None = None,
        *,
        restarts: bool = False,
    ) -> None:
        """Write one frame and sync it; when this returns, all of it is durable.

        Args:
            entries: follow the last one, or replace a tail that was not committed.
            hard_state: stored behind them, if given.
            mark: of a snapshot whose file is durable.
            restarts: that snapshot takes the place of the whole log.

        Raises:
            LogFailedError: the write or the sync failed.
            SwarmError: RESOURCE_EXHAUSTED, when `make_room` was not asked first; INTERNAL, the records contradict what
                is stored. Nothing was written then.
        """
        self._check()
        tail = self._tail.after(entries, hard_state, mark, restarts=restarts)
        if isinstance(tail, str):
            raise out_of_order(self._dir, tail)
        pieces = rec.encode_entries(entries)
        if hard_state is not None:
            pieces.append(rec.encode_hard_state(hard_state))
        if mark is not None:
            pieces.append(rec.encode_mark(mark, restarts=restarts))
        count = len(entries) + (hard_state is not None) + (mark is not None)
        payload = b"".join(pieces)
        self._fit(self._frame_bytes(len(payload)), 0)
        self._write_frame(payload, count)
        self._tail = tail
        if restarts:
            self._segments[-1] = replace(self._segments[-1], first_index=tail.mark.index + 1)

    def _frame_bytes(self, payload_bytes: int) -> int:
        return fr.frame_bytes(payload_bytes + self._sealer.overhead_bytes)

    def _fit(self, size_bytes: int, reserve_bytes: int) -> None:
        """Go on in a new segment unless so many bytes fit into this one and leave the reserve."""
        self._check()
        if size_bytes + reserve_bytes > self._segments[-1].size_bytes - self._end.offset:
            self._next_segment(size_bytes)

    def _write_frame(self, payload: bytes, count: int) -> None:
        end, path = self._end, self._segments[-1].path
        data, crc = fr.encode_frame(
            payload, records=count, salt=self._salt, number=end.next_frame, chain=end.chain, sealer=self._sealer
        )
        try:
            self._file.pwrite(data, end.offset)
            self._file.datasync()
        except OSError as error:
            raise self.fail(path, "writing", error) from error
        self._end = End(end.offset + len(data), end.next_frame + 1, crc)

    def prepare_next(self) -> None:
        """Preallocate the next segment once this one is half full; a full disk is not an error yet."""
        if self._spare is None and self._end.offset * 2 > self._segments[-1].size_bytes:
            try:
                self._allocate(self._segment_bytes)
            except SwarmError as error:
                if error.code is not Code.RESOURCE_EXHAUSTED:
                    raise

    def _allocate(self, size_bytes: int) -> Spare:
        self._check()
        path = self._dir / _SPARE
        self._drop_spare()
        try:
            file = self._disk.create(path)
        except OSError as error:
            raise self._refuse_or_fail(path, "creating", size_bytes, error) from error
        try:
            file.allocate(size_bytes)
            file.datasync()
        except OSError as error:
            refusal = self._refuse_or_fail(path, "preallocating", size_bytes, error)
            try:
                file.close()
                self._disk.unlink(path)
            except OSError as another:
                raise self.fail(path, "removing", another) from another
            raise refusal from error
        self._spare = Spare(file, size_bytes)
        return self._spare

    def _next_segment(self, frame_bytes: int) -> None:
        """Go on in a new segment, whose header and first frame are durable before its name is."""
        end, number = self._end, self._segments[-1].number + 1
        first_index = self._tail.last_index + 1
        start, crc = segment_start(
            self._metadata,
            self._tail,
            salt=self._salt,
            number=number,
            first_frame=end.next_frame,
            chain=end.chain,
            sealer=self._sealer,
        )
        size = max(self._segment_bytes, len(start) + frame_bytes + CONTROL_RESERVE_BYTES)
        spare = self._spare if self._spare and self._spare.size_bytes >= size else self._allocate(size)
        path = self._dir / segment_name(number, first_index)
        try:
            spare.file.pwrite(start, 0)
            spare.file.datasync()
            self._disk.rename(self._dir / _SPARE, path)
            self._disk.sync_dir(self._dir)
        except OSError as error:
            raise self.fail(path, "beginning", error) from error
        self._spare = None
        self._file.close()
        self._file = spare.file
        self._segments.append(Segment(path, number, first_index, spare.size_bytes))
        self._end = End(len(start), end.next_frame + 1, crc)

    def compact(self, index: int) -> int:
        """Remove the segments that hold nothing above `index`, oldest first; return how many.

        A frame that does not matter must stand behind the newest mark by now: what is removed is needed should the
        last frame be found broken.
        """
        self._check()
        if index > self.mark.index:
            raise out_of_order(self._dir, f"to forget entry {index}: the last snapshot is at {self.mark.index}")
        # Not up to the first one that is above: where a tail was replaced, a later segment may begin lower.
        kept = max((n for n, segment in enumerate(self._segments) if segment.first_index <= index + 1), default=0)
        for segment in self._segments[:kept]:
            try:
                self._disk.unlink(segment.path)
                # One by one: a crash must not leave a hole between segments.
                self._disk.sync_dir(self._dir)
            except OSError as error:
                raise self.fail(segment.path, "removing", error) from error
            del self._segments[0]
        return kept

    def close(self) -> None:
        """Give the descriptors back; what was appended is durable already."""
        self._file.close()
        self._drop_spare()

    def _drop_spare(self) -> None:
        if self._spare is not None:
            self._spare.file.close()
            self._spare = None

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _refuse_or_fail(self, path: Path, what: str, size_bytes: int, error: OSError) -> SwarmError:
        return disk_full(self._dir, size_bytes) if is_full(error) else self.fail(path, what, error)

    def fail(self, path: Path, what: str, error: OSError) -> LogFailedError:
        """Refuse all further work, here and beside the log, and return the error that says why."""
        self._broken = LogFailedError(path, what, error)
        return self._broken


def _remove_leavings(disk: Disk, directory: Path) -> None:
    """Remove what was not finished."""
    for name in disk.list_dir(directory):
        if name.endswith(".tmp"):
            try:
                disk.unlink(directory / name)
            except OSError as error:
                raise LogFailedError(directory / name, "removing", error) from error
