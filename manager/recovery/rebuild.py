"""A rebuilt log directory in place of the old one, safe at every step.

`raft.new` is written whole and synced, its report last. Then `raft` becomes `raft.old-<UTC>`, the member's place is
stored, and `raft.new` becomes `raft`. A start that finds no `raft` and a whole `raft.new` does the rest.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from manager.place import LOG
from manager.raft.log import storage
from manager.raft.log.crypt import Sealer
from manager.raft.log.disk import Disk
from manager.raft.log.faults import LogFailedError, disk_full, is_full
from manager.raft.log.snapshot_file import SnapshotWriter
from manager.raft.log.storage import LOG_DIR, SNAPSHOT_DIR
from manager.raft.log.wal import DEFAULT_SEGMENT_BYTES, WriteAheadLog
from manager.raft.types import Metadata, SnapshotMark
from swarmpy.model.recovery import REPORT_FILE, RecoveryReport

NEW: Final = "raft.new"
OLD: Final = "raft.old-"


def build(
    disk: Disk,
    directory: Path,
    metadata: Metadata,
    mark: SnapshotMark,
    chunks: Iterable[bytes],
    report: RecoveryReport,
    *,
    salt: int,
    sealer: Sealer,
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> None:
    """Write a new log beside the one in `directory`: it begins with a snapshot, and with the members of its mark.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, the disk is full; the log that there is was not touched.
    """
    discard(disk, directory)
    new = directory / NEW
    try:
        for path in (new, new / LOG_DIR, new / SNAPSHOT_DIR):
            disk.make_dir(path)
        writer = SnapshotWriter(disk, new / SNAPSHOT_DIR, mark, sealer)
        for chunk in chunks:
            writer.write(chunk)
        writer.finish()
        WriteAheadLog.create(disk, new / LOG_DIR, metadata, mark, sealer, salt=salt, segment_bytes=segment_bytes)
        _write(disk, new / REPORT_FILE, msgspec.msgpack.encode(report))
    except OSError as error:
        if is_full(error):
            raise disk_full(directory, segment_bytes) from error
        raise LogFailedError(new, "writing", error) from error


def swap(disk: Disk, directory: Path, old: Path, save_place: Callable[[int], None]) -> None:
    """Let what `build` wrote take the place of the log, which is kept as `old`.

    Raises:
        LogFailedError: the disk failed; the next start does the rest, or finds all as it was.
    """
    with _failing(old, "naming"):
        if LOG in disk.list_dir(directory):
            disk.rename(directory / LOG, old)
            disk.sync_dir(directory)
    complete(disk, directory, save_place)


def complete(disk: Disk, directory: Path, save_place: Callable[[int], None]) -> None:
    """Do the rest of a swap that was cut off behind its first step, if there is one.

    Args:
        save_place: stores, durably, which member this manager is.
    """
    report = None if LOG in disk.list_dir(directory) else read_report(disk, directory / NEW)
    if report is None:
        return
    save_place(report.member_id)
    with _failing(directory / LOG, "naming"):
        disk.rename(directory / NEW, directory / LOG)
        disk.sync_dir(directory)


def discard(disk: Disk, directory: Path) -> None:
    """Remove a new log that never came into force."""
    new = directory / NEW
    if REPORT_FILE in disk.list_dir(new):
        disk.unlink(new / REPORT_FILE)  # first: without it, what is left counts for nothing
        disk.sync_dir(new)
    shutil.rmtree(new, ignore_errors=True)


def old_name(disk: Disk, directory: Path, now_s: float) -> Path:
    """Return the name under which the present log is to be kept, for the wall time `now_s`."""
    name = OLD + time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
    taken, number, free = disk.list_dir(directory), 1, name
    while free in taken:
        number += 1
        free = f"{name}.{number}"
    return directory / free


def read_report(disk: Disk, directory: Path) -> RecoveryReport | None:
    """Return what a log directory says of how it was rebuilt; None if it was not, or not wholly."""
    if REPORT_FILE not in disk.list_dir(directory) or not storage.exists(disk, directory):
        return None
    file = disk.open(directory / REPORT_FILE)
    try:
        return msgspec.msgpack.decode(file.pread(file.size(), 0), type=RecoveryReport)
    except msgspec.DecodeError:
        return None  # it has its name only once it is whole: of no release of ours
    finally:
        file.close()


@contextmanager
def _failing(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LogFailedError(path, what, error) from error


def _write(disk: Disk, path: Path, data: bytes) -> None:
    scratch = path.with_name(f"{path.name}.tmp")
    file = disk.create(scratch)
    try:
        file.pwrite(data, 0)
        file.datasync()
    finally:
        file.close()
    disk.rename(scratch, path)
    disk.sync_dir(path.parent)
