"""Reads a log's segments at start and decides what each broken byte means; changes nothing on disk.

Only the frame that was being written when the process or the machine stopped can be broken: it is the last one, it
was never acknowledged, and it is dropped. A broken frame with a whole later one behind it is damage: refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manager.raft.log.disk import Disk
from manager.raft.log.faults import LogFailedError, damaged, newer_format, unknown_codec
from manager.raft.log.frame import (
    CODECS,
    FORMAT_VERSION,
    SECTOR,
    Frame,
    SegmentHeader,
    decode_frame,
    decode_segment_header,
    find_frame,
)
from manager.raft.log.records import BadRecordError, decode
from manager.raft.types import Entry, HardState, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError

SUFFIX: Final = ".wal"
_NAME: Final = re.compile(r"([0-9a-f]{16})-[0-9a-f]{16}\.wal")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment file; `first_index` is the index of the next new entry when it was begun."""

    path: Path
    number: int
    first_index: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class End:
    """Where the log goes on: the byte in the last segment, the next frame's number, and its chain."""

    offset: int
    next_frame: int
    chain: int


@dataclass(frozen=True, slots=True)
class Torn:
    """What is to be cleared before the log goes on: bytes behind `End`, or a whole last segment."""

    path: Path
    offset: int
    reason: str
    drop_file: bool


@dataclass(frozen=True, slots=True)
class Replayed:
    """A log's contents. `entries` are those still held, in order, some of them below the mark."""

    metadata: Metadata
    hard_state: HardState
    mark: SnapshotMark
    entries: list[Entry]
    salt: int
    segments: list[Segment]
    end: End
    torn: Torn | None


def segment_name(number: int, first_index: int) -> str:
    """Return a segment's file name; names sort in the segments' order."""
    return f"{number:016x}-{first_index:016x}{SUFFIX}"


def list_segments(disk: Disk, directory: Path) -> list[tuple[int, Path]]:
    """Return the segments' numbers and paths, in order."""
    names = (_NAME.fullmatch(name) for name in disk.list_dir(directory))
    return [(int(name[1], 16), directory / name[0]) for name in names if name]


def replay(disk: Disk, directory: Path) -> Replayed:
    """Read the whole log in `directory`.

    Raises:
        SwarmError: NOT_FOUND if there is no log, CORRUPT for damage, FAILED_PRECONDITION for a newer format.
    """
    listed = list_segments(disk, directory)
    if not listed:
        raise SwarmError(Code.NOT_FOUND, f"there is no log in {directory}: initialise or join the cluster first")
    reader = _Reader(disk)
    for place, (number, path) in enumerate(listed):
        reader.read_segment(number, path, is_last=place == len(listed) - 1)
    return reader.result()


