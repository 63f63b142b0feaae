"""What this node is and can do: its description for the managers, found by asking the machine, with reasons."""

from __future__ import annotations

import os
import platform
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import psutil

from swarmpy import __version__
from swarmpy.model.node import Capability, NodeDescription, Platform
from swarmpy.model.spec import Resources

_CAP_NET_BIND_SERVICE: Final = 10
_CAP_SETGID: Final = 6
_CAP_SETUID: Final = 7
_FIRST_LOW_PORT: Final = 80
_ARCHITECTURES: Final = MappingProxyType({"aarch64": "arm64", "amd64": "x86_64"})
_NANO: Final = 10**9
_NO_CONTAINERS: Final = "this worker runs process tasks only"
_NO_NETWORKS: Final = "this worker joins no tasks to networks"


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found out about the machine. `missing` says why a capability is not there."""

    hostname: str
    platform: Platform
    resources: Resources
    capabilities: frozenset[Capability]
    missing: Mapping[Capability, str]

    @property
    def may_switch_user(self) -> bool:
        return Capability.SWITCH_USER in self.capabilities

    def describe(self, *, data_plane: str = "", labels: Mapping[str, str] | None = None) -> NodeDescription:
        """Return the node's description.

        Args:
            data_plane: why there is no data plane on this node; empty if there is one.
            labels: the engine labels that the node was given.
        """
        capabilities = set(self.capabilities)
        if not data_plane:
            capabilities.add(Capability.DATA_PLANE)
        return NodeDescription(
            hostname=self.hostname,
            platform=self.platform,
            resources=self.resources,
            engine_labels=dict(labels or {}),
            engine_version=__version__,
            capabilities=tuple(sorted(c.value for c in capabilities)),
        )


def find_out(
    limits: Mapping[Capability, str],
    *,
    containers: str = _NO_CONTAINERS,
    networks: str = _NO_NETWORKS,
    proc: Path = Path("/proc"),
) -> Machine:
    """Ask the machine what it has.

    Args:
        limits: the limits that cannot be enforced, each with its reason (`Cgroups.missing`).
        containers: why this node runs no containers (`worker.containerd.runtime.Runtime.missing`), empty if it does.
        networks: why it cannot join tasks to networks (`worker.network.link.ability.why_unsupported`), empty if it can.
        proc: where procfs is mounted.
    """
    missing = dict(limits)
    if containers:
        missing[Capability.CONTAINER] = containers
    if networks:
        missing[Capability.NETWORK] = networks
    effective = capability_bits((proc / "self/status").read_text())
    if not (effective >> _CAP_SETUID & 1 and effective >> _CAP_SETGID & 1):
        missing[Capability.SWITCH_USER] = "swarmpyd does not run as root, so tasks run as its own user"
    first_port = int((proc / "sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if first_port > _FIRST_LOW_PORT and not effective >> _CAP_NET_BIND_SERVICE & 1:
        missing[Capability.LOW_PORTS] = f"swarmpyd does not run as root, so ports below {first_port} cannot be bound"
    present = frozenset(Capability) - missing.keys() - {Capability.DATA_PLANE}
    machine = platform.machine()
    return Machine(
        hostname=socket.gethostname(),
        platform=Platform(os=platform.system().lower(), arch=_ARCHITECTURES.get(machine, machine)),
        resources=Resources(
            nano_cpus=len(os.sched_getaffinity(0)) * _NANO, memory_bytes=int(psutil.virtual_memory().total)
        ),
        capabilities=present,
        missing=MappingProxyType(missing),
    )


def capability_bits(status: str) -> int:
    """Return the effective capabilities in the text of `/proc/<pid>/status`; 0 if it has none."""
    match = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(match[1], 16) if match else 0
