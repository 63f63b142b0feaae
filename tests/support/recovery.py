"""A manager's directory as a former group left it, and a disk that is cut off at any operation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from manager.raft.log import storage
from manager.raft.log.crypt import AesGcm, Sealer
from manager.raft.log.disk import File, OsDisk, OsFile
from manager.raft.log.key_file import key_file, load_or_make_key
from manager.raft.log.storage import Storage
from manager.raft.types import ConfState, Entry, EntryKind, HardState, Metadata, SnapshotMark
from manager.store.snapshot import Snapshot
from manager.store.state import State

SEGMENT_BYTES: Final = 64 * 1024


def counting_bytes(size: int) -> bytes:
    return bytes(n % 256 for n in range(size))


def sealer_of(directory: Path) -> Sealer:
    """Return what seals a manager's log, its key made if there is none."""
    path = key_file(directory / "raft")
    return AesGcm((load_or_make_key(path, counting_bytes),), counting_bytes, path)


def leave_log(
    directory: Path, metadata: Metadata, entries: Sequence[bytes], *, committed: int, snapshot: int = 0
) -> None:
    """Store entries 1 to n of term 2 as member of a group of three; `snapshot` is up to where one was taken."""
    sealer, raft = sealer_of(directory), directory / "raft"
    conf = ConfState(voters=(1, 2, 3))
    storage.create(OsDisk(), raft, metadata, conf, salt=5, segment_bytes=SEGMENT_BYTES, sealer=sealer)
    log, _ = Storage.open(OsDisk(), raft, metadata, segment_bytes=SEGMENT_BYTES, sealer=sealer)
    try:
        stored = [Entry(2, index, EntryKind.NORMAL, data) for index, data in enumerate(entries, 1)]
        hard = HardState(2, 1, committed)
        log.append(stored, hard)
        if snapshot:
            state = State()
            for entry in stored[:snapshot]:
                state.apply(entry.index, entry.data)
            mark = SnapshotMark(snapshot, 2, conf)
            writer = log.snapshot_writer(mark)
            for chunk in Snapshot(state):
                writer.write(chunk)
            writer.finish()
            log.adopt_snapshot(mark, hard, keep_from=snapshot + 1)
    finally:
        log.close()


class CutOff(BaseException):
    """The process is gone; not an Exception, so that nothing under test can catch it."""


class CuttingDisk(OsDisk):
    """The machine's file system, up to operation `cut_at`; also knows what a power cut now might take away."""

    def __init__(self, cut_at: int = 0) -> None:
        self.cut_at, self.operations = cut_at, 0
        self.unsynced: set[Path] = set()

    def step(self) -> None:
        self.operations += 1
        if self.operations == self.cut_at:
            raise CutOff

    def make_dir(self, path: Path) -> None:
        self.step()
        super().make_dir(path)

    def create(self, path: Path) -> File:
        self.step()
        self.unsynced.add(path.parent)
        return _CuttingFile(self, path, super().create(path))

    def rename(self, old: Path, new: Path) -> None:
        self.step()
        if old.is_dir():
            below = [path for path in self.unsynced if path.is_relative_to(old) or path == old.parent]
            assert not below, f"{old} is renamed, and these are not safe yet: {below}"
        super().rename(old, new)
        self.unsynced.add(new.parent)
        if old in self.unsynced:
            self.unsynced.remove(old)
            self.unsynced.add(new)

    def unlink(self, path: Path) -> None:
        self.step()
        super().unlink(path)
        self.unsynced.add(path.parent)

    def sync_dir(self, path: Path) -> None:
        self.step()
        super().sync_dir(path)
        self.unsynced.discard(path)


class _CuttingFile(OsFile):
    def __init__(self, disk: CuttingDisk, path: Path, file: File) -> None:
        assert isinstance(file, OsFile)
        super().__init__(file._fd)
        self._disk, self._path = disk, path

    def pwrite(self, data: bytes, offset: int) -> None:
        self._disk.step()
        super().pwrite(data, offset)
        self._disk.unsynced.add(self._path)

    def allocate(self, size_bytes: int) -> None:
        self._disk.step()
        # Reserving the usual 64 MiB for every cut would be most of the test's time.
        super().allocate(min(size_bytes, SEGMENT_BYTES))
        self._disk.unsynced.add(self._path)

    def datasync(self) -> None:
        self._disk.step()
        super().datasync()
        self._disk.unsynced.discard(self._path)
