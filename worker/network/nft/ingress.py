"""Published ports that the kernel balances: where connections to a port of this machine go, in turn.

    prerouting, output    look up the port's chain, by its address, then for any address of this machine
    port-...              takes the next backend: of n rules the first takes each n-th connection, the next one each
                          (n-1)th of the rest, and so on
    postrouting           gives what goes on to another machine our address, so that the answers come back by us

A port without a chain, and every port if the table is gone, is served by whoever listens there: the balancer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from worker.network.nft import dump
from worker.network.nft.batch import Base, Batch, Element, Field, Hook, Set
from worker.network.nft.expressions import (
    FIRST_REGISTER,
    FIRST_WORD,
    VERDICT_REGISTER,
    Compare,
    DestinationNat,
    Immediate,
    Lookup,
    Masquerade,
    NumberGenerator,
    Outcome,
    Verdict,
    native,
)
from worker.network.nft.host import delete_table
from worker.network.nft.layout import ANY_ADDRESS, pad
from worker.network.nft.phrases import (
    TCP,
    destination,
    destination_local,
    destination_port,
    destination_translated,
    protocol,
)
from worker.network.nft.sock import Netfilter

PREFIX: Final = "swarmpy_ports_"
PORTS: Final = "ports"
PORTS_ANY: Final = "ports_any"
REMOTE: Final = "remote"
ACCEPTS: Final = 1
_PORT_REGISTER: Final = 2
_SETS: Final = (
    Set(PORTS, (Field.ADDRESS, Field.PORT), verdict=True),
    Set(PORTS_ANY, (Field.PORT,), verdict=True),
    Set(REMOTE, (Field.ADDRESS, Field.PORT)),
)


@dataclass(frozen=True, order=True)
class Entry:
    """Where clients connect by TCP; `address` 0.0.0.0 is any address of this machine."""

    address: IPv4Address
    port: int


@dataclass(frozen=True, order=True)
class Target:
    """Where a task is reached. `remote`: on another machine."""

    address: IPv4Address
    port: int
    remote: bool = False


Ports = Mapping[Entry, tuple[Target, ...]]


class IngressTable:
    """The table `swarmpy_ports_<key>` of one node. Each change is one batch, applied whole or not at all.

    Connections stay with the task that they have, also when their port or the table is gone.

    Args:
        sock: opened in the host's network namespace.
        key: the node's.
    """

    def __init__(self, sock: Netfilter, key: str) -> None:
        self._sock = sock
        self._table = PREFIX + key
        self._ports: dict[Entry, tuple[Target, ...]] = {}
        self._is_made = False

    @property
    def ports(self) -> Ports:
        """The ports that are in force."""
        return self._ports

    def make(self, ports: Ports) -> None:
        """Put a new table with these ports in place of what is there.

        Raises:
            SwarmError: the kernel refuses.
        """
        batch = Batch()
        batch.add_table(self._table)  # so that the deletion always finds one
        batch.delete_table(self._table)
        self._add_layout(batch)
        self._change(batch, {}, ports)
        self._sock.commit(batch)
        self._ports, self._is_made = dict(ports), True

    def sync(self, ports: Ports) -> None:
        """Make these the ports, all of them, in one step; those that stay the same are not touched.

        Raises:
            SwarmError: the kernel refuses, because somebody else has changed the table for example; `make` mends that.
        """
        if not self._is_made:
            self.make(ports)
            return
        batch = Batch()
        self._change(batch, self._ports, ports)
        if batch:
            self._sock.commit(batch)
        self._ports = dict(ports)

    def remove(self) -> None:
        """Remove the table with everything in it; one that is not there is no error."""
        delete_table(self._sock, self._table)
        self._ports, self._is_made = {}, False

    def _add_layout(self, batch: Batch) -> None:
        table = self._table
        batch.add_table(table)
        for made in _SETS:
            batch.add_set(table, made)
        exact = (*protocol(TCP), destination(FIRST_WORD), destination_port(FIRST_WORD + 1))
        anywhere = (*destination_local(), *protocol(TCP), destination_port(FIRST_WORD))
        for chain, hook in (("prerouting", Hook.PREROUTING), ("output", Hook.OUTPUT)):
            batch.add_chain(table, chain, Base("nat", hook, -100))
            batch.add_rule(table, chain, *exact, Lookup(PORTS, FIRST_WORD, into=VERDICT_REGISTER))
            batch.add_rule(table, chain, *anywhere, Lookup(PORTS_ANY, FIRST_WORD, into=VERDICT_REGISTER))
        batch.add_chain(table, "postrouting", Base("nat", Hook.POSTROUTING, 100))
        remote = (destination(FIRST_WORD), destination_port(FIRST_WORD + 1), Lookup(REMOTE, FIRST_WORD))
        batch.add_rule(table, "postrouting", *protocol(TCP), *destination_translated(), *remote, Masquerade())

    def _change(self, batch: Batch, have: Ports, wanted: Ports) -> None:
        gone, new = _remote(have), _remote(wanted)
        batch.delete_elements(self._table, REMOTE, [Element(key) for key in sorted(gone - new)])
        batch.add_elements(self._table, REMOTE, [Element(key) for key in sorted(new - gone)])
        for entry in sorted(have.keys() - wanted.keys()):
            name, key = _key(entry)
            batch.delete_elements(self._table, name, [Element(key)])
            batch.flush_chain(self._table, chain(entry))
            batch.delete_chain(self._table, chain(entry))
        for entry, targets in sorted(wanted.items()):
            if have.get(entry) == targets:
                continue
            if entry in have:
                batch.flush_chain(self._table, chain(entry))
            else:
                batch.add_chain(self._table, chain(entry))
            self._add_targets(batch, entry, targets)
            if entry not in have:
                name, key = _key(entry)
                batch.add_elements(self._table, name, [Element(key, Verdict(Outcome.GOTO, chain(entry)))])

    def _add_targets(self, batch: Batch, entry: Entry, targets: tuple[Target, ...]) -> None:
        for number, target in enumerate(targets):
            turn = (NumberGenerator(len(targets) - number), Compare(native(0)))
            address = Immediate(target.address.packed, FIRST_REGISTER)
            port = Immediate(target.port.to_bytes(2, "big"), _PORT_REGISTER)
            to = (address, port, DestinationNat(FIRST_REGISTER, _PORT_REGISTER))
            batch.add_rule(self._table, chain(entry), *turn, *to)


def chain(entry: Entry) -> str:
    return f"port-{entry.address}-{entry.port}"


def why_not_forwarded(sock: Netfilter, *, legacy: bool) -> str:
    """Return why connections cannot be led on to other machines; empty if nothing is known to be against it.

    Args:
        legacy: whether the tables that iptables had before nf_tables are in use, of which nothing can be told.
    """
    if legacy:
        return "the host's packet filter (iptables, legacy) may drop what is led on to other machines"
    for row in dump.chains(sock):
        if row.hook == Hook.FORWARD and row.policy != ACCEPTS:
            return f"chain {row.name} of the nf_tables table {row.table} drops what is led on to other machines"
    return ""


def _remote(ports: Ports) -> set[bytes]:
    return {_place(t.address, t.port) for targets in ports.values() for t in targets if t.remote}


def _key(entry: Entry) -> tuple[str, bytes]:
    if entry.address == ANY_ADDRESS:
        return PORTS_ANY, entry.port.to_bytes(2, "big")
    return PORTS, _place(entry.address, entry.port)


def _place(address: IPv4Address, port: int) -> bytes:
    return address.packed + pad(port.to_bytes(2, "big"))
