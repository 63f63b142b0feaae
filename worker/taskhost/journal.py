"""The task host's journal: an append-only file of JSON lines, on disk before anything is said.

Kinds: `start` (id, pid, start_time, at, boot), `exit` (id, status, lost, at), `forget` (id), and `probe` and
`probed` (pid, start_time, boot), so that a probe whose task host dies is found and ended.
"""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import errno
import json
import os

from swarmpy.daemon.lines import say
from swarmpy.daemon.state import sync_directory

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Record = dict[str, object]

UNSYNCED = ("probe", "probed")  # they matter while the machine is up, and then the kernel has them
COMPACT_FROM_LINES = 1000
COMPACT_RATIO = 4


class Journal:
    """An open journal. What is owed could not be written yet and goes before whatever is written next."""

    def __init__(
        self,
        path: str,
        fd: int,
        size: int,
        lines: int,
        *,
        write: Callable[[int, bytes], int] = os.write,
        sync: Callable[[int], None] = os.fdatasync,
    ) -> None:
        self._path = path
        self._fd = fd
        self._size = size
        self._lines = lines
        self._write = write
        self._sync = sync
        self._owed: list[Record] = []
        self._compact_from = COMPACT_FROM_LINES
        self._torn = False

    @property
    def owes(self) -> bool:
        """Whether something waits to be written."""
        return bool(self._owed)

    def owe(self, record: Record) -> None:
        """Have `record` written by the next commit that succeeds."""
        self._owed.append(record)

    def commit(self, records: Sequence[Record] = ()) -> None:
        """Append what is owed, then `records`, in one write, and sync once unless it is of probes alone.

        Raises:
            OSError: nothing of it is in the file; what was owed still is, `records` are the caller's again.
        """
        together = [*self._owed, *records]
        if not together:
            return
        # After a torn line that could not be taken back, an end of line keeps it from spoiling the next.
        block = (b"\n" if self._torn else b"") + _encode(together)
        try:
            if self._write(self._fd, block) != len(block):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)
            if not all(record["kind"] in UNSYNCED for record in together):
                self._sync(self._fd)
        except OSError:
            self._take_back()
            raise
        self._size += len(block)
        self._lines += len(together)
        self._torn = False
        self._owed.clear()

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._fd, self._size)
        except OSError:
            self._torn = True

    def mostly_dead(self, live: int) -> bool:
        """Return whether a rewrite with `live` records would make the file much smaller."""
        return self._lines >= self._compact_from and self._lines > COMPACT_RATIO * live

    def rewrite(self, records: Sequence[Record]) -> None:
        """Replace the file by `records`, which stand for everything in it and everything owed.

        Raises:
            OSError: it could not be written; the old file is in use as before.
        """
        draft = self._path + ".new"
        block = _encode(records)
        # Should this fail on a full disk, it is not tried again at every turn.
        self._compact_from = 2 * self._lines
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if block and self._write(fd, block) != len(block):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), draft)
            self._sync(fd)
            os.rename(draft, self._path)
        except OSError:
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size, self._lines = fd, len(block), len(records)
        self._compact_from = COMPACT_FROM_LINES
        self._torn = False
        self._owed.clear()
        sync_directory(os.path.dirname(self._path))

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def open_journal(path: str) -> tuple[Journal, list[Record]]:
    """Open or make the journal; return it with its records.

    A last line without its end was being written when the machine or the process died: nothing was said of
    it, so it is dropped. Damage elsewhere is stepped over, with the damaged file kept beside: the tasks of
    the other lines still run and need their host.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    content = b""
    while chunk := os.read(fd, 1 << 20):
        content += chunk
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) != len(content):
        os.ftruncate(fd, len(whole))
    records, damaged = _decode(whole)
    if damaged:
        kept = f"{path}.damaged"
        with open(kept, "wb") as copy:
            copy.write(content)
        say(f"task host: {damaged} lines of {path} are damaged and left out; {kept} is a copy of it")
    sync_directory(os.path.dirname(path))
    return Journal(path, fd, len(whole), len(records) + damaged), records


def _encode(records: Iterable[Record]) -> bytes:
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records)


def _decode(content: bytes) -> tuple[list[Record], int]:
    records, damaged = [], 0
    for line in content.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            damaged += 1
    return records, damaged
