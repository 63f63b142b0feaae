"""A disk in memory that forgets what was not synced, runs full, fails, and stops the world at any operation."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from manager.raft.log.disk import File

SECTOR: Final = 512


class Crash(BaseException):
    """The process is gone; not an Exception, so that nothing under test can catch it."""


@dataclass
class _Inode:
    """A file's bytes: what is safe, what a reader sees, and the steps between (offset, data; or None, new size)."""

    durable: bytearray = field(default_factory=bytearray)
    current: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int | None, bytes | int]] = field(default_factory=list)


@dataclass
class _Directory:
    """Names: what is safe, what a reader sees, and the steps between (name, inode or None, name it had before)."""

    durable: dict[str, _Inode] = field(default_factory=dict)
    current: dict[str, _Inode] = field(default_factory=dict)
    pending: list[tuple[str, _Inode | None, str | None]] = field(default_factory=list)


class FakeDisk:
    """A `manager.raft.log.disk.Disk`.

    Args:
        capacity_bytes: when all files together would be larger, ENOSPC.
    """

    def __init__(self, capacity_bytes: int | None = None) -> None:
        self.capacity_bytes = capacity_bytes
        self.operations = 0
        self.crash_at: int | None = None
        self.fault: Callable[[str, Path], int | None] = lambda _what, _path: None
        self.open_files = 0
        self._dirs: dict[Path, _Directory] = {}

    # Disk

    def make_dir(self, path: Path) -> None:
        self.fail("make_dir", path)
        self._dirs.setdefault(path, _Directory())

    def list_dir(self, path: Path) -> Sequence[str]:
        return sorted(self._dirs[path].current) if path in self._dirs else []

    def create(self, path: Path) -> File:
        inode, directory = _Inode(), self._dirs[path.parent]
        directory.current[path.name] = inode
        directory.pending.append((path.name, inode, None))
        self.step("create", path)
        return _FakeFile(self, path, inode)

    def open(self, path: Path) -> File:
        return _FakeFile(self, path, self._inode(path))

    def rename(self, old: Path, new: Path) -> None:
        self.fail("rename", new)  # one that fails has done nothing
        inode, directory = self._inode(old), self._dirs[old.parent]
        del directory.current[old.name]
        directory.current[new.name] = inode
        directory.pending.append((new.name, inode, old.name))
        self.step("rename", new)

    def unlink(self, path: Path) -> None:
        self._inode(path)
        directory = self._dirs[path.parent]
        del directory.current[path.name]
        directory.pending.append((path.name, None, None))
        self.step("unlink", path)

    def sync_dir(self, path: Path) -> None:
        self.step("sync_dir", path)
        directory = self._dirs[path]
        directory.durable = dict(directory.current)
        directory.pending.clear()

    # For tests

    @property
    def used_bytes(self) -> int:
        return sum(len(inode.current) for d in self._dirs.values() for inode in d.current.values())

    def step(self, what: str, path: Path) -> None:
        """Count an operation; crash or fail if that is its fate. What it did so far is there, but not safe."""
        self.operations += 1
        if self.crash_at is not None and self.operations >= self.crash_at:
            raise Crash(f"at operation {self.operations}: {what} {path}")
        self.fail(what, path)

    def fail(self, what: str, path: Path) -> None:
        """Fail if that is the fate of an operation; it is not counted, so no crash falls on it."""
        number = self.fault(what, path)
        if number is not None:
            raise OSError(number, os.strerror(number), str(path))

    def read(self, path: Path) -> bytes:
        return bytes(self._inode(path).current)

    def write(self, path: Path, data: bytes) -> None:
        """Put other bytes in a file's place, behind the back of whoever uses it."""
        inode = self._inode(path)
        inode.current, inode.durable, inode.pending = bytearray(data), bytearray(data), []

    def files(self, path: Path) -> list[Path]:
        return [path / name for name in self.list_dir(path)]

    def after_kill(self) -> FakeDisk:
        """Return the disk as the next process sees it: the kernel still holds all that was written."""
        return self._copy(lambda inode: inode, lambda directory: directory)

    def after_power_loss(self, rng: random.Random) -> FakeDisk:
        """Return the disk as the next boot sees it: of what was not synced, any part may be there."""
        mode = rng.choice(("nothing", "everything", "some", "some", "garbled"))

        def torn(inode: _Inode) -> _Inode:
            data = bytearray(inode.durable)
            for at, what in inode.pending:
                _tear(data, at, what, mode, rng)
            return _Inode(bytearray(data), data)

        def names(directory: _Directory) -> _Directory:
            kept = dict(directory.durable)
            for name, inode, before in directory.pending:
                if mode == "everything" or (mode != "nothing" and rng.random() < 0.5):
                    kept.pop(before or name, None)
                    if inode is not None:
                        kept[name] = inode
            return _Directory(dict(kept), kept)

        return self._copy(torn, names)

    def _copy(self, of_inode: Callable[[_Inode], _Inode], of_directory: Callable[[_Directory], _Directory]) -> FakeDisk:
        disk, made = FakeDisk(self.capacity_bytes), dict[int, _Inode]()

        def inode(old: _Inode) -> _Inode:
            if id(old) not in made:
                new = of_inode(old)
                made[id(old)] = _Inode(bytearray(new.durable), bytearray(new.current), list(new.pending))
            return made[id(old)]

        for path, old in self._dirs.items():
            new = of_directory(old)
            disk._dirs[path] = _Directory(
                {name: inode(i) for name, i in new.durable.items()},
                {name: inode(i) for name, i in new.current.items()},
                [(name, i and inode(i), before) for name, i, before in new.pending],
            )
        return disk

    def _inode(self, path: Path) -> _Inode:
        try:
            return self._dirs[path.parent].current[path.name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None


class _FakeFile:
    """An open file of a FakeDisk."""

    def __init__(self, disk: FakeDisk, path: Path, inode: _Inode) -> None:
        self._disk, self._path, self._inode = disk, path, inode
        disk.open_files += 1

    def size(self) -> int:
        return len(self._inode.current)

    def pread(self, size_bytes: int, offset: int) -> bytes:
        return bytes(self._inode.current[offset : offset + size_bytes])

    def pwrite(self, data: bytes, offset: int) -> None:
        self._grow(offset + len(data))
        self._inode.current[offset : offset + len(data)] = data
        self._inode.pending.append((offset, bytes(data)))
        self._disk.step("pwrite", self._path)

    def allocate(self, size_bytes: int) -> None:
        self._grow(size_bytes)
        self._inode.pending.append((None, size_bytes))
        self._disk.step("allocate", self._path)

    def datasync(self) -> None:
        self._disk.step("datasync", self._path)
        self._inode.durable = bytearray(self._inode.current)
        self._inode.pending.clear()

    def close(self) -> None:
        self._disk.open_files -= 1  # as with a descriptor, which is gone whatever close() says
        self._disk.fail("close", self._path)

    def _grow(self, size_bytes: int) -> None:
        more = size_bytes - len(self._inode.current)
        if more <= 0:
            return
        capacity = self._disk.capacity_bytes
        if capacity is not None and self._disk.used_bytes + more > capacity:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        self._inode.current.extend(bytes(more))


def _tear(data: bytearray, at: int | None, what: bytes | int, mode: str, rng: random.Random) -> None:
    """Let a part of one unsynced step reach the platter, sector by sector."""
    if isinstance(what, int):
        if mode == "everything" or (mode != "nothing" and rng.random() < 0.5):
            data.extend(bytes(max(0, what - len(data))))
        return
    assert at is not None
    for start in range(0, len(what), SECTOR):
        piece = what[start : start + SECTOR]
        if mode == "nothing" or (mode != "everything" and rng.random() < 0.4):
            continue
        if mode == "garbled" and rng.random() < 0.5:
            piece = piece[: rng.randrange(len(piece) + 1)] + rng.randbytes(len(piece))
            piece = piece[: len(what[start : start + SECTOR])]
        data.extend(bytes(max(0, at + start + len(piece) - len(data))))
        data[at + start : at + start + len(piece)] = piece
