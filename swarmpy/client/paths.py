"""Where a node keeps its state and its sockets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

STATE_DIR_VARIABLE: Final = "SWARMPY_STATE_DIR"
ROOT_STATE_DIR: Final = Path("/var/lib/swarmpy")


@dataclass(frozen=True)
class Sockets:
    """The two sockets that a client talks to."""

    control: Path
    node: Path


def state_dir(given: Path | None, environ: Mapping[str, str], *, uid: int | None = None) -> Path:
    """Return the state directory: as given, else of the environment, else the user's own.

    Args:
        given: the value of `--state-dir`.
        environ: where `SWARMPY_STATE_DIR` is looked up.
        uid: the user's id; None asks the system.
    """
    if given is not None:
        return given.absolute()
    if configured := environ.get(STATE_DIR_VARIABLE):
        return Path(configured).absolute()
    if (os.geteuid() if uid is None else uid) == 0:
        return ROOT_STATE_DIR
    import platformdirs  # costs milliseconds that root's commands need not pay

    return Path(platformdirs.user_data_dir("swarmpy", appauthor=False))


def sockets(state: Path) -> Sockets:
    """Return the sockets below a state directory."""
    return Sockets(control=state / "run" / "control.sock", node=state / "run" / "node.sock")
