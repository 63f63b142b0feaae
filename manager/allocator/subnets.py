"""What a new network gets: a subnet that nobody else uses, a gateway, and a number for its packets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final

import msgspec

from swarmpy.model.network import Network
from swarmpy.model.states import NetworkDriver

FIRST_VNI: Final = 4097
LAST_VNI: Final = 2**24 - 1


@dataclass(frozen=True)
class Taken:
    """What a new network must keep away from.

    `networks` are all that there are; `ranges` what was left a moment ago, and addresses of nodes and of tasks whose
    network is gone. `last_vni` is the highest that was given.
    """

    networks: Sequence[Network]
    ranges: Sequence[IPv4Network] = ()
    last_vni: int = 0


def allocated(network: Network, taken: Taken, pools: Sequence[str], mask: int) -> Network:
    """Return the network with its subnet, gateway and number, or with the problem of why it has none.

    Args:
        pools, mask: where subnets are picked from (CIDR), and their size in bits of the mask.
    """
    subnet = IPv4Network(network.spec.subnet) if network.spec.subnet else pick_subnet(pools, mask, _ranges(taken))
    if subnet is None:
        problem = f"no subnet of /{mask} is free in {', '.join(pools)}: remove a network, or create it with --subnet"
        return msgspec.structs.replace(network, problem=problem)
    vni = pick_vni(taken) if network.spec.driver is NetworkDriver.OVERLAY else 0
    gateway = network.spec.gateway or str(subnet[1])
    return msgspec.structs.replace(network, subnet=str(subnet), gateway=gateway, vni=vni, problem="")


def pick_subnet(pools: Sequence[str], mask: int, taken: Iterable[IPv4Network]) -> IPv4Network | None:
    """Return the first subnet of `mask` bits in the pools that overlaps nothing; None if there is none."""
    used = sorted((int(r.network_address), int(r.broadcast_address)) for r in taken)
    size = 2 ** (32 - mask)
    for text in pools:
        pool = IPv4Network(text)
        start = int(pool.network_address)
        last = int(pool.broadcast_address)
        # Ordered by where they begin, every range but those before the candidate is looked at once.
        for first_used, last_used in used:
            if first_used >= start + size:
                break
            if last_used >= start:
                start = (last_used // size + 1) * size
        if start + size - 1 <= last:
            return IPv4Network((start, mask))
    return None


def pick_vni(taken: Taken) -> int:
    """Return a number that no network has: above the last one given, so that a removed network's rests for long."""
    used = {network.vni for network in taken.networks}
    after = max(taken.last_vni, *used, FIRST_VNI - 1) + 1 if used else max(taken.last_vni + 1, FIRST_VNI)
    if after <= LAST_VNI:
        return after
    return next(vni for vni in range(FIRST_VNI, LAST_VNI + 1) if vni not in used)


def single(address: str) -> IPv4Network | None:
    """Return an address as a range of one; None if it is a name or IPv6."""
    try:
        return IPv4Network(IPv4Address(address))
    except ValueError:
        return None


def _ranges(taken: Taken) -> list[IPv4Network]:
    subnets = (network.subnet or network.spec.subnet for network in taken.networks)
    return [*taken.ranges, *(IPv4Network(subnet) for subnet in subnets if subnet)]
