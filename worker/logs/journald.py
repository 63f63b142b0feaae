"""Log lines for systemd's journal, by its native protocol: one datagram of fields a line."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from swarmpy.errors import precondition
from worker.logs.format import Stream

SOCKET: Final = Path("/run/systemd/journal/socket")
_PRIORITY: Final = {Stream.STDOUT: b"6", Stream.STDERR: b"3"}


def entry(stream: Stream, piece: bytes, fields: Mapping[str, str]) -> bytes:
    """Return a line, or a piece of a long one, as the journal takes it."""
    rows = [_field("MESSAGE", piece.removesuffix(b"\n")), b"PRIORITY=" + _PRIORITY[stream] + b"\n"]
    if not piece.endswith(b"\n"):
        rows.append(b"CONTAINER_PARTIAL_MESSAGE=true\n")
    rows += [_field(name, value.encode()) for name, value in fields.items()]
    return b"".join(rows)


def _field(name: str, value: bytes) -> bytes:
    """A value with a newline in it has its length before it."""
    if b"\n" not in value:
        return b"%s=%s\n" % (name.encode(), value)
    return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"


class JournalSender:
    """Sends one task's lines. What the journal does not take at once is dropped, and counted."""

    def __init__(self, task_id: str, name: str, path: Path = SOCKET) -> None:
        """
        Args:
            name: what people call the task; the lines' `SYSLOG_IDENTIFIER`.

        Raises:
            SwarmError: FAILED_PRECONDITION, there is no journal on this node.
        """
        self._fields = {
            "SYSLOG_IDENTIFIER": name,
            "CONTAINER_ID": task_id[:12],
            "CONTAINER_ID_FULL": task_id,
            "CONTAINER_NAME": name,
        }
        self.dropped_lines = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise precondition(
                f"this node has no journal for the log driver journald ({path}: {error.strerror}): "
                "use --log-driver json-file"
            ) from error

    def append(self, stream: Stream, pieces: Sequence[bytes]) -> None:
        for number, piece in enumerate(pieces):
            try:
                self._socket.send(entry(stream, piece, self._fields))
            except OSError:
                self.dropped_lines += len(pieces) - number
                return

    def close(self) -> None:
        self._socket.close()
