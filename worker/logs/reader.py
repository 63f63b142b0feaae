"""Reads a task's log back: the last lines or all of them, from a time on, and on across rotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Self

from worker.logs.file import files_oldest_first
from worker.logs.format import LogLine
from worker.logs.layouts import LOCAL, layout_of

BLOCK_BYTES: Final = 64 * 1024
_NO_END: Final = float("inf")


class LogCursor:
    """A place in a task's log. `read` goes on from it; `close` when done (or use it with `with`).

    The files are told apart by inode, so that a rotation between two reads loses and repeats nothing, unless the
    file that was being read fell out at the end: then reading goes on with the oldest that there is.
    """

    def __init__(self, directory: Path, *, tail: int | None = None, since: float = 0.0, until: float = _NO_END) -> None:
        """
        Args:
            directory: the task's `logs` directory; it need not exist yet.
            tail: how many stored lines from the end to begin with; None begins at the beginning.
            since, until: wall seconds; lines outside are left out.
        """
        self._directory = directory
        self._since = since
        self._until = until
        self._file: BinaryIO | None = None
        self._decode = LOCAL.decode
        self._rest = b""
        self.ended = False
        if tail is not None:
            self._seek_tail(tail)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[LogLine]:
        """Return the next lines, at most a block of them; [] at the end, for now (or for good: `ended`)."""
        while not self.ended:
            if self._file is None and not self._open_next(None):
                return []
            assert self._file is not None, "a next file was opened"
            data = self._file.read(BLOCK_BYTES)
            if not data:
                inode = os.fstat(self._file.fileno()).st_ino
                if not self._open_next(inode):
                    return []
                continue
            *whole, self._rest = (self._rest + data).split(b"\n")
            lines = list(self._wanted(whole))
            if lines:
                return lines
        return []

    def _wanted(self, stored: list[bytes]) -> Iterator[LogLine]:
        for text in stored:
            line = self._decode(text)
            if line is None or line.at < self._since:
                continue
            if line.at > self._until:
                self.ended = True
                return
            yield line

    def _open_next(self, inode: int | None) -> bool:
        """Open the file after the one with `inode` (None: the oldest); False if there is none yet."""
        files = files_oldest_first(self._directory)
        inodes = [path.stat().st_ino for path in files]
        following = inodes.index(inode) + 1 if inode in inodes else 0
        # With one file kept, the file that was read is gone and the new one is the oldest.
        if following >= len(files):
            return False
        self.close()
        self._open(files[following])
        self._rest = b""
        return True

    def _open(self, path: Path) -> BinaryIO:
        self._file = path.open("rb")
        self._decode = layout_of(path).decode
        return self._file

    def _seek_tail(self, count: int) -> None:
        """Open the file that holds the `count`-th line from the end, at that line."""
        missing = count
        for path in reversed(files_oldest_first(self._directory)):
            self.close()
            missing = _seek_back(self._open(path), missing)
            if missing == 0:
                return


def _seek_back(file: BinaryIO, count: int) -> int:
    """Place `file` at the start of its `count`-th line from the end; return how many lines it was short of."""
    position = file.seek(0, os.SEEK_END)
    if count == 0:
        return 0
    wanted = count + 1  # the newline before the first line that is wanted
    while position > 0:
        start = max(0, position - BLOCK_BYTES)
        file.seek(start)
        block = file.read(position - start)
        newlines = block.count(b"\n")
        if newlines >= wanted:
            at = len(block)
            for _ in range(wanted):
                at = block.rindex(b"\n", 0, at)
            file.seek(start + at + 1)
            return 0
        wanted -= newlines
        position = start
    file.seek(0)
    # Nothing stood before the file's first line, so no newline ends it.
    return max(0, wanted - 1)
