"""The limits of a container in the runtime's words: CPU, memory, processes, ulimits, devices, sysctls. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

from swarmpy.model.spec import Resources, Ulimit
from worker.oci.facts import Abilities, Device

_CPU_PERIOD_US: Final = 100_000
_SMALLEST_QUOTA_US: Final = 1_000
_SHARES_PER_CPU: Final = 1_024
_FEWEST_SHARES: Final = 2
_UNLIMITED: Final = 2**64 - 1
_NANO: Final = 10**9
# zero, null, urandom, random, the controlling terminal and the console: harmless, and nothing runs without them.
_CHARACTER_DEVICES: Final = ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))
DEFAULT_SYSCTLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # As Docker has it: in a network namespace of its own a port below 1024 or a ping takes nothing from anybody.
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }
)


def resources(
    limits: Resources,
    reservations: Resources,
    abilities: Abilities,
    devices: Iterable[Device] = (),
    *,
    privileged: bool = False,
) -> dict[str, Any]:
    """Return `linux.resources`.

    A reservation is a weight: of the CPU where there is not enough for all, of the memory that is not taken back
    first. Swap is limited along with memory, for a limit that swaps is none.
    """
    wanted: dict[str, Any] = {"devices": _device_rules(devices, privileged=privileged)}
    cpu: dict[str, int] = {}
    if limits.nano_cpus:
        cpu["period"] = _CPU_PERIOD_US
        cpu["quota"] = max(_SMALLEST_QUOTA_US, limits.nano_cpus * _CPU_PERIOD_US // _NANO)
    if reservations.nano_cpus:
        cpu["shares"] = max(_FEWEST_SHARES, reservations.nano_cpus * _SHARES_PER_CPU // _NANO)
    memory: dict[str, int] = {}
    if limits.memory_bytes:
        memory["limit"] = limits.memory_bytes
        if abilities.swap_limit:
            memory["swap"] = limits.memory_bytes
    if reservations.memory_bytes:
        memory["reservation"] = reservations.memory_bytes
    if cpu:
        wanted["cpu"] = cpu
    if memory:
        wanted["memory"] = memory
    if limits.pids:
        wanted["pids"] = {"limit": limits.pids}
    return wanted


def _device_rules(devices: Iterable[Device], *, privileged: bool) -> list[dict[str, Any]]:
    if privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    rules += [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
        for major, minor in _CHARACTER_DEVICES
    ]
    rules += [{"allow": True, "type": d.kind, "major": d.major, "minor": d.minor, "access": d.access} for d in devices]
    return rules


def device_nodes(devices: Iterable[Device]) -> list[dict[str, Any]]:
    """Return `linux.devices`: the nodes that are made below /dev."""
    return [
        {
            "path": d.path,
            "type": d.kind,
            "major": d.major,
            "minor": d.minor,
            "fileMode": d.mode,
            "uid": d.uid,
            "gid": d.gid,
        }
        for d in devices
    ]


def rlimits(wanted: Iterable[Ulimit]) -> list[dict[str, Any]]:
    """Return `process.rlimits`; -1 is unlimited."""
    return [
        {"type": f"RLIMIT_{limit.name.upper()}", "soft": _amount(limit.soft), "hard": _amount(limit.hard)}
        for limit in wanted
    ]


def _amount(value: int) -> int:
    return _UNLIMITED if value < 0 else value
