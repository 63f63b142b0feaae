"""A task's log on disk: one file that is written, and older ones beside it; bounded in size and number."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from swarmpy.clock import Clock
from swarmpy.errors import invalid, not_supported
from swarmpy.model.spec import LogDriver
from worker.logs.format import Stream
from worker.logs.layouts import JSON, LAYOUTS, LOCAL, Layout

_DEFAULT_SIZE_BYTES: Final = 10 * 1024 * 1024
_SMALLEST_SIZE_BYTES: Final = 32 * 1024
_DEFAULT_FILES: Final = 3
_SIZE: Final = re.compile(r"(\d+)([kmg]?)b?", re.IGNORECASE)
_FACTOR: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
# What the journal gets is kept in a file too, so that `service logs` finds it.
_LAYOUT: Final = {"": JSON, "json-file": JSON, "journald": JSON, "local": LOCAL}


@dataclass(frozen=True, slots=True)
class LogOptions:
    """`max_files` files of at most `max_size_bytes` each; `keep` False drops everything, `journal` sends a copy."""

    max_size_bytes: int = _DEFAULT_SIZE_BYTES
    max_files: int = _DEFAULT_FILES
    keep: bool = True
    layout: Layout = JSON
    journal: bool = False


def log_options(driver: LogDriver) -> LogOptions:
    """Return what the spec's log driver asks for.

    Raises:
        SwarmError: NOT_SUPPORTED, another driver or option; INVALID_ARGUMENT, a malformed value.
    """
    if driver.name == "none":
        return LogOptions(keep=False)
    if driver.name not in _LAYOUT:
        raise not_supported(f"the log driver {driver.name!r}")
    unknown = sorted(set(driver.options) - {"max-size", "max-file"})
    if unknown:
        raise not_supported(f"the log option {unknown[0]!r}")
    size = _size_bytes(driver.options)
    files = driver.options.get("max-file", str(_DEFAULT_FILES))
    if not files.isdigit() or int(files) < 1:
        raise invalid(f"the log option max-file={files} is not a number from 1 on")
    return LogOptions(size, int(files), layout=_LAYOUT[driver.name], journal=driver.name == "journald")


def _size_bytes(options: Mapping[str, str]) -> int:
    text = options.get("max-size")
    if text is None:
        return _DEFAULT_SIZE_BYTES
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _FACTOR[match[2].lower()] if match else 0
    if size < _SMALLEST_SIZE_BYTES:
        raise invalid(f"the log option max-size={text} is not a size from 32k on, such as 10m")
    return size


class LogFile:
    """Appends lines; never raises for a full disk, but counts what it drops and says so when space is back."""

    def __init__(self, directory: Path, options: LogOptions, clock: Clock) -> None:
        """
        Args:
            directory: holds `json.log`, `json.log.1` (older) and so on; made if it is missing.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / options.layout.file_name
        self._options = options
        self._clock = clock
        self._descriptor: int | None = None
        self._size_bytes = 0
        self._lost_lines = 0
        self.dropped_lines = 0
        self.listeners: list[Callable[[], None]] = []
        self.last_error_line = b""

    def append(self, stream: Stream, pieces: Sequence[bytes]) -> None:
        """Store lines (ending with a newline) and pieces of long lines."""
        if not pieces:
            return
        if stream is Stream.STDERR:
            self.last_error_line = next((p for p in reversed(pieces) if p.strip()), self.last_error_line)
        if not self._options.keep:
            return
        self._store(self._clock.now(), stream, pieces)
        for listener in self.listeners:
            listener()

    def _store(self, now: float, stream: Stream, pieces: Sequence[bytes]) -> None:
        block = self._options.layout.encode(now, stream, pieces)
        if len(block) > self._options.max_size_bytes and len(pieces) > 1:
            # Very short lines grow on their way: more than one file's worth of them came at once.
            half = len(pieces) // 2
            self._store(now, stream, pieces[:half])
            self._store(now, stream, pieces[half:])
            return
        if self._lost_lines:
            text = f"[swarmpy: {self._lost_lines} lines were dropped here: no space left on the node's disk]\n"
            block = self._options.layout.encode(now, Stream.STDERR, [text.encode()]) + block
        if self._write(block):
            self._lost_lines = 0
        else:
            self._lost_lines += len(pieces)
            self.dropped_lines += len(pieces)

    def close(self) -> None:
        """Close the file; whoever follows it is told."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        for listener in self.listeners:
            listener()

    def _write(self, block: bytes) -> bool:
        """Write all of `block` or nothing; False if there is no space for it."""
        try:
            if self._size_bytes and self._size_bytes + len(block) > self._options.max_size_bytes:
                self._rotate()
            descriptor = self._open()
            written = os.write(descriptor, block)
            if written == len(block):
                self._size_bytes += written
                return True
            os.ftruncate(descriptor, self._size_bytes)
        except OSError:
            return False  # counted by the caller, and said in the log itself once there is space
        return False

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(self._path, flags, 0o640)
            self._size_bytes = self._mend(self._descriptor)
        return self._descriptor

    def _mend(self, descriptor: int) -> int:
        """Return the size of a file that a former writer may have left in the middle of a line, and end that line."""
        size = os.fstat(descriptor).st_size
        if size:
            with self._path.open("rb") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    size += os.write(descriptor, b"\n")
        return size

    def _rotate(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        names = [self._path]
        names += [self._path.with_name(f"{self._path.name}.{i}") for i in range(1, self._options.max_files)]
        if len(names) == 1:
            names[0].unlink(missing_ok=True)
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)
        self._size_bytes = 0


def files_oldest_first(directory: Path) -> list[Path]:
    """Return the log files that there are, the one being written last."""
    if not directory.is_dir():
        return []
    files: list[Path] = []
    for layout in LAYOUTS:
        rotated = [p for p in directory.glob(f"{layout.file_name}.*") if p.suffix[1:].isdigit()]
        files += sorted(rotated, key=lambda p: -int(p.suffix[1:]))
        current = directory / layout.file_name
        files += [current] if current.exists() else []
    return files
