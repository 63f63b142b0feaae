"""This node's identity as it is on disk now, so that a renewed certificate is taken up without a restart."""

from __future__ import annotations

from pathlib import Path

from swarmpy.errors import SwarmError
from swarmpy.security.identity import FILE, Identity, identity_directory, load


class LiveIdentity:
    """Reads the identity again when its file has changed. May be asked from any thread.

    Args:
        first: the identity that was read at the start; it stays the answer while the file cannot be read.
    """

    def __init__(self, state_dir: Path, first: Identity) -> None:
        self._state_dir, self._path = state_dir, identity_directory(state_dir) / FILE
        self._seen: tuple[object, Identity] = (None, first)

    def current(self) -> Identity:
        """Return the identity; the same object while it has not changed."""
        stamp, identity = self._seen
        try:
            found = self._path.stat()
            present = (found.st_ino, found.st_mtime_ns, found.st_size)
            if present == stamp:
                return identity
            renewed = load(self._state_dir)
        except (OSError, SwarmError):
            return identity  # its owner, the worker, says what is wrong with it; what was read last is good still
        if renewed is None or renewed.node_id != identity.node_id:
            return identity
        if renewed != identity:
            identity = renewed
        self._seen = (present, identity)
        return identity
