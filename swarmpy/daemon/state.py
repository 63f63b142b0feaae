"""The state directory: made, locked, and its `node.json` read and written."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os

TYPE_CHECKING = False  # `typing` itself is not imported at run time: it costs memory here
if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = 1
LONGEST_SOCKET_PATH_BYTES = 107
RECORD_BYTES = 4096
_LONGEST_SOCKET_NAME = "run/supervisor.sock"


class Unusable(Exception):  # noqa: N818 - it says what the directory is
    """The node cannot start from here; the sentence says why and what to do."""


class StateDirectory:
    """A locked state directory. `node` is `node.json`; change it by `write_node` only."""

    def __init__(self, path: str, lock_fd: int, node: dict[str, object]) -> None:
        self.path = path
        self.node = node
        self._lock_fd = lock_fd

    def run(self, name: str) -> str:
        """Return the path of a socket or record of this run of the machine."""
        return os.path.join(self.path, "run", name)

    def write_node(self, node: Mapping[str, object]) -> None:
        """Replace `node.json`, on disk when this returns."""
        write_atomically(os.path.join(self.path, "node.json"), json.dumps(node).encode() + b"\n", sync=True)
        self.node = dict(node)

    def forget_run(self) -> None:
        """Remove what another boot of the machine left in `run/`: its pids and sockets mean nothing now."""
        for name in os.listdir(os.path.join(self.path, "run")):
            with contextlib.suppress(OSError):
                os.unlink(self.run(name))

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._lock_fd)


def open_state(path: str) -> StateDirectory:
    """Make the directory if it is missing (mode 0700), lock it, and read its `node.json`.

    Raises:
        Unusable: it cannot be made, written, locked, or is of another format.
    """
    path = os.path.abspath(path)
    longest = len(os.fsencode(os.path.join(path, _LONGEST_SOCKET_NAME)))
    if longest > LONGEST_SOCKET_PATH_BYTES:
        room = LONGEST_SOCKET_PATH_BYTES - len(_LONGEST_SOCKET_NAME) - 1
        raise Unusable(
            f"the path of the state directory {path} is too long for UNIX sockets: give one of at most {room} bytes"
        )
    try:
        # As root tasks may be other users, and have to pass through to their own folders.
        os.makedirs(path, mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        os.makedirs(os.path.join(path, "run"), mode=0o750, exist_ok=True)
        lock_fd = _lock(path)
    except OSError as error:
        raise Unusable(f"cannot use the state directory {path}: {(error.strerror or str(error)).lower()}") from error
    try:
        return StateDirectory(path, lock_fd, _read_node(os.path.join(path, "node.json")))
    except Unusable:
        os.close(lock_fd)
        raise


def _lock(path: str) -> int:
    fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise Unusable(f"the state directory {path} is in use by another swarmpyd, pid {holder}") from error
    # Never shortened: on a full disk what is given back may be gone before it is wanted again.
    os.pwrite(fd, b"%-11d\n" % os.getpid(), 0)
    return fd


def _read_node(path: str) -> dict[str, object]:
    try:
        with open(path, encoding="utf-8") as file:
            node = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot read {path}: {error}; restore it or remove it") from error
    version = node.get("version") if isinstance(node, dict) else None
    if version != VERSION:
        raise Unusable(f"{path} has format version {version!r}, and this swarmpyd reads version {VERSION} only")
    return dict(node)


def write_atomically(path: str, content: bytes, *, sync: bool) -> None:
    """Put `content` in place of the file at `path`: whole, or not at all.

    Raises:
        OSError: it could not be written; the old file is as it was.
    """
    draft = path + ".new"
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        written = os.write(fd, content)
        if written != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        if sync:
            os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(draft, path)
    if sync:
        sync_directory(os.path.dirname(path))


def write_in_place(path: str, content: bytes) -> None:
    """Put `content`, padded with blanks to 4 KiB at least, over the file at `path`; needs no space once that is there.

    For what means nothing after a crash of the machine, which may leave a mixture.

    Raises:
        OSError: it could not be written.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        padded = content.ljust(max(RECORD_BYTES, os.fstat(fd).st_size))
        if os.pwrite(fd, padded, 0) != len(padded):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)


def sync_directory(path: str) -> None:
    """Make renames and new files in `path` last."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
