"""Reading a snapshot file: every byte is proved before it is believed, and damage is named with its place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

import msgspec

from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.snapshot.format import (
    END,
    HEAD,
    MAGIC,
    MAX_PIECE_BYTES,
    START,
    VERSION,
    Header,
    Kind,
    piece_crc,
    start_crc,
)

_OTHER: Final = "use another copy of it, or another snapshot"


@dataclass(frozen=True)
class Verified:
    """A sound file: what it is of, how large it is, and the SHA-256 that it ends with, in hex."""

    header: Header
    size_bytes: int
    sha256: str


class SnapshotFile:
    """An open snapshot file whose header was read. Use it by `with`.

    Raises:
        SwarmError: NOT_FOUND, FAILED_PRECONDITION: it cannot be read, is no snapshot, or a newer release's;
            CORRUPT: it is damaged or cut off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._sha256 = ""
        self._digest = hashlib.sha256()
        try:
            self._file: BinaryIO = path.open("rb")
        except OSError as error:
            raise _unreadable(path, error) from error
        try:
            self._check_start()
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks of the state, once; only behind the last one is the file proved to be whole."""
        count = size_bytes = 0
        while True:
            place, before = self._offset, self._digest.digest()
            kind, payload = self._piece()
            if kind == Kind.END:
                self._check_end(place, payload, (before, count, size_bytes))
                return
            if kind != Kind.CHUNK:
                raise self._damaged(place, "a piece of an unknown kind begins here")
            count, size_bytes = count + 1, size_bytes + len(payload)
            yield payload

    def verify(self) -> Verified:
        """Read the rest, and return what was found."""
        for _ in self.chunks():
            pass
        return Verified(self.header, self._offset, self._sha256)

    def _check_start(self) -> None:
        start = self._read(START.size)
        magic = start[: len(MAGIC)]
        if not MAGIC.startswith(magic):
            raise precondition(f"{self._path} is not a swarmpy snapshot: it begins otherwise")
        if len(start) < START.size:
            raise self._cut_off()
        _, version, _ = START.unpack(start)
        if start != START.pack(MAGIC, version, start_crc(version)):
            raise self._damaged(0, "a checksum is wrong")
        if version > VERSION:
            raise precondition(
                f"{self._path} has snapshot format {version}, this swarmpy reads up to format {VERSION}: "
                "use the release that wrote it, or a newer one"
            )

    def _read_header(self) -> Header:
        place = self._offset
        kind, payload = self._piece()
        if kind != Kind.HEADER:
            raise self._damaged(place, "the header is missing")
        try:
            return msgspec.msgpack.decode(payload, type=Header)
        except msgspec.MsgspecError as error:
            raise self._damaged(place, f"the header cannot be read ({error})") from error

    def _check_end(self, place: int, payload: bytes, expected: tuple[bytes, int, int]) -> None:
        if len(payload) != END.size or END.unpack(payload) != expected:
            raise self._damaged(place, "the checksum of the whole is wrong")
        if self._read(1):
            raise self._damaged(self._offset - 1, "something stands behind its end")
        self._sha256 = expected[0].hex()

    def _piece(self) -> tuple[int, bytes]:
        place = self._offset
        head = self._read(HEAD.size)
        if len(head) < HEAD.size:
            raise self._cut_off()
        kind, size_bytes, _ = HEAD.unpack(head)
        if size_bytes > MAX_PIECE_BYTES:
            raise self._damaged(place, "a piece has an impossible length")
        payload = self._read(size_bytes)
        if len(payload) < size_bytes:
            raise self._cut_off()
        if head != HEAD.pack(kind, size_bytes, piece_crc(kind, payload)):
            raise self._damaged(place, "a checksum is wrong")
        return kind, payload

    def _read(self, size_bytes: int) -> bytes:
        try:
            data = self._file.read(size_bytes)
        except OSError as error:
            raise _unreadable(self._path, error) from error
        self._offset += len(data)
        self._digest.update(data)
        return data

    def _damaged(self, offset: int, what: str) -> SwarmError:
        return SwarmError(Code.CORRUPT, f"{self._path} is damaged at byte {offset}: {what}; {_OTHER}")

    def _cut_off(self) -> SwarmError:
        return SwarmError(
            Code.CORRUPT, f"{self._path} is cut off after {self._offset} bytes: it was not copied whole; {_OTHER}"
        )


def _unreadable(path: Path, error: OSError) -> SwarmError:
    code = Code.NOT_FOUND if isinstance(error, FileNotFoundError) else Code.FAILED_PRECONDITION
    return SwarmError(code, f"cannot read {path}: {(error.strerror or str(error)).lower()}")