class _Reader:
    """Goes through the segments in order, keeping what the records say and where the frames stand."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._records = _Records()
        self._segments: list[Segment] = []
        self._salt = 0
        self._end = End(0, 0, 0)
        self._stop = ""
        self._torn: Torn | None = None

    def read_segment(self, number: int, path: Path, *, is_last: bool) -> None:
        try:
            file = self._disk.open(path)
            try:
                data = file.pread(file.size(), 0)
            finally:
                file.close()
        except OSError as error:
            raise LogFailedError(path, "reading", error) from error
        header = self._header(data, number, path)
        previous = self._end
        self._end = End(SECTOR, header.first_frame, header.chain)
        self._read_frames(data, path)
        if not is_last:
            self._segments.append(Segment(path, number, header.first_index, len(data)))
            return
        later = find_frame(data, self._end.offset, salt=self._salt, least=self._end.next_frame)
        if later is not None:
            raise damaged(path, self._end.offset, f"{self._stop}, yet a later frame stands whole at byte {later}")
        if self._end.offset == SECTOR:
            behind_head = data[SECTOR + header.head_bytes :]
            self._drop_segment(path, previous, was_used=bool(behind_head.strip(b"\0")))
            return
        if data[self._end.offset :].strip(b"\0"):
            self._torn = Torn(path, self._end.offset, self._stop, drop_file=False)
        self._segments.append(Segment(path, number, header.first_index, len(data)))

    def _header(self, data: bytes, number: int, path: Path) -> SegmentHeader:
        header = decode_segment_header(data[:SECTOR])
        if isinstance(header, str):
            raise damaged(path, 0, header)
        if header.version > FORMAT_VERSION:
            raise newer_format(path, header.version, FORMAT_VERSION)
        if header.codec not in CODECS:
            raise unknown_codec(path, header.codec)
        if header.number != number:
            raise damaged(path, 0, f"the file's name says segment {number}, its header says {header.number}")
        if not self._segments:
            self._salt = header.salt
            return header
        last = self._segments[-1]
        if header.salt != self._salt:
            raise damaged(path, 0, f"it belongs to another log than {last.path.name}")
        if number != last.number + 1:
            raise damaged(path, 0, f"segments {last.number + 1} to {number - 1} are missing before it")
        if (header.first_frame, header.chain) != (self._end.next_frame, self._end.chain):
            more = f"{self._stop}, yet {path.name} follows, begun after frame {header.first_frame - 1}"
            raise damaged(last.path, self._end.offset, more)
        return header

    def _read_frames(self, data: bytes, path: Path) -> None:
        """Read up to the first byte that is not the next frame; `_end` and `_stop` say where and why."""
        view = memoryview(data)
        offset, number, chain = self._end.offset, self._end.next_frame, self._end.chain
        while True:
            frame = decode_frame(view, offset, salt=self._salt)
            if not isinstance(frame, Frame):
                self._stop = frame
                break
            if (frame.number, frame.chain) != (number, chain):
                self._stop = f"frame {frame.number} stands where frame {number} belongs"
                break
            if frame.codec not in CODECS:
                raise unknown_codec(path, frame.codec)
            try:
                decode(frame.payload, frame.records, self._records)
            except BadRecordError as error:
                raise damaged(path, offset, str(error)) from error
            offset, number, chain = offset + frame.size_bytes, number + 1, frame.crc
        self._end = End(offset, number, chain)

    def _drop_segment(self, path: Path, previous: End, *, was_used: bool) -> None:
        """Drop a last segment whose first frame is broken; that frame repeats only what earlier ones say."""
        if was_used:
            raise damaged(path, SECTOR, f"{self._stop}, yet frames were written behind it")
        if not self._segments:
            raise damaged(path, SECTOR, f"{self._stop}, and no other segment says whose log this is")
        self._torn = Torn(path, SECTOR, self._stop, drop_file=True)
        self._end = previous

    def result(self) -> Replayed:
        last, records = self._segments[-1], self._records
        if records.metadata is None:
            raise damaged(last.path, SECTOR, "no record says whose log this is")
        entries, mark, hard = records.entries, records.mark, records.hard_state
        if entries and entries[0].index > mark.index + 1:
            gap = f"entries {mark.index + 1} to {entries[0].index - 1} are missing"
            raise damaged(self._segments[0].path, SECTOR, gap)
        last_index = entries[-1].index if entries else mark.index
        if hard.commit > last_index:
            gap = f"entry {hard.commit} was committed, but the log ends with entry {last_index}"
            raise damaged(last.path, self._end.offset, gap)
        return Replayed(records.metadata, hard, mark, entries, self._salt, self._segments, self._end, self._torn)


class _Records:
    """What the records add up to."""

    def __init__(self) -> None:
        self.metadata: Metadata | None = None
        self.hard_state = HardState()
        self.mark = SnapshotMark()
        self.entries: list[Entry] = []

    def on_metadata(self, metadata: Metadata) -> None:
        if self.metadata not in (None, metadata):
            raise BadRecordError(f"the log changes hands from {self.metadata} to {metadata}")
        self.metadata = metadata

    def on_hard_state(self, hard_state: HardState) -> None:
        self.hard_state = hard_state

    def on_entry(self, entry: Entry) -> None:
        """Append, or replace the tail from `entry.index` on, as a new leader's entries do."""
        entries = self.entries
        if entries:
            place = entry.index - entries[0].index
            if place < 0 or place > len(entries):
                raise BadRecordError(f"entry {entry.index} follows entry {entries[-1].index}")
            if place < len(entries):
                del entries[place:]
        entries.append(entry)

    def on_mark(self, mark: SnapshotMark) -> None:
        """Keep the entries that a snapshot covers, unless it goes beyond them or contradicts them."""
        self.mark = mark
        if not self.entries:
            return
        place = mark.index - self.entries[0].index
        if place >= len(self.entries) or (place >= 0 and self.entries[place].term != mark.term):
            self.entries.clear()
