"""Where the addresses of a network are, as entries of its tunnel, its bridge and its neighbour table; pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from worker.network.link import names

_LOOPBACK_PORTS: Final = range(10000, 20000)
"""Below those of tasks (20000 on) and those that the kernel takes for connections."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An address of a network that is on another node, and that node's data address."""

    address: IPv4Address
    node_address: IPv4Address


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a tunnel sends what is for one link-layer address; port 0 is the tunnel's own."""

    node: IPv4Address
    port: int = 0


@dataclass(frozen=True, slots=True)
class Entries:
    """What a network's devices know of other nodes.

    Args:
        tunnel: where each link-layer address is.
        bridge: the link-layer addresses that lie behind the tunnel.
        neighbours: the link-layer address of each address, with which the tunnel answers whoever asks.
    """

    tunnel: Mapping[str, Remote] = field(default_factory=dict)
    bridge: frozenset[str] = frozenset()
    neighbours: Mapping[IPv4Address, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """What makes one set of entries another: first all of `drop` goes, then all of `add` comes or takes the place of
    what is under the same name."""

    add: Entries
    drop: Entries

    def __len__(self) -> int:
        return sum(len(e.tunnel) + len(e.bridge) + len(e.neighbours) for e in (self.add, self.drop))


def tunnel_port(port: int, node: IPv4Address) -> int:
    """Return the UDP port at which a node hears tunnelled packets: the cluster's, but for nodes on a loopback.

    Those share a machine and a namespace, in which the kernel has each network's number once a port. So each has a port
    of its own, which the others derive from its address; those that differ in the last byte alone never meet.
    """
    if not node.is_loopback:
        return port
    start = zlib.crc32(port.to_bytes(2, "big") + node.packed[:3])
    return _LOOPBACK_PORTS[(start + node.packed[3]) % len(_LOOPBACK_PORTS)]


def entries(neighbours: Iterable[Neighbour], *, port: int) -> Entries:
    """Return what is to be known of `neighbours`; of two with the same address the last counts.

    Args:
        port: the cluster's port for tunnels.
    """
    nodes = {neighbour.address: neighbour.node_address for neighbour in neighbours}
    macs = {address: names.mac(address) for address in nodes}
    tunnel = {macs[a]: Remote(node, tunnel_port(port, node) if node.is_loopback else 0) for a, node in nodes.items()}
    return Entries(tunnel, frozenset(tunnel), macs)


def difference(wanted: Entries, present: Entries) -> Difference:
    """Return the fewest changes that make `present` what is `wanted`."""
    return Difference(
        add=Entries(
            {mac: remote for mac, remote in wanted.tunnel.items() if present.tunnel.get(mac) != remote},
            wanted.bridge - present.bridge,
            {a: mac for a, mac in wanted.neighbours.items() if present.neighbours.get(a) != mac},
        ),
        drop=Entries(
            {mac: remote for mac, remote in present.tunnel.items() if mac not in wanted.tunnel},
            present.bridge - wanted.bridge,
            {a: mac for a, mac in present.neighbours.items() if a not in wanted.neighbours},
        ),
    )
