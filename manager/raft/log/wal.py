"""The write-ahead log: appends frames to preallocated segments, one synced frame at a time.

Every write has its room made sure of beforehand (`make_room`), so a full disk is met before anything is begun.
Every write and sync that fails is final: the log refuses all further work and its owner must stop.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from manager.raft.log import frame as fr
from manager.raft.log import records as rec
from manager.raft.log.disk import Disk, File
from manager.raft.log.faults import LogFailedError, disk_full, is_full
from manager.raft.log.replay import End, Replayed, Segment, segment_name
from manager.raft.types import Entry, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError

DEFAULT_SEGMENT_BYTES: Final = 64 * 1024 * 1024
CONTROL_RESERVE_BYTES: Final = 8 * fr.SECTOR  # kept for snapshot marks and votes when proposals find no room
_SPARE: Final = "next.tmp"
_WIPE_BYTES: Final = 1024 * 1024
_log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Spare:
    """A preallocated file that will be the next segment."""

    file: File
    size_bytes: int


class WriteAheadLog:
    """The open log of one member. Not safe for several threads; `append` blocks for one sync."""

    def __init__(
        self, disk: Disk, directory: Path, segment_bytes: int, state: Replayed, file: File, codec: int
    ) -> None:
        self._disk, self._dir, self._segment_bytes, self._codec = disk, directory, segment_bytes, codec
        self._metadata, self._salt = state.metadata, state.salt
        self._segments, self._end, self._file = list(state.segments), state.end, file
        self.hard_state, self.mark = state.hard_state, state.mark
        self._last_index = state.entries[-1].index if state.entries else state.mark.index
        self._spare: Spare | None = None
        self._broken: LogFailedError | None = None

    @staticmethod
    def create(
        disk: Disk, directory: Path, metadata: Metadata, mark: SnapshotMark, *, salt: int, segment_bytes: int
    ) -> None:
        """Begin a log in `directory`; it is there either wholly or not at all."""
        path = directory / segment_name(1, mark.index + 1)
        hard = HardState(mark.term, 0, mark.index)
        head, crc = _head_frame(metadata, hard, mark, salt=salt, number=1, chain=0, codec=fr.CODEC_PLAIN)
        header = fr.SegmentHeader(fr.FORMAT_VERSION, fr.CODEC_PLAIN, 0, salt, 1, 1, mark.index + 1, len(head))
        # A second frame, so that even here a broken last frame leaves one behind that says whose log this is.
        second, _ = fr.encode_frame(
            rec.encode_hard_state(hard), records=1, salt=salt, number=2, chain=crc, codec=fr.CODEC_PLAIN
        )
        start = fr.encode_segment_header(header) + head + second
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
            if is_full(error):
                raise disk_full(directory, segment_bytes) from error
            raise LogFailedError(path, "creating", error) from error

    @classmethod
    def resume(cls, disk: Disk, directory: Path, state: Replayed, *, segment_bytes: int) -> WriteAheadLog:
        """Go on with a log that was replayed, after clearing what a crash left behind."""
        for name in disk.list_dir(directory):
            if name.endswith(".tmp"):
                disk.unlink(directory / name)
        torn, last = state.torn, state.segments[-1]
        if torn is not None:
            _log.warning("log tail dropped", file=str(torn.path), offset=torn.offset, reason=torn.reason)
        file: File | None = None
        try:
            if torn is not None and torn.drop_file:
                disk.unlink(torn.path)
            file = disk.open(last.path)
            if torn is not None and not torn.drop_file:
                _clear(file, torn.offset)
            # Also for a whole frame that a killed process left in memory only: it is believed from now on.
            file.datasync()
            disk.sync_dir(directory)
        except OSError as error:
            if file is not None:
                file.close()
            raise LogFailedError(last.path, "opening", error) from error
        return cls(disk, directory, segment_bytes, state, file, fr.CODEC_PLAIN)

    @property
    def size_bytes(self) -> int:
        """Bytes of the segments on disk, preallocated space included."""
        return sum(s.size_bytes for s in self._segments) + (self._spare.size_bytes if self._spare else 0)

    @property
    def segment_count(self) -> int:
        return len(self._segments)

    def make_room(self, entries: int, data_bytes: int, *, control: bool = False) -> None:
        """Make sure that the next `append` fits: a frame of so many entries, with a hard state.

        Args:
            entries: how many entries the frame will hold.
            data_bytes: their data together.
            control: the frame keeps the log itself going, so it may use the reserve.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, the disk is full; nothing was changed.
        """
        self._check()
        payload = entries * rec.ENTRY_OVERHEAD_BYTES + data_bytes + rec.HARD_STATE_BYTES
        needed = fr.frame_bytes(payload)
        if needed + (0 if control else CONTROL_RESERVE_BYTES) > self._segments[-1].size_bytes - self._end.offset:
            self._next_segment(needed)

    def append(
        self, entries: Sequence[Entry], hard_state: HardState | None = None, mark: SnapshotMark | None = None
    ) -> None:
        """Write one frame and sync it; when this returns, all of it is durable.

        Raises:
            LogFailedError: the write or the sync failed.
            SwarmError: RESOURCE_EXHAUSTED, when `make_room` was not asked first.
        """
        pieces = rec.encode_entries(entries)
        if hard_state is not None:
            pieces.append(rec.encode_hard_state(hard_state))
        if mark is not None:
            pieces.append(rec.encode_mark(mark))
        count = len(entries) + (hard_state is not None) + (mark is not None)
        payload = b"".join(pieces)
        if fr.frame_bytes(len(payload)) > self._segments[-1].size_bytes - self._end.offset:
            self._next_segment(fr.frame_bytes(len(payload)))
        self._check()
        self._write_frame(payload, count)
        self._last_index = entries[-1].index if entries else self._last_index
        self.hard_state = hard_state or self.hard_state
        if mark is not None:
            self.mark = mark
            self._last_index = max(self._last_index, mark.index)

    def _write_frame(self, payload: bytes, count: int) -> None:
        end, path = self._end, self._segments[-1].path
        data, crc = fr.encode_frame(
            payload, records=count, salt=self._salt, number=end.next_frame, chain=end.chain, codec=self._codec
        )
        try:
            self._file.pwrite(data, end.offset)
            self._file.datasync()
        except OSError as error:
            raise self._fail(path, "writing", error) from error
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
            file.close()
            refusal = self._refuse_or_fail(path, "preallocating", size_bytes, error)
            self._disk.unlink(path)
            raise refusal from error
        self._spare = Spare(file, size_bytes)
        return self._spare

    def _next_segment(self, frame_bytes: int) -> None:
        """Go on in a new segment, whose header and first frame are durable before its name is."""
        end, number = self._end, self._segments[-1].number + 1
        salt, chain, codec, first_index = self._salt, end.chain, self._codec, self._last_index + 1
        head, crc = _head_frame(
            self._metadata, self.hard_state, self.mark, salt=salt, number=end.next_frame, chain=chain, codec=codec
        )
        header = fr.SegmentHeader(fr.FORMAT_VERSION, codec, chain, salt, number, end.next_frame, first_index, len(head))
        start = fr.encode_segment_header(header) + head
        size = max(self._segment_bytes, len(start) + frame_bytes + CONTROL_RESERVE_BYTES)
        spare = self._spare if self._spare and self._spare.size_bytes >= size else self._allocate(size)
        path = self._dir / segment_name(number, first_index)
        try:
            spare.file.pwrite(start, 0)
            spare.file.datasync()
            self._disk.rename(self._dir / _SPARE, path)
            self._disk.sync_dir(self._dir)
        except OSError as error:
            raise self._fail(path, "beginning", error) from error
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
        removed = 0
        while len(self._segments) > 1 and self._segments[1].first_index <= index + 1:
            path = self._segments[0].path
            try:
                self._disk.unlink(path)
                # One by one: a crash must not leave a hole between segments.
                self._disk.sync_dir(self._dir)
            except OSError as error:
                raise self._fail(path, "removing", error) from error
            del self._segments[0]
            removed += 1
        return removed

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
        return disk_full(self._dir, size_bytes) if is_full(error) else self._fail(path, what, error)

    def _fail(self, path: Path, what: str, error: OSError) -> LogFailedError:
        self._broken = LogFailedError(path, what, error)
        return self._broken


def _head_frame(
    metadata: Metadata, hard: HardState, mark: SnapshotMark, *, salt: int, number: int, chain: int, codec: int
) -> tuple[bytes, int]:
    """Return a segment's first frame: all that earlier segments say besides entries, so that they can go."""
    pieces: Iterable[bytes] = (rec.encode_metadata(metadata), rec.encode_mark(mark), rec.encode_hard_state(hard))
    return fr.encode_frame(b"".join(pieces), records=3, salt=salt, number=number, chain=chain, codec=codec)


def _clear(file: File, offset: int) -> None:
    """Make what a torn frame left behind `offset` read as never written."""
    size = file.size()
    for at in range(offset, size, _WIPE_BYTES):
        part = file.pread(min(_WIPE_BYTES, size - at), at)
        if part.strip(b"\0"):
            file.pwrite(bytes(len(part)), at)
