"""The VIPs of a task's network namespace in the kernel: made or adopted, then changed in single steps."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from types import MappingProxyType

import structlog

from swarmpy.errors import Code, SwarmError
from worker.network.nft import dump
from worker.network.nft.balancing import (
    BACKENDS,
    TABLE,
    VIPS,
    add_layout,
    change,
    count_rules,
    describe,
    read,
    renumber,
)
from worker.network.nft.batch import Batch
from worker.network.nft.host import ASTRAY, delete_table
from worker.network.nft.sock import Netfilter
from worker.network.nft.vip import Vip, Withdrawn

log = structlog.get_logger()


class VipTable:
    """The table `swarmpy` of one task's namespace.

    Every port and protocol of a VIP goes to the same port of one of its backends, in turn. Connections stay with the
    backend that they have. What is in force outlives this process: `ensure` reads it back.

    Args:
        sock: opened in the task's namespace.
        rng: draws the order of backends, so that not all tasks begin with the same one.
        names_port: what is asked at port 53 of `NAMES` is led to this port of it; 0 leaves it alone.
    """

    def __init__(self, sock: Netfilter, *, rng: random.Random, names_port: int = 0) -> None:
        self._sock = sock
        self._rng = rng
        self._names_port = names_port
        self._is_known = False  # before the kernel was asked
        self._vips: dict[IPv4Address, list[IPv4Address]] = {}

    @property
    def vips(self) -> Mapping[IPv4Address, list[IPv4Address]]:
        """The VIPs that are in force, each with its backends in the order of their turns."""
        return MappingProxyType(self._vips)

    def ensure(self) -> None:
        """Make the table, or take over the one that is there; call it before anything else, and now and then.

        One of another layout is replaced in one step, with the VIPs in it. Called again, it makes the table anew if
        somebody else has changed it: a task that may, for example.

        Raises:
            SwarmError: the kernel refuses.
        """
        comment = next((row.comment for row in dump.tables(self._sock) if row.name == TABLE), None)
        found = {} if comment is None else self._read()
        wanted = self._vips if self._is_known else found or {}
        rules = count_rules(wanted, self._names_port)
        is_whole = comment == describe(self._names_port) and dump.count_rules(self._sock, TABLE) == rules
        if is_whole and found == wanted:
            self._note(found)
            return
        if comment is not None or self._is_known:
            log.warning("a table is made anew", table=TABLE, was=comment, is_now=describe(self._names_port))
        self._make(wanted)

    def _make(self, vips: Mapping[IPv4Address, list[IPv4Address]]) -> None:
        """Put a new table with these VIPs in place of what may be there."""
        batch = Batch()
        batch.add_table(TABLE)  # so that the deletion always finds one
        batch.delete_table(TABLE)
        add_layout(batch, self._names_port)
        for vip, backends in vips.items():
            change(batch, vip, None, backends)
        self._sock.commit(batch)
        self._note(vips)

    def _note(self, vips: Mapping[IPv4Address, list[IPv4Address]]) -> None:
        self._is_known = True
        self._vips = dict(vips)

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
        try:
            self._sock.commit(batch)
        except SwarmError as error:
            if error.code not in ASTRAY:
                raise
            log.warning("a table is not as it was left", table=TABLE, error=error.message)
            self._make(self._vips)
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
        self._note({})
        self._is_known = False
