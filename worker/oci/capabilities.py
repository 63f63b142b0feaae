"""The capabilities of a container's processes: Docker's default set, what is added to it and dropped from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from swarmpy.errors import invalid, precondition
from swarmpy.model.kernel import ALL, CAPABILITIES, CAPABILITY_PREFIX, capability_name

_DEFAULT: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
    *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
DEFAULT_CAPABILITIES: Final = frozenset(f"{CAPABILITY_PREFIX}{name}" for name in _DEFAULT)


def of_bits(bits: int) -> frozenset[str]:
    """Return the capabilities of a mask such as `CapBnd`; bits that have no name here are left out."""
    return frozenset(name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1)


def full_name(text: str) -> str:
    """Return `CAP_NET_ADMIN` for `net_admin` or `CAP_NET_ADMIN`, `CAP_ALL` for `ALL`.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is no such capability.
    """
    name = capability_name(text)
    if not name:
        raise invalid(f"there is no capability {text!r}; give one such as NET_ADMIN, or ALL")
    return name


def chosen(add: Iterable[str], drop: Iterable[str], available: frozenset[str]) -> tuple[str, ...]:
    """Return the capabilities of a container in the kernel's order, by Docker's rules.

    What is dropped is dropped from the default set; what is added is added after that, so that `drop ALL` with
    `add KILL` leaves KILL; `add ALL` with `drop KILL` leaves all but KILL.

    Args:
        available: those that this node can give at all.

    Raises:
        SwarmError: INVALID_ARGUMENT, an unknown name; FAILED_PRECONDITION, one that this node cannot give.
    """
    added = {full_name(text) for text in add}
    dropped = {full_name(text) for text in drop}
    missing = sorted(added - {ALL} - available)
    if missing:
        raise precondition(f"this node cannot give the capability {missing[0]}: swarmpyd itself does not hold it")
    base = available if ALL in added else DEFAULT_CAPABILITIES & available
    left = frozenset[str]() if ALL in dropped else base - dropped
    return ordered(left | (added - {ALL}))


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Return capabilities in the kernel's order."""
    held = frozenset(names)
    return tuple(name for name in CAPABILITIES if name in held)
