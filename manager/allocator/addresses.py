"""The addresses of one network: which are free, and none that somebody had a moment ago. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Final

from swarmpy.model.network import Network

REUSE_AFTER_S: Final = 30.0
"""For so long an address rests after its release: others may still know it as its last owner's."""


class AddressPool:
    """The addresses of an allocated network. Its first and last one and its gateway are given to nobody.

    Free ones are looked for from a cursor on, which never goes back and is stored: what lies behind it may have been
    given before, what lies ahead in its first round was not. That is how a new leader, who does not know what was
    released a moment before, leaves it alone without waiting.
    """

    def __init__(self, network: Network, known_since_s: float) -> None:
        """
        Args:
            known_since_s: monotonic seconds from which on every release is known; `-inf` for a new network.
        """
        subnet = IPv4Network(network.subnet)
        given_from = IPv4Network(network.spec.ip_range or subnet)
        reserved = (subnet.network_address, subnet.broadcast_address, IPv4Address(network.gateway))
        self.subnet = subnet
        self.cursor = network.cursor
        self._first = int(given_from.network_address)
        self._size = given_from.num_addresses
        self._reserved = {int(address) - self._first for address in reserved if address in given_from}
        self._held: set[int] = set()
        self._resting: dict[int, float] = {}
        self._all_rested_s = known_since_s + REUSE_AFTER_S

    @property
    def size(self) -> int:
        """How many addresses can be given at a time."""
        return self._size - len(self._reserved)

    @property
    def held(self) -> frozenset[str]:
        """The addresses that are held."""
        return frozenset(str(IPv4Address(self._first + offset)) for offset in self._held)

    def take(self, now_s: float) -> str | None:
        """Return a free address and hold it; None if there is none (yet)."""
        if not self.free(now_s):
            return None
        for _ in range(self._size):
            if self._in_doubt(now_s):
                break
            offset = self.cursor % self._size
            self.cursor += 1
            if offset not in self._held and offset not in self._resting and offset not in self._reserved:
                self._held.add(offset)
                return str(IPv4Address(self._first + offset))
        return None

    def hold(self, address: str) -> bool:
        """Hold this very address, rested or not; False if it is held already."""
        offset = self._offset(address)
        if offset in self._held:
            return False
        self._resting.pop(offset, None)
        self._held.add(offset)
        return True

    def release(self, address: str, now_s: float) -> None:
        """Take an address back, and let it rest; one that is not held is ignored."""
        offset = self._offset(address)
        if offset in self._held:
            self._held.remove(offset)
            self._resting[offset] = now_s + REUSE_AFTER_S

    def give_back(self, address: str) -> None:
        """Take an address back that was never used."""
        self._held.discard(self._offset(address))

    def free(self, now_s: float) -> int:
        """Return how many addresses can be had now, at most."""
        while self._resting:
            offset, rested_s = next(iter(self._resting.items()))
            if rested_s > now_s:
                break
            del self._resting[offset]
        return 0 if self._in_doubt(now_s) else self.size - len(self._held) - len(self._resting)

    def next_free_s(self, now_s: float) -> float | None:
        """Return when more addresses will have rested; None if no time will bring any."""
        if self._in_doubt(now_s):
            return self._all_rested_s
        return next(iter(self._resting.values()), None)

    def _in_doubt(self, now_s: float) -> bool:
        """Whether all that comes next may have been released by an earlier leader a moment ago."""
        return self.cursor >= self._size and now_s < self._all_rested_s

    def _offset(self, address: str) -> int:
        return int(IPv4Address(address)) - self._first
