"""Network namespaces that outlive who made them: pinned to files, entered by threads that end there.

The worker serves gRPC on many threads, so it neither forks nor moves a thread that is used again: a thread that has
entered another namespace does one thing there and ends. Sockets stay in the namespace in which they were opened.
"""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeVar

from swarmpy.errors import Code, SwarmError, not_found

T = TypeVar("T")

_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 4096
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_NSFS_MAGIC: Final = 0x6E736673
_OWN: Final = Path("/proc/thread-self/ns/net")


def pin(path: Path) -> None:
    """Make a namespace that lives as long as `path` is there; one that is pinned there already stays.

    Raises:
        SwarmError: PERMISSION_DENIED without CAP_SYS_ADMIN; FAILED_PRECONDITION, the kernel or the directory refuses.
    """
    if is_pinned(path):
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        _in_thread(lambda: _unshare_and_bind(path))
    except OSError as error:
        raise _refused("make a network namespace", path, error) from error


def unpin(path: Path) -> None:
    """Let go of a namespace: it ends with the last process and socket in it. One that is not there is gone already.

    Raises:
        SwarmError: PERMISSION_DENIED without CAP_SYS_ADMIN; FAILED_PRECONDITION, the file cannot be removed.
    """
    try:
        # More than one mount on one file is what two workers of one state directory would leave.
        while is_pinned(path):
            _check(_libc().umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW))
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _refused("let go of the network namespace", path, error) from error


def is_pinned(path: Path) -> bool:
    """Tell whether a namespace is pinned at `path`, and not just the file for one (a worker killed half way)."""
    status = _Statfs()
    if _libc().statfs(os.fsencode(path), ctypes.byref(status)) != 0:
        return False
    return int(status.kind) == _NSFS_MAGIC


def pinned(directory: Path) -> frozenset[str]:
    """Return the names of all pins in `directory`, of half-made ones, too."""
    try:
        return frozenset(entry.name for entry in directory.iterdir())
    except FileNotFoundError:
        return frozenset()


def same(one: Path, other: Path = _OWN) -> bool:
    """Tell whether two paths lead to the same namespace."""
    try:
        return one.stat().st_ino == other.stat().st_ino
    except FileNotFoundError:
        return False


def open_in(path: Path | None, make: Callable[[], T]) -> T:
    """Call `make` in a throwaway thread that has entered the namespace pinned at `path`; return what it returns.

    A socket opened there stays in that namespace, whoever uses it. `None` is the caller's own namespace, and no
    thread. What `make` raises is raised here.

    Raises:
        SwarmError: NOT_FOUND, no namespace is pinned at `path`; PERMISSION_DENIED without CAP_SYS_ADMIN.
    """
    if path is None:
        return make()

    def enter_and_make() -> T:
        _enter(path)
        return make()

    return _in_thread(enter_and_make)


def visit(paths: Iterable[Path], make: Callable[[], T]) -> list[T | SwarmError]:
    """Call `make` in each of several namespaces, all in one throwaway thread; return what it returns in each.

    In the place of what cannot be entered, or where `make` raises a SwarmError, is the error.
    """

    def enter_and_make(path: Path) -> T | SwarmError:
        try:
            _enter(path)
            return make()
        except SwarmError as error:
            return error

    return _in_thread(lambda: [enter_and_make(path) for path in paths])


def _enter(path: Path) -> None:
    """Move the calling thread, which is to end soon, to the namespace pinned at `path`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc().setns(descriptor, _CLONE_NEWNET))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            raise not_found(f"no network namespace is pinned at {path}") from error
        raise _refused("enter the network namespace", path, error) from error


def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own and return or raise what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="netns")
    thread.start()
    thread.join()
    if errors:
        raise errors.pop()
    return results.pop()


def _unshare_and_bind(path: Path) -> None:
    _check(_libc().unshare(_CLONE_NEWNET))
    _check(_libc().mount(os.fsencode(_OWN), os.fsencode(path), b"none", _MS_BIND, None))


class _Statfs(ctypes.Structure):
    """The first field of `struct statfs`, and room for the others."""

    _fields_ = (("kind", ctypes.c_long), ("rest", ctypes.c_char * 248))


def _libc() -> ctypes.CDLL:
    # dlopen counts references: this finds the library that is loaded already.
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _refused(doing: str, path: Path, error: OSError) -> SwarmError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return SwarmError(
            Code.PERMISSION_DENIED, f"cannot {doing} at {path}: {error.strerror}; it needs root (CAP_SYS_ADMIN)"
        )
    return SwarmError(Code.FAILED_PRECONDITION, f"cannot {doing} at {path}: {error.strerror}")
