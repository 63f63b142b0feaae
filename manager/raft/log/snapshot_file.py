"""A snapshot as a file: a header, opaque chunks and a footer, all in one chain of checksums.

The file is written under a temporary name, synced and then renamed, so a file with its proper name is whole; a
chunk that proves otherwise is damage. Each piece's checksum starts from that of the piece before it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from manager.raft.log.disk import Disk, File
from manager.raft.log.faults import LogFailedError, damaged, disk_full, is_full, newer_format, unknown_codec
from manager.raft.log.frame import CODEC_PLAIN, CODECS
from manager.raft.types import ConfState, SnapshotMark
from swarmpy.errors import SwarmError, invalid

SUFFIX: Final = ".snap"
TEMPORARY: Final = ".tmp"
FORMAT_VERSION: Final = 1
MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024
_SYNC_EVERY_BYTES: Final = 1024 * 1024  # the log's own syncs wait behind these, so they are short
_MAGIC: Final = b"SWARMSNP"
_HEADER: Final = struct.Struct("<8sBB2xIQQ")  # magic, version, codec | members' bytes, index, term
_CHUNK: Final = struct.Struct("<4sIQ")  # magic, bytes, number
_FOOTER: Final = struct.Struct("<4sIQQ")  # magic, 0, chunks, bytes of all chunks
_CRC: Final = struct.Struct("<I")
_CHUNK_MAGIC: Final = b"\xf5SCH"
_FOOTER_MAGIC: Final = b"\xf5SFT"


def snapshot_name(mark: SnapshotMark) -> str:
    """Return a snapshot's file name; names sort by index."""
    return f"{mark.index:016x}-{mark.term:016x}{SUFFIX}"


class SnapshotWriter:
    """Writes one snapshot; ends with `finish` or `abort`. Every call may block for a write and a short sync.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, the disk is full.
        LogFailedError: a write or sync failed.
    """

    def __init__(self, disk: Disk, directory: Path, mark: SnapshotMark) -> None:
        self._disk, self._dir = disk, directory
        self._path = directory / snapshot_name(mark)
        self._temporary = directory / (snapshot_name(mark) + TEMPORARY)
        self._offset = self._synced = self._chunks = self._data_bytes = self._crc = 0
        self._file: File | None = None
        try:
            self._file = disk.create(self._temporary)
        except OSError as error:
            raise self._fault(error, 0) from error
        conf = msgspec.msgpack.encode(mark.conf)
        self._put(_HEADER.pack(_MAGIC, FORMAT_VERSION, CODEC_PLAIN, len(conf), mark.index, mark.term), conf)

    def write(self, chunk: bytes) -> None:
        """Append a chunk (at most `MAX_CHUNK_BYTES` bytes)."""
        if len(chunk) > MAX_CHUNK_BYTES:
            raise invalid(f"a snapshot's chunk has {len(chunk)} bytes; the most is {MAX_CHUNK_BYTES}: cut it up")
        self._put(_CHUNK.pack(_CHUNK_MAGIC, len(chunk), self._chunks), chunk)
        self._chunks += 1
        self._data_bytes += len(chunk)

    def finish(self) -> None:
        """Make the snapshot durable under its name."""
        self._put(_FOOTER.pack(_FOOTER_MAGIC, 0, self._chunks, self._data_bytes), b"")
        file = self._open_file()
        try:
            file.datasync()
            self._close()
            self._disk.rename(self._temporary, self._path)
            self._disk.sync_dir(self._dir)
        except OSError as error:
            raise self._fault(error, 0) from error

    def abort(self) -> None:
        """Remove what was written; does nothing after `finish`."""
        if self._file is not None:
            self._close()
            try:
                self._disk.unlink(self._temporary)
            except OSError as error:
                raise LogFailedError(self._temporary, "removing", error) from error

    def _put(self, head: bytes, body: bytes) -> None:
        self._crc = crc32(body, crc32(head, self._crc))
        piece = b"".join((head, body, _CRC.pack(self._crc)))
        file = self._open_file()
        try:
            file.pwrite(piece, self._offset)
            self._offset += len(piece)
            if self._offset - self._synced >= _SYNC_EVERY_BYTES:
                file.datasync()
                self._synced = self._offset
        except OSError as error:
            raise self._fault(error, len(piece)) from error

    def _open_file(self) -> File:
        assert self._file is not None, "a finished snapshot is not written to"
        return self._file

    def _close(self) -> None:
        file, self._file = self._open_file(), None
        file.close()

    def _fault(self, error: OSError, needed_bytes: int) -> SwarmError:
        if is_full(error):
            return disk_full(self._dir, needed_bytes)
        return LogFailedError(self._temporary, "writing", error)


class SnapshotReader:
    """Reads a snapshot, piece by piece, each proved before it is given out."""

    def __init__(self, disk: Disk, path: Path) -> None:
        self._path, self._offset, self._crc = path, 0, 0
        try:
            self._file = disk.open(path)
        except OSError as error:
            raise LogFailedError(path, "opening", error) from error
        try:
            self.mark = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks in order.

        Raises:
            SwarmError: CORRUPT, as soon as a byte is not as written; what came before it is sound.
        """
        count = data_bytes = 0
        while True:
            start = self._offset
            head = self._take(_CHUNK.size)
            magic, length, number = _CHUNK.unpack(head)
            if magic == _FOOTER_MAGIC:
                self._end(start, head, count, data_bytes)
                return
            if magic != _CHUNK_MAGIC or number != count or length > MAX_CHUNK_BYTES:
                raise damaged(self._path, start, f"chunk {count} does not begin here")
            chunk = self._take(length)
            self._prove(start, head, chunk)
            count, data_bytes = count + 1, data_bytes + length
            yield chunk

    def _read_header(self) -> SnapshotMark:
        head = self._take(_HEADER.size)
        magic, version, codec, length, index, term = _HEADER.unpack(head)
        if magic != _MAGIC:
            raise damaged(self._path, 0, "this is not a swarmpy snapshot")
        conf = self._take(min(length, MAX_CHUNK_BYTES))
        self._prove(0, head, conf)
        if version > FORMAT_VERSION:
            raise newer_format(self._path, version, FORMAT_VERSION)
        if codec not in CODECS:
            raise unknown_codec(self._path, codec)
        return SnapshotMark(index, term, msgspec.msgpack.decode(conf, type=ConfState))

    def _end(self, start: int, head: bytes, count: int, data_bytes: int) -> None:
        foot = head + self._take(_FOOTER.size - len(head))
        self._prove(start, foot, b"")
        _, _, chunks, size = _FOOTER.unpack(foot)
        if (chunks, size) != (count, data_bytes):
            raise damaged(self._path, start, f"{chunks} chunks were written, {count} are here")
        if self._file.size() != self._offset:
            raise damaged(self._path, self._offset, "something stands behind the end")

    def _take(self, size_bytes: int) -> bytes:
        try:
            data = self._file.pread(size_bytes, self._offset)
        except OSError as error:
            raise LogFailedError(self._path, "reading", error) from error
        if len(data) < size_bytes:
            raise damaged(self._path, self._offset + len(data), "the file ends too soon")
        self._offset += size_bytes
        return data

    def _prove(self, start: int, head: bytes, body: bytes) -> None:
        self._crc = crc32(body, crc32(head, self._crc))
        if _CRC.unpack(self._take(_CRC.size))[0] != self._crc:
            raise damaged(self._path, start, "a checksum is wrong")
