"""The VIPs of a task's network namespace in the kernel: made or adopted, then changed in single steps."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType

import structlog

from swarmpy.errors import Code, SwarmError
from worker.network.nft import dump
from worker.network.nft.balancing import BACKENDS, LAYOUT, TABLE, VIPS, add_layout, change, read, renumber
from worker.network.nft.batch import Batch
from worker.network.nft.host import delete_table
from worker.network.nft.sock import Netfilter

log = structlog.get_logger()

Withdrawn = frozenset[tuple[IPv4Address, IPv4Address]]
"""Pairs of a VIP and a backend to which no new connection goes by it."""


@dataclass(frozen=True)
class Vip:
    """A service's address in a network, and the tasks that may get new connections; without any it refuses at once."""

    address: IPv4Address
    backends: tuple[IPv4Address, ...]


class VipTable:
    """The table `swarmpy` of one task's namespace.

    Every port and protocol of a VIP goes to the same port of one of its backends, in turn. Connections stay with the
    backend that they have. What is in force outlives this process: `ensure` reads it back.

    Args:
        sock: opened in the task's namespace.
        rng: draws the order of backends, so that not all tasks begin with the same one.
    """

    def __init__(self, sock: Netfilter, *, rng: random.Random) -> None:
        self._sock = sock
        self._rng = rng
        self._vips: dict[IPv4Address, list[IPv4Address]] = {}

    @property
    def vips(self) -> Mapping[IPv4Address, list[IPv4Address]]:
        """The VIPs that are in force, each with its backends in the order of their turns."""
        return MappingProxyType(self._vips)

    def ensure(self) -> None:
        """Make the table, or take over the one that is there; call it before anything else, and again at any time.

        One of another layout is replaced in one step, with the VIPs in it.

        Raises:
            SwarmError: the kernel refuses.
        """
        comment = next((row.comment for row in dump.tables(self._sock) if row.name == TABLE), None)
        found = {} if comment is None else self._read()
        if comment == LAYOUT and found is not None:
            self._vips = found
            return
        batch = Batch()
        if comment is not None:
            log.info("a table is replaced", table=TABLE, was=comment, is_now=LAYOUT)
            batch.delete_table(TABLE)
        add_layout(batch)
        for vip, backends in (found or {}).items():
            change(batch, vip, None, backends)
        self._sock.commit(batch)
        self._vips = found or {}

    def _read(self) -> dict[IPv4Address, list[IPv4Address]] | None:
        try:
            return read(*(dump.elements(self._sock, TABLE, name) for name in (VIPS, BACKENDS)))
        except SwarmError as error:
            if error.code not in (Code.NOT_FOUND, Code.CORRUPT):
                raise
            log.warning("the VIPs of a namespace cannot be taken over; they are set anew", error=error.message)
            return None

    def sync(self, vips: Iterable[Vip]) -> Withdrawn:
        """Make these the VIPs, all of them, in one step; return what is withdrawn.

        Raises:
            SwarmError: INVALID_ARGUMENT, a VIP comes twice, or is a backend; or the kernel refuses.
        """
        wanted = tuple(vips)
        there = {vip.address for vip in wanted}
        return self.change(wanted, remove=[address for address in self._vips if address not in there])

    def change(self, vips: Iterable[Vip] = (), *, remove: Iterable[IPv4Address] = ()) -> Withdrawn:
        """Set these VIPs and remove others, in one step; return what is withdrawn. A call may be repeated.

        Raises:
            SwarmError: INVALID_ARGUMENT, a VIP comes twice, or is a backend; or the kernel refuses.
        """
        wanted: dict[IPv4Address, list[IPv4Address] | None] = dict.fromkeys(remove)
        for vip in vips:
            if wanted.get(vip.address) is not None or vip.address in vip.backends:
                raise SwarmError(Code.INVALID_ARGUMENT, f"VIP {vip.address} comes twice, or is a backend of its own")
            wanted[vip.address] = self._ordered(vip)
        batch = Batch()
        for address, backends in wanted.items():
            change(batch, address, self._vips.get(address), backends)
        self._sock.commit(batch)
        withdrawn = set()
        for address, backends in wanted.items():
            withdrawn |= {(address, gone) for gone in self._vips.get(address, ()) if gone not in (backends or ())}
            if backends is None:
                self._vips.pop(address, None)
            else:
                self._vips[address] = backends
        return frozenset(withdrawn)

    def _ordered(self, vip: Vip) -> list[IPv4Address]:
        backends = sorted(set(vip.backends))
        self._rng.shuffle(backends)
        return renumber(self._vips.get(vip.address, ()), backends)

    def remove(self) -> None:
        """Remove the table with everything in it; one that is not there is no error."""
        delete_table(self._sock, TABLE)
        self._vips = {}
