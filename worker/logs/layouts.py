"""How a log file's lines are laid out: our own text, or Docker's JSON. Sans-IO."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from worker.logs import format as text
from worker.logs.format import LogLine, Stream

_NAME: Final = {Stream.STDOUT: "stdout", Stream.STDERR: "stderr"}
_STREAM: Final = {name: stream for stream, name in _NAME.items()}


@dataclass(frozen=True, slots=True)
class Layout:
    """`encode` makes whole stored lines; `decode` reads one without its newline, None if it is damaged."""

    file_name: str
    encode: Callable[[float, Stream, Sequence[bytes]], bytes]
    decode: Callable[[bytes], LogLine | None]


class _Row(msgspec.Struct, gc=False):
    log: str
    stream: str
    time: str


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(_Row)


def encode_json(at: float, stream: Stream, pieces: Sequence[bytes]) -> bytes:
    """Return lines, and pieces of long ones without a newline, as Docker stores them; what is no UTF-8 is replaced."""
    moment = text.time_text(at)[:-1] + "000Z"  # nanoseconds, as its readers expect
    name = _NAME[stream]
    return _ENCODER.encode_lines(_Row(piece.decode("utf-8", "replace"), name, moment) for piece in pieces)


def decode_json(line: bytes) -> LogLine | None:
    try:
        row = _DECODER.decode(line)
        at = datetime.datetime.fromisoformat(row.time).timestamp()
        return LogLine(at, _STREAM[row.stream], row.log.encode())
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, KeyError):
        return None  # the end of a file of a killed worker


LOCAL: Final = Layout("task.log", text.encode, text.decode)
JSON: Final = Layout("json.log", encode_json, decode_json)
LAYOUTS: Final = (LOCAL, JSON)
"""Where a task has both, releases before had begun its log in the first."""


def layout_of(path: Path) -> Layout:
    """Return the layout of a log file, which its name tells, rotated or not."""
    return JSON if path.name.startswith(JSON.file_name) else LOCAL
