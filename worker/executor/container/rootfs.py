"""Looks into the root file system of a container that does not run: its accounts, and what fills a new volume.

A thread of its own mounts it where nobody else sees it and goes to live in it. So a link in the image leads nowhere
but into the image, and nothing is left mounted, whenever the worker is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import posixpath
import stat
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from swarmpy.errors import Code, SwarmError
from worker.containerd.types import Mount
from worker.executor.container.copying import copy_into
from worker.oci.users import Accounts

_CLONE_NEWNS: Final = 0x00020000
_CLONE_FS: Final = 0x00000200
_MS_RDONLY: Final = 0x1
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_SLAVE: Final = 0x80000
_FLAGS: Final = {
    "ro": _MS_RDONLY,
    "rw": 0,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "noatime": 0x400,
    "bind": _MS_BIND,
    "rbind": _MS_BIND | _MS_REC,
    "relatime": 0x200000,
}
_MOST_DATA_BYTES: Final = 4095
_MOST_FILE_BYTES: Final = 4 * 1024 * 1024
_T = TypeVar("_T")
_libc = ctypes.CDLL(None, use_errno=True)


class Rootfs:
    """Reads root file systems; each look is a thread of its own."""

    def __init__(self, place: Path) -> None:
        """
        Args:
            place: an empty directory, made if missing, on which file systems are mounted out of everybody's sight.
        """
        self._place = place

    async def accounts(self, mounts: Sequence[Mount]) -> Accounts:
        """Return the texts of `/etc/passwd` and `/etc/group`; empty where there is no such file.

        Raises:
            SwarmError: INTERNAL, it cannot be mounted.
        """
        return await asyncio.to_thread(self._inside, mounts, read_accounts)

    async def copy(self, mounts: Sequence[Mount], source: str, target: Path) -> None:
        """Copy what is in directory `source` of the root file system into `target`, with owners, modes and times.

        Nothing is done if there is no such directory.

        Raises:
            SwarmError: INTERNAL, it cannot be mounted or copied; RESOURCE_EXHAUSTED, the disk is full.
        """
        into = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            await asyncio.to_thread(self._inside, mounts, lambda: copy_into(source, into))
        finally:
            os.close(into)

    async def within(self, mounts: Sequence[Mount], work: Callable[[], _T]) -> _T:
        """Return what `work` returns, called in a thread whose root directory is the root file system.

        It must load no module and ask for no account: both would be the image's.

        Raises:
            SwarmError: INTERNAL, it cannot be mounted, or `work` failed.
        """
        return await asyncio.to_thread(self._inside, mounts, work, writable=True)

    async def within_process(self, pid: int, work: Callable[[], _T]) -> _T:
        """Like `within`, in the root directory of a container's process as that sees it, volumes included.

        Raises:
            SwarmError: FAILED_PRECONDITION, the process has ended.
        """
        try:
            root = os.open(f"/proc/{pid}/root", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise SwarmError(Code.FAILED_PRECONDITION, "the container is not running any more") from error
        try:
            return await asyncio.to_thread(_in_thread, lambda: _live_in(root), work)
        finally:
            os.close(root)

    def _inside(self, mounts: Sequence[Mount], look: Callable[[], _T], *, writable: bool = False) -> _T:
        """Call `look` in a thread whose root directory is the root file system."""
        self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
        return _in_thread(lambda: self._move_in(mounts, writable=writable), look)

    def _move_in(self, mounts: Sequence[Mount], *, writable: bool) -> None:
        _check(_libc.unshare(_CLONE_NEWNS), "unshare")
        _mount("none", "/", "", _MS_REC | _MS_SLAVE, "")
        place = str(self._place.resolve())
        for mount in mounts:
            _mount_like_containerd(mount, place, writable=writable)
        os.chroot(place)
        os.chdir("/")


def _live_in(root: int) -> None:
    """Make an open directory the root of this thread alone."""
    _check(_libc.unshare(_CLONE_FS), "unshare")
    os.fchdir(root)
    os.chroot(".")
    os.chdir("/")


def _in_thread(move: Callable[[], None], look: Callable[[], _T]) -> _T:
    """Call both in a thread of their own: what it mounts, and its root, end with it."""
    done: list[_T] = []
    failed: list[OSError | SwarmError] = []

    def live() -> None:
        try:
            move()
            done.append(look())
        except (OSError, SwarmError) as error:
            failed.append(error)

    thread = threading.Thread(target=live, name="rootfs")
    thread.start()
    thread.join()
    if not failed:
        return done[0]
    if isinstance(failed[0], SwarmError):
        raise failed[0]
    raise SwarmError(Code.INTERNAL, f"cannot look into the image's root file system: {failed[0]}") from failed[0]


def _mount_like_containerd(mount: Mount, place: str, *, writable: bool) -> None:
    """Mount what a snapshotter describes in the words of containerd."""
    flags = 0
    data = []
    for option in mount.options:
        if option in _FLAGS:
            flags |= _FLAGS[option]
        else:
            data.append(option)
    if not writable and not flags & _MS_BIND:
        flags |= _MS_RDONLY
    text = ",".join(data)
    if len(text) > _MOST_DATA_BYTES:
        text = ",".join(_shortened(data))
    _mount(mount.source, place, mount.type, flags, text)


def _shortened(data: list[str]) -> list[str]:
    """Return an overlay's options with relative paths, having changed to the directory that its layers share.

    The kernel takes one page of options, which many layers outgrow.
    """
    paths = [p for o in data if o.startswith("lowerdir=") for p in o.removeprefix("lowerdir=").split(":")]
    if not paths:
        return data
    shared = posixpath.commonpath(paths)
    os.chdir(shared)
    short = ":".join(posixpath.relpath(path, shared) for path in paths)
    return [f"lowerdir={short}" if option.startswith("lowerdir=") else option for option in data]


def _mount(source: str, target: str, kind: str, flags: int, data: str) -> None:
    words = (os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(data))
    _check(_libc.mount(*words), f"mount {kind} on {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def read_accounts() -> Accounts:
    """Return the accounts of the root file system that this thread lives in."""
    return Accounts(_text("/etc/passwd"), _text("/etc/group"))


def _text(path: str) -> str:
    """Return a regular file's text; what an image has there instead is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(_MOST_FILE_BYTES).decode("utf-8", "replace")
