"""How large a packet may be on each link; pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface
from typing import Final

from worker.network.link.messages import Link, Route

ETHERNET: Final = 1500
SMALLEST: Final = 576
OVERHEAD: Final = 50
"""What VXLAN puts before a packet: IPv4 (20), UDP (8) and VXLAN (8) headers, and the inner Ethernet header (14)."""

# The outer packet's length has 16 bits.
_LARGEST: Final = 65535 - OVERHEAD


def of_address(address: IPv4Address, addresses: Iterable[tuple[int, IPv4Interface]], links: Iterable[Link]) -> int:
    """Return the MTU of the link that has `address` (all of 127.0.0.0/8 is the loopback's), Ethernet's if none has."""
    mtus = {link.index: link.mtu for link in links}
    found = [
        mtus[index]
        for index, interface in addresses
        if index in mtus and (interface.ip == address or (address.is_loopback and interface.ip.is_loopback))
    ]
    return min(found, default=ETHERNET)


def of_way_out(routes: Iterable[Route], links: Iterable[Link]) -> int:
    """Return the MTU of a task's link to its host: that of the host's default route, and no more than Ethernet's."""
    mtus = {link.index: link.mtu for link in links}
    found = [mtus[route.index] for route in routes if route.destination.prefixlen == 0 and route.index in mtus]
    return max(SMALLEST, min([*found, ETHERNET]))


def of_network(wanted: int, underlay: int, *, tunnelled: bool) -> int:
    """Return the MTU of a network's links on this node: what was asked for (0: the most), as far as it fits below.

    Args:
        underlay: MTU of the link that carries the tunnel; nothing to one that stays on this node.
    """
    most = min(underlay - OVERHEAD, _LARGEST) if tunnelled else ETHERNET
    if not tunnelled and wanted:
        most = _LARGEST
    return max(SMALLEST, min(wanted or most, most))
