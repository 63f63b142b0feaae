"""Lines as they are stored: time, stream, whether the line is complete, and its bytes. Sans-IO."""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LONGEST_LINE_BYTES: Final = 16 * 1024
_TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%fZ"
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class Stream(enum.IntEnum):
    """Which of its outputs a task wrote to; the numbers are those of the wire and of file descriptors."""

    STDOUT = 1
    STDERR = 2


_NAME: Final = {Stream.STDOUT: b"stdout", Stream.STDERR: b"stderr"}
_STREAM: Final = {name: stream for stream, name in _NAME.items()}


@dataclass(frozen=True, slots=True)
class LogLine:
    """`at` is wall seconds. `data` ends with a newline unless it is one piece of a line over 16 KiB."""

    at: float
    stream: Stream
    data: bytes


class LineSplitter:
    """Cuts a stream of bytes into lines, and lines over 16 KiB into pieces; holds back less than one piece."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines (with their newline) and full pieces that `data` completes."""
        *lines, rest = (self._rest + data).split(b"\n")
        if max(map(len, lines), default=0) < LONGEST_LINE_BYTES > len(rest):
            self._rest = rest
            return [line + b"\n" for line in lines]
        cut: list[bytes] = []
        for line in lines:
            *pieces, last = _pieces(line)
            cut += pieces
            cut.append(last + b"\n")
        *pieces, self._rest = _pieces(rest)
        return cut + pieces

    def flush(self) -> list[bytes]:
        """Return what the stream ended with, as if it were a line."""
        rest, self._rest = self._rest, b""
        return [rest + b"\n"] if rest else []


def _pieces(line: bytes) -> list[bytes]:
    """Return `line` in pieces of 16 KiB; the last one, which may be empty, is shorter."""
    count = len(line) // LONGEST_LINE_BYTES + 1
    return [line[i * LONGEST_LINE_BYTES : (i + 1) * LONGEST_LINE_BYTES] for i in range(count)]


def time_text(at: float) -> str:
    """Return wall seconds as `2026-08-01T12:00:00.000000Z`."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime(_TIME_FORMAT)


def encode(at: float, stream: Stream, pieces: Sequence[bytes]) -> bytes:
    """Return the stored form of lines, and pieces of just 16 KiB without a newline, that came at the same time."""
    head = b"%s %s " % (time_text(at).encode(), _NAME[stream])
    full, part = head + b"F ", head + b"P "
    if max(map(len, pieces), default=0) < LONGEST_LINE_BYTES:  # no pieces of longer lines among them
        return full.join((b"", *pieces))
    return b"".join(full + p if p.endswith(b"\n") else part + p + b"\n" for p in pieces)


def decode(line: bytes) -> LogLine | None:
    """Return one stored line (without its newline); None if it is damaged, as the end of a file may be."""
    words = line.split(b" ", 3)
    if len(words) < 4 or words[1] not in _STREAM or words[2] not in (b"F", b"P"):
        return None
    try:
        moment = datetime.datetime.strptime(words[0].decode("ascii"), _TIME_FORMAT)
    except ValueError:
        return None
    at = (moment.replace(tzinfo=datetime.UTC) - _EPOCH).total_seconds()
    return LogLine(at, _STREAM[words[1]], words[3] + b"\n" if words[2] == b"F" else words[3])
