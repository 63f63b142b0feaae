"""A snapshot as a file: a header, opaque chunks and a footer, all in one chain of checksums.

The file is written under a temporary name, synced and then renamed, so a file with its proper name is whole; a
chunk that proves otherwise is damage. Each piece's checksum starts from that of the piece before it.

With a key, the members and every chunk are sealed, and so is an empty end: each bound to its head, and all to how the
sealed members begin (a nonce of their own), so that no piece of one snapshot passes for another's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from manager.raft.log.crypt import CODEC_PLAIN, CODECS, OVERHEAD_BYTES, Buffer, Sealer, unseal
from manager.raft.log.disk import Disk, File
from manager.raft.log.faults import LogFailedError, damaged, disk_full, is_full, newer_format, unknown_codec
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
_FOOTER: Final = struct.Struct("<4sIQQ")  # magic, sealed bytes, chunks, bytes of all chunks
_CRC: Final = struct.Struct("<I")
_CHUNK_MAGIC: Final = b"\xf5SCH"
_FOOTER_MAGIC: Final = b"\xf5SFT"


def snapshot_name(mark: SnapshotMark) -> str:
    """Return a snapshot's file name; names sort by index."""
    return f"{mark.index:016x}-{mark.term:016x}{SUFFIX}"


class SnapshotWriter:
    """Writes one snapshot; ends with `finish` or `abort`. Every call may block for a write and a short sync.

    Args:
        serial: tells this writer's temporary file from those of others of the same snapshot.
        finished: takes the temporary name of the whole, durable file, which is not renamed then.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, the disk is full.
        LogFailedError: a write or sync failed.
    """

    def __init__(
        self,
        disk: Disk,
        directory: Path,
        mark: SnapshotMark,
        sealer: Sealer,
        *,
        serial: int = 0,
        finished: Callable[[Path], None] | None = None,
    ) -> None:
        self._disk, self._dir, self._sealer, self._finished = disk, directory, sealer, finished
        self._path = directory / snapshot_name(mark)
        self._temporary = directory / f"{snapshot_name(mark)}.{serial}{TEMPORARY}"
        self._offset = self._synced = self._chunks = self._data_bytes = self._crc = 0
        self._file: File | None = None
        self._is_temporary = False
        try:
            self._file = disk.create(self._temporary)
        except OSError as error:
            raise self._fault(error, 0) from error
        self._is_temporary = True
        try:
            self._begin(mark)
        except Exception:  # nobody has this writer yet, so nobody else can give it up
            self.abort()
            raise

    def _begin(self, mark: SnapshotMark) -> None:
        sealer = self._sealer
        conf = msgspec.msgpack.encode(mark.conf)
        length = len(conf) + sealer.overhead_bytes
        head = _HEADER.pack(_MAGIC, FORMAT_VERSION, sealer.codec, length, mark.index, mark.term)
        sealed = sealer.seal(conf, head)
        self._bound_to = sealed[:OVERHEAD_BYTES] if sealer.codec != CODEC_PLAIN else b""
        self._put(head, sealed)

    def write(self, chunk: bytes) -> None:
        """Append a chunk (at most `MAX_CHUNK_BYTES` bytes)."""
        if len(chunk) > MAX_CHUNK_BYTES:
            raise invalid(f"a snapshot's chunk has {len(chunk)} bytes; the most is {MAX_CHUNK_BYTES}: cut it up")
        self._seal(_CHUNK.pack(_CHUNK_MAGIC, len(chunk) + self._sealer.overhead_bytes, self._chunks), chunk)
        self._chunks += 1
        self._data_bytes += len(chunk)

    def finish(self) -> None:
        """Make the snapshot durable: under its name, or for whoever asked to be told."""
        self._seal(_FOOTER.pack(_FOOTER_MAGIC, self._sealer.overhead_bytes, self._chunks, self._data_bytes), b"")
        file = self._open_file()
        try:
            file.datasync()
            self._close()
            if self._finished is None:
                self._disk.rename(self._temporary, self._path)
            self._is_temporary = False
            if self._finished is None:
                self._disk.sync_dir(self._dir)
        except OSError as error:
            raise self._fault(error, 0) from error
        if self._finished is not None:
            self._finished(self._temporary)

    def abort(self) -> None:
        """Remove what was written; does nothing once it is finished, or removed."""
        try:
            if self._file is not None:
                self._close()
            if self._is_temporary:
                self._is_temporary = False
                self._disk.unlink(self._temporary)
        except OSError as error:
            raise LogFailedError(self._temporary, "removing", error) from error

    def _seal(self, head: bytes, body: bytes) -> None:
        self._put(head, self._sealer.seal(body, self._bound_to + head))

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
    """Reads a snapshot, piece by piece, each proved before it is given out; a file that is removed stays readable.

    Raises:
        FileNotFoundError: there is no such file.
        SwarmError: CORRUPT; FAILED_PRECONDITION, a newer version wrote it, or its key is wrong or missing.
    """

    def __init__(self, disk: Disk, path: Path, sealer: Sealer) -> None:
        self._path, self._sealer, self._offset, self._crc = path, sealer, 0, 0
        self._codec, self._bound_to = 0, b""
        try:
            self._file = disk.open(path)
        except FileNotFoundError:
            raise
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
            if magic != _CHUNK_MAGIC or number != count or length > MAX_CHUNK_BYTES + OVERHEAD_BYTES:
                raise damaged(self._path, start, f"chunk {count} does not begin here")
            sealed = self._take(length)
            self._prove(start, head, sealed)
            chunk = bytes(self._open(start, head, sealed))
            count, data_bytes = count + 1, data_bytes + len(chunk)
            yield chunk

    def _read_header(self) -> SnapshotMark:
        head = self._take(_HEADER.size)
        magic, version, codec, length, index, term = _HEADER.unpack(head)
        if magic != _MAGIC:
            raise damaged(self._path, 0, "this is not a swarmpy snapshot")
        sealed = self._take(min(length, MAX_CHUNK_BYTES))
        self._prove(0, head, sealed)
        if version > FORMAT_VERSION:
            raise newer_format(self._path, version, FORMAT_VERSION)
        if codec not in CODECS:
            raise unknown_codec(self._path, codec)
        self._codec = codec
        conf = self._open(0, head, sealed)
        if codec != CODEC_PLAIN:
            self._bound_to = sealed[:OVERHEAD_BYTES]
        try:
            return SnapshotMark(index, term, msgspec.msgpack.decode(conf, type=ConfState))
        except msgspec.DecodeError as error:
            raise damaged(self._path, 0, f"its members cannot be read ({error})") from error

    def _end(self, start: int, head: bytes, count: int, data_bytes: int) -> None:
        foot = head + self._take(_FOOTER.size - len(head))
        _, length, chunks, size = _FOOTER.unpack(foot)
        sealed = self._take(min(length, OVERHEAD_BYTES))
        self._prove(start, foot, sealed)
        self._open(start, foot, sealed)
        if (chunks, size) != (count, data_bytes):
            raise damaged(self._path, start, f"{chunks} chunks were written, {count} are here")
        if self._file.size() != self._offset:
            raise damaged(self._path, self._offset, "something stands behind the end")

    def _open(self, start: int, head: bytes, sealed: bytes) -> Buffer:
        return unseal(self._sealer, self._codec, sealed, self._bound_to + head, path=self._path, offset=start)

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
