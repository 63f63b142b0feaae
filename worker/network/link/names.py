"""What links are called: each name follows from the node's key and the ids of tasks and networks, so none is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Final

FABRIC: Final = "fabric"
"""The pin of the node's own namespace beside its tasks'; no task id has six characters."""

_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_TASK_DIGITS: Final = 7
_NETWORK_DIGITS: Final = 14
# 16 bytes with the closing zero are all that the kernel has for a name.
_LONGEST: Final = 15


def prefix(key: str) -> str:
    """Return what all links of a node in the host's namespace begin with: 8 characters."""
    return f"sp{key[:6]}"


def anchor(key: str) -> str:
    """Return the device that holds a node's gateway address. No host end has its name: `-` is no digit."""
    return f"{prefix(key)}-0"


def host_end(key: str, task_id: str) -> str:
    """Return the host's end of a task's way out."""
    return _checked(prefix(key) + _digest(task_id, _TASK_DIGITS))


def port(task_id: str, network_id: str) -> str:
    """Return the fabric's end of a task's link to a network."""
    return _checked("v" + _digest(task_id, _TASK_DIGITS) + _digest(network_id, _TASK_DIGITS))


def ports(tasks: Iterable[str], networks: Iterable[str]) -> frozenset[str]:
    """Return the names of all ports that these tasks may have in these networks."""
    tails = [_digest(network, _TASK_DIGITS) for network in networks]
    return frozenset(f"v{_digest(task, _TASK_DIGITS)}{tail}" for task in tasks for tail in tails)


def bridge(network_id: str) -> str:
    """Return a network's bridge in the fabric."""
    return _checked("b" + _digest(network_id, _NETWORK_DIGITS))


def tunnel(network_id: str) -> str:
    """Return a network's VXLAN device in the fabric."""
    return _checked("x" + _digest(network_id, _NETWORK_DIGITS))


def mac(address: IPv4Address) -> str:
    """Return the link-layer address that goes with an address: locally administered, the same on every node."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x42" + address.packed)


def outer_mac(address: IPv4Address) -> str:
    """Return the one of the other end of a link: given by us, so that udev does not change it under traffic."""
    return ":".join(f"{byte:02x}" for byte in b"\x02\x43" + address.packed)


def _digest(text: str, length: int) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 36)
        digits.append(_DIGITS[digit])
    return "".join(digits)


def _checked(name: str) -> str:
    assert len(name) <= _LONGEST, name
    return name
