"""The exit statuses of tasks that were reaped here because their task host had been killed."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import contextlib
import json
import os

from swarmpy.daemon.state import write_atomically

MOST = 10_000


class Orphans:
    """The newest 10,000 exits, and a file of them so that they outlive this process.

    The file is not synced: it matters only while the machine stays up, and then the kernel has it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._exits: dict[tuple[int, int], dict[str, object]] = {}
        self._lines = 0
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    self._remember(json.loads(line))
                self._lines += 1

    def add(self, pid: int, start_time: int, status: int, at_s: float) -> None:
        """Remember one exit; `status` is a wait status, `at_s` wall seconds."""
        record: dict[str, object] = {"pid": pid, "start_time": start_time, "status": status, "at": at_s}
        self._remember(record)
        # On a full disk it is remembered in memory only, which is all that is left to do.
        with contextlib.suppress(OSError):
            self._lines += 1
            if self._lines > 2 * MOST:
                lines = b"".join(json.dumps(exit_).encode() + b"\n" for exit_ in self._exits.values())
                write_atomically(self._path, lines, sync=False)
                self._lines = len(self._exits)
            else:
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                try:
                    os.write(fd, json.dumps(record).encode() + b"\n")
                finally:
                    os.close(fd)

    def known(self, pids: set[int] | None) -> list[dict[str, object]]:
        """Return the exits of these pids, or all of them."""
        return [exit_ for exit_ in self._exits.values() if pids is None or exit_["pid"] in pids]

    def _remember(self, record: dict[str, object]) -> None:
        pid, start_time = record["pid"], record["start_time"]
        if not isinstance(pid, int) or not isinstance(start_time, int):
            raise TypeError("not an exit")
        self._exits[pid, start_time] = record
        while len(self._exits) > MOST:
            del self._exits[next(iter(self._exits))]
