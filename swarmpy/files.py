"""Files that are whole or not there: written beside their place, synced, and renamed into it."""

from __future__ import annotations

import os
from pathlib import Path

from swarmpy.errors import Code, SwarmError


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = True) -> None:
    """Put `data` in `path` so that a crash leaves the old content or the new, never a part.

    Args:
        durable: whether it is to outlive a crash of the machine, too, which takes some milliseconds.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED or FAILED_PRECONDITION, the disk is full or refuses; nothing is changed.
    """
    scratch = path.with_name(path.name + ".new")
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode), "wb") as out:
            out.write(data)
            if durable:
                out.flush()
                os.fsync(out.fileno())
        scratch.replace(path)
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        full = error.errno in (28, 122)  # ENOSPC, EDQUOT
        code = Code.RESOURCE_EXHAUSTED if full else Code.FAILED_PRECONDITION
        raise SwarmError(code, f"cannot write {path}: {error.strerror}") from error


def sync_directory(directory: Path) -> None:
    """Make renames and removals in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
