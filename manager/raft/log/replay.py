"""Reads a log's segments at start and decides what each broken byte means; changes nothing on disk.

Only the frame that was being written when the process or the machine stopped can be broken: it is the last one, it
was never acknowledged, and it is dropped. A broken frame with a whole later one behind it is damage: refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from manager.raft.log.contents import Contents, Tail
from manager.raft.log.crypt import CODEC_PLAIN, CODECS, Sealer, unseal
from manager.raft.log.disk import Disk
from manager.raft.log.faults import LogFailedError, damaged, newer_format, unknown_codec
from manager.raft.log.frame import (
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
    """A segment file.

    `first_index` is the index of the next new entry when it was begun, or when the log restarted in it: every entry
    from there on that counts is in this segment or a later one.
    """

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
    tail: Tail
    entries: list[Entry]
    salt: int
    segments: list[Segment]
    end: End
    torn: Torn | None

    @property
    def hard_state(self) -> HardState:
        return self.tail.hard_state

    @property
    def mark(self) -> SnapshotMark:
        return self.tail.mark


def segment_name(number: int, first_index: int) -> str:
    """Return a segment's file name; names sort in the segments' order."""
    return f"{number:016x}-{first_index:016x}{SUFFIX}"


def list_segments(disk: Disk, directory: Path) -> list[tuple[int, Path]]:
    """Return the segments' numbers and paths, in order."""
    names = (_NAME.fullmatch(name) for name in disk.list_dir(directory))
    return [(int(name[1], 16), directory / name[0]) for name in names if name]


def last_codec(disk: Disk, directory: Path) -> int:
    """Return the codec of the newest frame in `directory`; plain if there is none that is whole."""
    codec = CODEC_PLAIN
    for _, path in list_segments(disk, directory)[-1:]:
        data = _read(disk, path)
        header = decode_segment_header(data[:SECTOR])
        if isinstance(header, SegmentHeader):
            codec, offset, view = header.codec, SECTOR, memoryview(data)
            while isinstance(frame := decode_frame(view, offset, salt=header.salt), Frame):
                codec, offset = frame.codec, offset + frame.size_bytes
    return codec


def replay(disk: Disk, directory: Path, sealer: Sealer) -> Replayed:
    """Read the whole log in `directory`.

    Raises:
        SwarmError: NOT_FOUND if there is no log, CORRUPT for damage, FAILED_PRECONDITION for a newer format and for
            a key that is wrong or missing.
    """
    listed = list_segments(disk, directory)
    if not listed:
        raise SwarmError(Code.NOT_FOUND, f"there is no log in {directory}: initialise or join the cluster first")
    reader = _Reader(disk, sealer)
    for place, (number, path) in enumerate(listed):
        reader.read_segment(number, path, is_last=place == len(listed) - 1)
    return reader.result()


class _Reader:
    """Goes through the segments in order, keeping what the records say and where the frames stand."""

    def __init__(self, disk: Disk, sealer: Sealer) -> None:
        self._disk, self._sealer = disk, sealer
        self._contents = Contents(0)
        self._segments: list[Segment] = []
        self._salt = 0
        self._end = End(0, 0, 0)
        self._stop = ""
        self._torn: Torn | None = None

    def read_segment(self, number: int, path: Path, *, is_last: bool) -> None:
        data = _read(self._disk, path)
        header = self._header(data, number, path)
        previous = self._end
        self._end = End(SECTOR, header.first_frame, header.chain)
        first_index = self._read_frames(data, path, header.first_index)
        if not is_last:
            self._segments.append(Segment(path, number, first_index, len(data)))
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
        self._segments.append(Segment(path, number, first_index, len(data)))

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
            self._contents.last_index = header.first_index - 1
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

    def _read_frames(self, data: bytes, path: Path, first_index: int) -> int:
        """Read up to the first byte that is not the next frame; `_end` and `_stop` say where and why.

        Returns the segment's first index: `first_index`, or where the log restarted.
        """
        view, contents, restarts = memoryview(data), self._contents, self._contents.restarts
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
            payload = unseal(self._sealer, frame.codec, frame.payload, frame.head, path=path, offset=offset)
            try:
                decode(payload, frame.records, contents)
            except BadRecordError as error:
                raise damaged(path, offset, str(error)) from error
            offset, number, chain = offset + frame.size_bytes, number + 1, frame.crc
            if contents.restarts != restarts:
                first_index, restarts = contents.mark.index + 1, contents.restarts
        self._end = End(offset, number, chain)
        return first_index

    def _drop_segment(self, path: Path, previous: End, *, was_used: bool) -> None:
        """Drop a last segment whose first frame is broken; that frame repeats only what earlier ones say."""
        if was_used:
            raise damaged(path, SECTOR, f"{self._stop}, yet frames were written behind it")
        if not self._segments:
            raise damaged(path, SECTOR, f"{self._stop}, and no other segment says whose log this is")
        self._torn = Torn(path, SECTOR, self._stop, drop_file=True)
        self._end = previous

    def result(self) -> Replayed:
        last, contents, hard = self._segments[-1], self._contents, self._contents.hard_state
        if contents.metadata is None:
            raise damaged(last.path, SECTOR, "no record says whose log this is")
        if (gap := contents.gap()) is not None:
            raise damaged(self._segments[0].path, SECTOR, gap)
        if hard.commit > contents.last_index:
            gap = f"entry {hard.commit} was committed, but the log ends with entry {contents.last_index}"
            raise damaged(last.path, self._end.offset, gap)
        tail = Tail(contents.last_index, hard, contents.mark)
        return Replayed(contents.metadata, tail, contents.entries, self._salt, self._segments, self._end, self._torn)


def _read(disk: Disk, path: Path) -> bytes:
    try:
        file = disk.open(path)
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()
    except OSError as error:
        raise LogFailedError(path, "reading", error) from error
