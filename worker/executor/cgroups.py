"""Which cgroup hierarchy holds which controller: version 1, 2 or both side by side. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from swarmpy.model.node import Capability
from swarmpy.model.spec import Resources

CONTROLLER: Final[Mapping[Capability, str]] = MappingProxyType(
    {Capability.LIMIT_MEMORY: "memory", Capability.LIMIT_CPU: "cpu", Capability.LIMIT_PIDS: "pids"}
)
_CPU_PERIOD_US: Final = 100_000
_SMALLEST_QUOTA_US: Final = 1_000


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where a controller is mounted, and which version of the interface it has there (1 or 2)."""

    mount: Path
    version: int


@dataclass(frozen=True, slots=True)
class Setting:
    """One file of a group and what to write; `optional` ones may be missing on this kernel."""

    controller: str
    file: str
    value: str
    optional: bool = False


def hierarchies(mountinfo: str, v2_controllers: Callable[[Path], str]) -> dict[str, Hierarchy]:
    """Return the hierarchy of each controller that swarmpy uses.

    Args:
        mountinfo: text of `/proc/self/mountinfo`.
        v2_controllers: returns the text of `cgroup.controllers` of a version 2 mount.
    """
    found: dict[str, Hierarchy] = {}
    wanted = set(CONTROLLER.values())
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        kind, _, options = tail.split(" ", 2) if tail.count(" ") >= 2 else ("", "", "")
        words = head.split()
        if kind not in ("cgroup", "cgroup2") or len(words) < 5:
            continue
        mount = Path(words[4].replace("\\040", " "))
        version = 1 if kind == "cgroup" else 2
        names = options.split(",") if version == 1 else v2_controllers(mount).split()
        for name in wanted.intersection(names):
            found.setdefault(name, Hierarchy(mount, version))
    return found


def mounts(mountinfo: str) -> tuple[Path, ...]:
    """Return where cgroup hierarchies of either version are mounted, each once; text as in `hierarchies`."""
    found = []
    for line in mountinfo.splitlines():
        head, _, tail = line.partition(" - ")
        words = head.split()
        if tail.split(" ", 1)[0] in ("cgroup", "cgroup2") and len(words) >= 5:
            found.append(Path(words[4].replace("\\040", " ")))
    return tuple(dict.fromkeys(found))


def settings(limits: Resources, at: Mapping[str, Hierarchy]) -> list[Setting]:
    """Return what to write for `limits`, in the order in which the kernel accepts it.

    Swap is limited along with memory, for a limit that swaps is none.
    """
    wanted: list[Setting] = []
    if limits.memory_bytes:
        wanted += _memory(limits.memory_bytes, at["memory"].version)
    if limits.nano_cpus:
        quota_us = max(_SMALLEST_QUOTA_US, limits.nano_cpus * _CPU_PERIOD_US // 10**9)
        if at["cpu"].version == 2:
            wanted.append(Setting("cpu", "cpu.max", f"{quota_us} {_CPU_PERIOD_US}"))
        else:
            wanted.append(Setting("cpu", "cpu.cfs_period_us", str(_CPU_PERIOD_US)))
            wanted.append(Setting("cpu", "cpu.cfs_quota_us", str(quota_us)))
    if limits.pids:
        wanted.append(Setting("pids", "pids.max", str(limits.pids)))
    return wanted


def _memory(size_bytes: int, version: int) -> list[Setting]:
    text = str(size_bytes)
    if version == 2:
        return [
            Setting("memory", "memory.max", text),
            Setting("memory", "memory.swap.max", "0", optional=True),
        ]
    return [
        Setting("memory", "memory.limit_in_bytes", text),
        Setting("memory", "memory.memsw.limit_in_bytes", text, optional=True),
    ]


def limited(limits: Resources) -> tuple[Capability, ...]:
    """Return the capabilities that `limits` asks for."""
    asked = (
        (limits.memory_bytes, Capability.LIMIT_MEMORY),
        (limits.nano_cpus, Capability.LIMIT_CPU),
        (limits.pids, Capability.LIMIT_PIDS),
    )
    return tuple(capability for amount, capability in asked if amount)


def oom_kills(text: str) -> int:
    """Return the count in `memory.oom_control` (version 1) or `memory.events` (version 2)."""
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == "oom_kill" and value.strip().isdigit():
            return int(value)
    return 0


def groups_of(settings_wanted: Iterable[Setting]) -> tuple[str, ...]:
    """Return the controllers that a group must be made in, each once."""
    return tuple(dict.fromkeys(s.controller for s in settings_wanted))
