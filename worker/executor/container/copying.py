"""Copies a tree with owners, modes, times, links and attributes, for volumes that begin as a directory of the image."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from swarmpy.errors import Code, SwarmError

_PIECE_BYTES: Final = 1024 * 1024
_ENTRY: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def copy_into(source: str, target: int) -> None:
    """Copy what is in the directory `source` into the directory open as `target`; of a missing one there is nothing.

    Devices and FIFOs are left out: a volume holds data.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, there is no space.
        OSError: it cannot be copied for another reason.
    """
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        _Copy().directory(descriptor, target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            sentence = f"there is no space to fill a volume with {source} of the image; free some"
            raise SwarmError(Code.RESOURCE_EXHAUSTED, sentence) from error
        raise
    finally:
        os.close(descriptor)


class _Copy:
    """One copy: remembers files of several names, so that they stay one file."""

    def __init__(self) -> None:
        self._root: int | None = None
        self._made: dict[tuple[int, int], str] = {}

    def directory(self, source: int, target: int, path: str = "") -> None:
        if self._root is None:
            self._root = target
        for name in os.listdir(source):
            self._entry(source, target, name, f"{path}{name}")
        _mark(source, target)

    def _entry(self, source: int, target: int, name: str, path: str) -> None:
        about = os.lstat(name, dir_fd=source)
        if stat.S_ISLNK(about.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
            os.chown(name, about.st_uid, about.st_gid, dir_fd=target, follow_symlinks=False)
        elif stat.S_ISDIR(about.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            self._both(source, target, name, f"{path}/", os.O_RDONLY | os.O_DIRECTORY)
        elif stat.S_ISREG(about.st_mode):
            known = self._made.get((about.st_dev, about.st_ino))
            if known is not None:
                os.link(known, name, src_dir_fd=self._root, dst_dir_fd=target)
                return
            if about.st_nlink > 1:
                self._made[about.st_dev, about.st_ino] = path
            self._both(source, target, name, "", os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def _both(self, source: int, target: int, name: str, below: str, how: int) -> None:
        """Open an entry on both sides and copy it; `below` is a directory's path, empty for a file."""
        old = os.open(name, _ENTRY, dir_fd=source)
        try:
            new = os.open(name, how | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target)
            try:
                if below:
                    self.directory(old, new, below)
                else:
                    _data(old, new)
                    _mark(old, new)
            finally:
                os.close(new)
        finally:
            os.close(old)


def _data(old: int, new: int) -> None:
    while piece := os.read(old, _PIECE_BYTES):
        view = memoryview(piece)
        while view:
            view = view[os.write(new, view) :]


def _mark(old: int, new: int) -> None:
    """Give `new` the owner, mode, attributes and times of `old`, in the order in which each keeps the others."""
    about = os.fstat(old)
    os.fchown(new, about.st_uid, about.st_gid)
    os.fchmod(new, stat.S_IMODE(about.st_mode))
    for name in os.listxattr(old):
        try:
            os.setxattr(new, name, os.getxattr(old, name))
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM):
                raise
    os.utime(new, ns=(about.st_atime_ns, about.st_mtime_ns))
