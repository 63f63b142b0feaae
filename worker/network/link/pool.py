"""A subnet for a node's tasks that nothing else on the machine uses, and who has which address of it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from swarmpy.errors import Code, SwarmError, invalid

SUBNET_BITS: Final = 20
_SMALLEST_BITS: Final = 29
QUARANTINE_S: Final = 30.0
"""How long an address that was given back is given to nobody: connections and caches of others outlive their task."""

# Of 172.16.0.0/12 the first /16 is what clouds have, the second is Docker's own.
POOLS: Final = (
    IPv4Network("172.18.0.0/15"),
    IPv4Network("172.20.0.0/14"),
    IPv4Network("172.24.0.0/13"),
    IPv4Network("192.168.0.0/16"),
)
"""Where a node looks for its subnet by itself."""


def pick_subnet(taken: Iterable[IPv4Network], pools: Sequence[IPv4Network] = POOLS, *, start: int = 0) -> IPv4Network:
    """Return the first /20 of `pools` that overlaps none of `taken`; a pool that is smaller counts as a whole.

    Args:
        taken: what the machine has routes or addresses for; the default route does not count.
        start: which candidate is looked at first (of all, counted round), so that nodes that start together on one
            machine do not meet.

    Raises:
        SwarmError: RESOURCE_EXHAUSTED, all are taken; INVALID_ARGUMENT, a pool has no room for a task.
    """
    if small := [str(pool) for pool in pools if pool.prefixlen > _SMALLEST_BITS]:
        raise invalid(f"the address pool {small[0]} is too small for a gateway and tasks: give it a /{_SMALLEST_BITS}")
    used = [network for network in taken if network.prefixlen]
    candidates = [subnet for pool in pools for subnet in pool.subnets(new_prefix=max(SUBNET_BITS, pool.prefixlen))]
    for offset in range(len(candidates)):
        candidate = candidates[(start + offset) % len(candidates)]
        if not any(candidate.overlaps(network) for network in used):
            return candidate
    names = ", ".join(str(pool) for pool in pools)
    raise SwarmError(
        Code.RESOURCE_EXHAUSTED,
        f"no /{SUBNET_BITS} of {names} is free of this machine's routes: give this node another pool for its tasks' "
        "addresses in its configuration file",
    )


@dataclass
class Leases:
    """Who has which address of a subnet. The first one is the gateway's; net and broadcast address are nobody's.

    Addresses are given out in turn, so that one comes back as late as can be, and never within QUARANTINE_S.
    """

    subnet: IPv4Network
    held: dict[str, IPv4Address] = field(default_factory=dict)
    freed_s: dict[IPv4Address, float] = field(default_factory=dict)
    cursor: int = 0

    @property
    def gateway(self) -> IPv4Address:
        return self.subnet.network_address + 1

    @property
    def size(self) -> int:
        """How many addresses there are to give."""
        return self.subnet.num_addresses - 3

    def allocate(self, owner: str, now_s: float) -> IPv4Address:
        """Return the address of `owner`, the one it has or a new one.

        Raises:
            SwarmError: RESOURCE_EXHAUSTED, all are held or were given back just now.
        """
        if owner in self.held:
            return self.held[owner]
        self._forget(now_s)
        held = set(self.held.values())
        for offset in range(self.size):
            number = (self.cursor + offset) % self.size
            address = self.gateway + 1 + number
            if address not in held and address not in self.freed_s:
                self.held[owner] = address
                self.cursor = (number + 1) % self.size
                return address
        raise SwarmError(
            Code.RESOURCE_EXHAUSTED,
            f"this node's address pool {self.subnet} has no free address: {len(held)} of {self.size} are in use, "
            f"{len(self.freed_s)} were given back less than {QUARANTINE_S:g} s ago",
            retryable=True,
        )

    def release(self, owner: str, now_s: float) -> IPv4Address | None:
        """Take back the address of `owner`; None if it has none."""
        address = self.held.pop(owner, None)
        if address is not None:
            self.freed_s[address] = now_s
        return address

    def _forget(self, now_s: float) -> None:
        self.freed_s = {a: at for a, at in self.freed_s.items() if now_s - at < QUARANTINE_S}
