"""Where a node keeps what belongs to its links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from swarmpy.errors import invalid
from worker.network.link import names

_TASK_ID: Final = re.compile(r"[\w-][\w.-]*", re.ASCII)
VXLAN_PORT: Final = 4789


@dataclass(frozen=True, slots=True)
class Place:
    """What tells a node from others, also from those on the same machine.

    Args:
        key: 12 hexadecimal digits that follow from the state directory.
        data_address: where other nodes send this one's tunnelled packets.
        vxlan_port: UDP port of the tunnels, the same on all nodes of a cluster.
    """

    state_dir: Path
    key: str
    data_address: IPv4Address
    vxlan_port: int = VXLAN_PORT

    @property
    def pins(self) -> Path:
        return self.state_dir / "run" / "netns"

    @property
    def fabric(self) -> Path:
        return self.pins / names.FABRIC

    @property
    def wiring(self) -> Path:
        """Where it is kept how tasks are joined; there is none before the first was, in this boot of the machine."""
        return self.state_dir / "run" / "wiring"

    @property
    def gateway_record(self) -> Path:
        return self.state_dir / "network" / "gateway.json"

    @property
    def leases(self) -> Path:
        return self.state_dir / "run" / "addresses"

    def namespace(self, task_id: str) -> Path:
        """Return where a task's namespace is pinned.

        Raises:
            SwarmError: INVALID_ARGUMENT, the id cannot be a file's name, or is the fabric's.
        """
        if not _TASK_ID.fullmatch(task_id) or task_id == names.FABRIC:
            raise invalid(f"{task_id!r} is not the id of a task")
        return self.pins / task_id
