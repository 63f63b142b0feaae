"""Network namespaces of tasks, as this process needs them: to tell them apart, and to open sockets in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from worker.network.link import namespace

T = TypeVar("T")


class PinnedNamespaces:
    """Those that the worker has pinned to files."""

    def identity(self, path: Path) -> int | None:
        """Return the inode of the namespace pinned at `path`; None if none is."""
        if not namespace.is_pinned(path):
            return None
        try:
            return path.stat().st_ino
        except FileNotFoundError:
            return None

    def open_in(self, path: Path, make: Callable[[], T]) -> T:
        """Return what `make` makes in the namespace pinned at `path`.

        Raises:
            SwarmError: NOT_FOUND, none is pinned there; PERMISSION_DENIED, this process is not root.
        """
        return namespace.open_in(path, make)
