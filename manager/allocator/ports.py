"""Published ports: which numbers are taken, on which addresses, and one that is free. Pure."""

from __future__ import annotations

from collections import Counter

from manager.allocator.pools import Pool
from swarmpy.model.endpoints import addresses_meet


class PortNumbers:
    """The ports of one transport. A number may be held once on each of several addresses.

    Those published in mode host belong to nodes, not to the cluster: any number of services may have one. They are
    only not given to a service that asks for any port.
    """

    def __init__(self, first: int, last: int) -> None:
        self._pool = Pool(first, last)
        self._held: dict[int, set[str]] = {}
        self._on_hosts: Counter[int] = Counter()

    def take(self, address: str = "") -> int | None:
        """Return a number that nobody has on any address, and hold it on this one; None if there is none."""
        number = self._pool.take()
        if number is not None:
            self._held[number] = {address}
        return number

    def hold(self, number: int, address: str = "") -> bool:
        """Hold this very number on an address; False if it is held on one that is, or may be, the same."""
        held = self._held.get(number, set())
        if any(addresses_meet(address, other) for other in held):
            return False
        self._held[number] = held | {address}
        self._pool.hold(number)
        return True

    def release(self, number: int, address: str = "") -> None:
        """Give a number back; one that is not held is ignored."""
        self._held.get(number, set()).discard(address)
        self._tidy(number)

    def hold_on_hosts(self, number: int) -> None:
        """Leave out a number that tasks take on their nodes."""
        self._on_hosts[number] += 1
        self._pool.hold(number)

    def release_on_hosts(self, number: int) -> None:
        """End what `hold_on_hosts` began."""
        if self._on_hosts[number]:
            self._on_hosts[number] -= 1
        self._tidy(number)

    def _tidy(self, number: int) -> None:
        if not self._held.get(number) and not self._on_hosts[number]:
            self._held.pop(number, None)
            del self._on_hosts[number]
            self._pool.release(number)
