"""What tasks find on their networks, and what changes of it, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address

from worker.network.link.forwarding import Neighbour
from worker.network.nft.vip import Vip


@dataclass(frozen=True, slots=True)
class Reach:
    """What a task finds on its networks: where their addresses are, by network, and all VIPs."""

    neighbours: Mapping[str, tuple[Neighbour, ...]]
    vips: tuple[Vip, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """What is to change in one task: these VIPs, and none at `remove`; with `whole` there are no others either."""

    task_id: str
    vips: tuple[Vip, ...] = ()
    remove: tuple[IPv4Address, ...] = ()
    whole: bool = False
