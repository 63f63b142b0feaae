"""What Linux has that a container's spec may name: capabilities, and settings that each container has of its own."""

from __future__ import annotations

from typing import Final

CAPABILITY_PREFIX: Final = "CAP_"
ALL: Final = "CAP_ALL"
_NAMES: Final = (
    *("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER"),
    *("SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE"),
    *("SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP"),
    *("MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF"),
    "CHECKPOINT_RESTORE",
)
CAPABILITIES: Final = tuple(f"{CAPABILITY_PREFIX}{name}" for name in _NAMES)
"""All capabilities, each at the index that is its bit in `CapBnd` of `/proc/<pid>/status`."""

SYSCTLS: Final = frozenset(
    {
        *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem"),
        *("kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"),
    }
)
"""Settings of the IPC namespace; every other one that a container may set begins with one of `SYSCTL_PREFIXES`."""

SYSCTL_PREFIXES: Final = ("fs.mqueue.", "net.")


def capability_name(text: str) -> str:
    """Return `CAP_NET_ADMIN` for `net_admin` or `CAP_NET_ADMIN`, `CAP_ALL` for `ALL`; empty if there is none such."""
    name = text.upper()
    name = name if name.startswith(CAPABILITY_PREFIX) else CAPABILITY_PREFIX + name
    return name if name == ALL or name in CAPABILITIES else ""


def is_namespaced(sysctl: str) -> bool:
    """Whether a kernel setting is the container's own; any other one is the whole machine's."""
    return sysctl in SYSCTLS or (sysctl.startswith(SYSCTL_PREFIXES) and not sysctl.endswith("."))
