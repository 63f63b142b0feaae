"""The seccomp profile of a container in the runtime's words: what is allowed, and what some calls may ask for. Pure."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from worker.oci.syscalls import ALWAYS, BY_ARCHITECTURE, BY_CAPABILITY

_ALLOW: Final = "SCMP_ACT_ALLOW"
_REFUSE: Final = "SCMP_ACT_ERRNO"
_ADMIN: Final = "CAP_SYS_ADMIN"
_ARCHITECTURES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
        "arm64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
        "ppc64le": ("SCMP_ARCH_PPC64LE",),
        "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
        "riscv64": ("SCMP_ARCH_RISCV64",),
    }
)
_AF_VSOCK: Final = 40
_PERSONALITIES: Final = (0x0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""Linux, 32-bit addresses, uname 2.6, both, and the question which one it is."""

_CLONE_NAMESPACES: Final = 0x7E020000
"""Every CLONE_NEW* flag but CLONE_NEWTIME, which clone cannot be given."""


@cache
def profile(arch: str, capabilities: frozenset[str]) -> Mapping[str, Any] | None:
    """Return the profile; None for an architecture that there is no table for. The result is shared: do not change it.

    Args:
        arch: as in `uname -m`, `arm64` for aarch64.
        capabilities: those that the container holds.
    """
    if arch not in _ARCHITECTURES:
        return None
    named = {*ALWAYS, *BY_ARCHITECTURE.get(arch, ())}
    for capability in capabilities:
        named.update(BY_CAPABILITY.get(capability, ()))
    rules = [_rule(sorted(named))]
    # Virtual machine sockets reach the hypervisor past every network namespace.
    rules.append(_rule(["socket"], _argument(0, _AF_VSOCK, "SCMP_CMP_NE")))
    rules += [_rule(["personality"], _argument(0, value, "SCMP_CMP_EQ")) for value in _PERSONALITIES]
    if _ADMIN not in capabilities:
        flags_at = 1 if arch == "s390x" else 0
        rules.append(_rule(["clone"], _argument(flags_at, _CLONE_NAMESPACES, "SCMP_CMP_MASKED_EQ")))
        # The flags of clone3 are behind a pointer; "no such call" has every C library fall back to clone.
        rules.append({"names": ["clone3"], "action": _REFUSE, "errnoRet": errno.ENOSYS})
    return {
        "defaultAction": _REFUSE,
        "defaultErrnoRet": errno.EPERM,
        "architectures": list(_ARCHITECTURES[arch]),
        "syscalls": rules,
    }


def _rule(names: list[str], *arguments: dict[str, object]) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": _ALLOW}
    if arguments:
        rule["args"] = list(arguments)
    return rule


def _argument(index: int, value: int, compare: str) -> dict[str, object]:
    if compare == "SCMP_CMP_MASKED_EQ":
        # `value` is the mask; what is left under it must be `valueTwo`.
        return {"index": index, "value": value, "valueTwo": 0, "op": compare}
    return {"index": index, "value": value, "op": compare}
