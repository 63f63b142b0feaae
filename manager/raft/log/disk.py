"""The file layer: the only place that touches the disk, small enough for a fake that crashes.

Errors are plain `OSError`s; the rooms above say what they mean. Methods may be called from several threads, but
one file is used by one thread at a time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """An open file, read and written at offsets."""

    def size(self) -> int:
        """Return the length in bytes."""

    def pread(self, size_bytes: int, offset: int) -> bytes:
        """Return up to `size_bytes` bytes; fewer only at the end of the file."""

    def pwrite(self, data: bytes, offset: int) -> None:
        """Write all of `data`; not durable before `datasync()`."""

    def allocate(self, size_bytes: int) -> None:
        """Reserve space for `size_bytes` bytes from the start; new bytes read as zeros."""

    def datasync(self) -> None:
        """Make all that was written, and the length, durable."""

    def close(self) -> None:
        """Give the descriptor back."""


class Disk(Protocol):
    """Directories and names. A name made, renamed or removed is durable only after `sync_dir()`."""

    def make_dir(self, path: Path) -> None:
        """Make `path` (its parent exists) unless it is there, durably."""

    def list_dir(self, path: Path) -> Sequence[str]:
        """Return the names in `path`, sorted; none if there is no such directory."""

    def create(self, path: Path) -> File:
        """Make an empty file, or empty the one that is there."""

    def open(self, path: Path) -> File:
        """Open an existing file to read and write."""

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name in its directory."""

    def unlink(self, path: Path) -> None:
        """Remove a file's name."""

    def sync_dir(self, path: Path) -> None:
        """Make the names in `path` durable."""


class OsFile:
    """A descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def pread(self, size_bytes: int, offset: int) -> bytes:
        parts: list[bytes] = []
        while size_bytes > 0:
            part = os.pread(self._fd, size_bytes, offset)
            if not part:
                break
            parts.append(part)
            size_bytes -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> None:
        written = os.pwrite(self._fd, data, offset)
        view = memoryview(data)
        while written < len(data):
            written += os.pwrite(self._fd, view[written:], offset + written)

    def allocate(self, size_bytes: int) -> None:
        os.posix_fallocate(self._fd, 0, size_bytes)

    def datasync(self) -> None:
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


class OsDisk:
    """The machine's own file system."""

    def make_dir(self, path: Path) -> None:
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self.sync_dir(path.parent)

    def list_dir(self, path: Path) -> Sequence[str]:
        return sorted(p.name for p in path.iterdir()) if path.is_dir() else []

    def create(self, path: Path) -> File:
        return OsFile(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))

    def open(self, path: Path) -> File:
        return OsFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def sync_dir(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
