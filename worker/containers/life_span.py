"""Whether the node itself has started anew: another boot of the machine, or another swarmpyd."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from swarmpy.daemon import proc
from swarmpy.errors import SwarmError
from swarmpy.files import write_atomic

_log = structlog.get_logger()


def is_new_life(path: Path, boot_id: str) -> bool:
    """Tell whether `path` was written in another life of the node, and write this one.

    A worker that is restarted by the same swarmpyd lives the same life; the first one of all begins none.
    """
    parent = os.getppid()
    stat = proc.read_stat(parent)
    life = f"{boot_id} {parent} {stat.start_time if stat is not None else 0}\n"
    try:
        before = path.read_text()
    except OSError:
        before = life
    if before != life or not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, life.encode())
        except SwarmError as error:
            _log.warning("life of the node not noted", error=error.message)
    return before != life
