"""What the worker is given about its place: directories, addresses, boot."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from swarmpy.daemon import proc
from swarmpy.model import features

HOSTNAME_VARIABLE = "SWARMPY_HOSTNAME"


@dataclass(frozen=True)
class Place:
    """Where this node lives. `addr` is its own address, `data_addr` the one that its tasks and ports are reached at."""

    state_dir: Path
    addr: str
    data_addr: str
    hostname: str
    boot_id: str
    feature_level: int = features.LEVEL

    @property
    def node_socket(self) -> Path:
        return self.state_dir / "run" / "node.sock"

    @property
    def control_socket(self) -> Path:
        return self.state_dir / "run" / "control.sock"


def find_place(state_dir: Path, addr: str, data_addr: str) -> Place:
    """Return this process's place. SWARMPY_HOSTNAME names the node where several share a machine."""
    hostname = os.environ.get(HOSTNAME_VARIABLE) or socket.gethostname()
    return Place(state_dir, addr, data_addr, hostname, proc.boot_id(), features.level_of(os.environ))
