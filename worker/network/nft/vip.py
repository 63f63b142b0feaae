"""A service's address in a task's namespace, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

Withdrawn = frozenset[tuple[IPv4Address, IPv4Address]]
"""Pairs of a VIP and a backend to which no new connection goes by it."""


@dataclass(frozen=True)
class Vip:
    """A service's address in a network, and the tasks that may get new connections; without any it refuses at once."""

    address: IPv4Address
    backends: tuple[IPv4Address, ...]
