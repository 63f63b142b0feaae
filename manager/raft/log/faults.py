"""What can go wrong with the log, in words: damage, a newer format, a full disk, a disk that fails."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError, precondition

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
WAY_OUT: Final = (
    "with other managers up, run `swarmpy swarm leave --force` on this node and join again;"
    " if it is the only manager, restore a snapshot"
)


class LogFailedError(SwarmError):
    """A write or a sync failed, so nobody knows what is on the disk: the manager must stop, never try again."""

    def __init__(self, path: Path, what: str, cause: OSError) -> None:
        super().__init__(
            Code.INTERNAL,
            f"{what} {path} failed ({cause.strerror or cause}): the manager stops so that nothing is lost;"
            " check the disk and the kernel's log, then start it again",
            retryable=False,
        )


def damaged(path: Path, offset: int, what: str) -> SwarmError:
    """Return the error for a file that holds what was never written so."""
    return SwarmError(
        Code.CORRUPT,
        f"{path} is damaged at byte {offset}: {what}; nothing was changed. What to do: {WAY_OUT}",
    )


def locked(path: Path, reason: str) -> SwarmError:
    """Return the error for contents whose key is wrong or missing; `reason` goes on after "is"."""
    return precondition(
        f"{path} is {reason}; nothing was changed. Put back the key file that belongs to it. If it is lost: {WAY_OUT}"
    )


def out_of_order(path: Path, what: str) -> SwarmError:
    """Return the error for an append that would break the log, which is refused before anything is written."""
    return SwarmError(Code.INTERNAL, f"the log in {path} refuses {what}: a fault in swarmpy, please report it")


def newer_format(path: Path, found: int, known: int) -> SwarmError:
    """Return the error for a file that a later version of swarmpy wrote."""
    return SwarmError(
        Code.FAILED_PRECONDITION,
        f"{path} has format version {found}, written by a newer swarmpy; this one reads up to version {known}:"
        " start the newer version again",
    )


def unknown_codec(path: Path, codec: int) -> SwarmError:
    """Return the error for contents that are encoded (encrypted, say) in a way this version does not know."""
    return SwarmError(
        Code.FAILED_PRECONDITION,
        f"{path} is written with codec {codec}, which this swarmpy does not know: start the version that wrote it",
    )


def is_full(error: OSError) -> bool:
    """Return whether `error` says that there is no space left (disk or quota)."""
    return error.errno in _FULL


def disk_full(directory: Path, needed_bytes: int) -> SwarmError:
    """Return the error for a write that is refused for want of space; nothing was written."""
    return SwarmError(
        Code.RESOURCE_EXHAUSTED,
        f"disk full on {directory}: {needed_bytes} more bytes are needed for the log; writes are refused and reads"
        " are served until space is freed, and no restart is needed then",
        retryable=True,
    )
