"""Writing a snapshot file so that it is whole or not there: under another name, proved, then renamed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.files import sync_directory
from swarmpy.snapshot.reader import SnapshotFile, Verified

SUFFIX: Final = ".tmp"
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Draft:
    """A snapshot that is being written. Use it by `with`: without `finish` nothing is left, and `path` is as it was.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, the disk is full; FAILED_PRECONDITION, the place cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._scratch = path.with_name(path.name + SUFFIX)
        self._fd = -1

    def __enter__(self) -> Self:
        try:
            # Renaming over a device or a directory would take it away, or fail at the very end.
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise precondition(f"{self.path} is there and is not a file: choose another name")
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._refused(error) from error
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._scratch.unlink(missing_ok=True)
            self._fd = os.open(self._scratch, flags, 0o600)
        except OSError as error:
            raise self._refused(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fd >= 0:
            self._close()
            self._scratch.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Append some of the file's bytes; may block for the disk."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise self._refused(error) from error

    def finish(self) -> Verified:
        """Prove what was written, make it durable, and give it its name. CORRUPT: it is no sound snapshot."""
        try:
            os.fsync(self._fd)
            with SnapshotFile(self._scratch) as file:
                verified = file.verify()
            self._scratch.rename(self.path)
            sync_directory(self.path.parent)
        except OSError as error:
            raise self._refused(error) from error
        self._close()
        return verified

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        os.close(fd)

    def _refused(self, error: OSError) -> SwarmError:
        code = Code.RESOURCE_EXHAUSTED if error.errno in _FULL else Code.FAILED_PRECONDITION
        return SwarmError(
            code, f"cannot write {self.path}: {(error.strerror or str(error)).lower()}; nothing was saved"
        )
