"""The table of a task's namespace: how services' addresses are balanced over tasks; pure.

    output       looks up a VIP's verdict: its own chain, or `refuse` while it has no backend
    vip-...      takes the next number below the number of its backends, and the backend of that number
    refuse       answers at once that nobody is there

A VIP's backends are the elements `(vip . number)` of one map, numbered from 0 without gaps. When their number changes
the rule with it changes in the same batch; a packet that meets the rule of before and the elements of after finds
number 0 in the next rule, so that none is lost.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.network.nft.batch import Base, Batch, Element, Field, Hook, Set
from worker.network.nft.expressions import (
    CT_NEW,
    FIRST_REGISTER,
    FIRST_WORD,
    VERDICT_REGISTER,
    Compare,
    DestinationNat,
    Immediate,
    Lookup,
    NumberGenerator,
    Outcome,
    Reject,
    RejectKind,
    Verdict,
    native,
)
from worker.network.nft.phrases import TCP, UDP, destination, destination_port, destined_to, in_state, protocol

TABLE: Final = "swarmpy"
NAMES: Final = IPv4Address("127.0.0.11")
"""Where tasks ask for names."""

DNS_PORT: Final = (53).to_bytes(2, "big")
LAYOUT: Final = 1
"""Goes up with changes of the chains and rules below, so that the table of an older version is replaced."""

VIPS: Final = "vips"
BACKENDS: Final = "backends"
OUTPUT: Final = "output"
REFUSE: Final = "refuse"
REFUSED: Final = Verdict(Outcome.GOTO, REFUSE)

SETS: Final = (
    Set(VIPS, (Field.ADDRESS,), verdict=True),
    Set(BACKENDS, (Field.ADDRESS, Field.MARK), (Field.ADDRESS,)),
)

Backends = Sequence[IPv4Address]
"""A VIP's backends in the order of their numbers."""


def describe(names_port: int) -> str:
    """Return what a table says of itself: one that says anything else is not as this one is to be."""
    return f"swarmpy layout {LAYOUT}" + (f", names at port {names_port}" if names_port else "")


def add_layout(batch: Batch, names_port: int = 0) -> None:
    """Add the table as it is without VIPs.

    Args:
        names_port: where what is asked at port 53 of `NAMES` is led to; 0 leaves it alone.
    """
    batch.add_table(TABLE, describe(names_port))
    for made in SETS:
        batch.add_set(TABLE, made)
    batch.add_chain(TABLE, REFUSE)
    # A namespace tracks connections as long as a rule speaks of them. This one always does, so that connections to a
    # service that has lost its last backend are still translated; it holds for whatever comes here.
    batch.add_rule(TABLE, REFUSE, *in_state(CT_NEW), *protocol(TCP), Reject(RejectKind.TCP_RESET))
    batch.add_rule(TABLE, REFUSE, Reject())
    batch.add_chain(TABLE, OUTPUT, Base("nat", Hook.OUTPUT, -100))
    batch.add_rule(TABLE, OUTPUT, destination(), Lookup(VIPS, into=VERDICT_REGISTER))
    if not names_port:
        return
    led = (Immediate(names_port.to_bytes(2, "big")), DestinationNat(None, FIRST_REGISTER))
    for transport in (UDP, TCP):
        asked = (*destined_to(NAMES), *protocol(transport), destination_port(FIRST_REGISTER), Compare(DNS_PORT))
        batch.add_rule(TABLE, OUTPUT, *asked, *led)


def count_rules(vips: Mapping[IPv4Address, Backends], names_port: int) -> int:
    """Return how many rules the table of these VIPs has."""
    return 3 + (2 if names_port else 0) + 3 * sum(bool(backends) for backends in vips.values())


def change(batch: Batch, vip: IPv4Address, have: Backends | None, wanted: Backends | None) -> None:
    """Add what leads a VIP from one list of backends to another; None is no VIP at all."""
    if have == wanted:
        return
    old, new = have or (), wanted or ()
    if old and not new:
        _close(batch, vip, wanted)
    batch.delete_elements(TABLE, BACKENDS, elements(vip, old, other=new))
    batch.add_elements(TABLE, BACKENDS, elements(vip, new, other=old))
    if len(old) != len(new) and new:
        _open(batch, vip, have, len(new))
    elif have is None:
        batch.add_elements(TABLE, VIPS, [Element(vip.packed, REFUSED)])
    elif wanted is None and not old:
        batch.delete_elements(TABLE, VIPS, [Element(vip.packed)])


def _open(batch: Batch, vip: IPv4Address, have: Backends | None, count: int) -> None:
    """Let the VIP's chain choose among so many; make it if there is none yet."""
    name = chain(vip)
    if have:
        batch.flush_chain(TABLE, name)
    else:
        batch.add_chain(TABLE, name)
    number = FIRST_WORD + 1
    found = (Lookup(BACKENDS, FIRST_WORD, into=FIRST_REGISTER), DestinationNat())
    batch.add_rule(TABLE, name, destination(FIRST_WORD), NumberGenerator(count, register=number), *found)
    batch.add_rule(TABLE, name, destination(FIRST_WORD), NumberGenerator(1, register=number), *found)
    batch.add_rule(TABLE, name, REFUSED)
    if have:
        return
    if have is not None:  # it was refused so far
        batch.delete_elements(TABLE, VIPS, [Element(vip.packed)])
    batch.add_elements(TABLE, VIPS, [Element(vip.packed, Verdict(Outcome.GOTO, name))])


def _close(batch: Batch, vip: IPv4Address, wanted: Backends | None) -> None:
    """Refuse the VIP, or forget it, and remove its chain."""
    batch.delete_elements(TABLE, VIPS, [Element(vip.packed)])
    if wanted is not None:
        batch.add_elements(TABLE, VIPS, [Element(vip.packed, REFUSED)])
    batch.flush_chain(TABLE, chain(vip))
    batch.delete_chain(TABLE, chain(vip))


def elements(vip: IPv4Address, backends: Backends, other: Backends = ()) -> list[Element]:
    """Return the elements of a VIP's backends, without those that another list has, too."""
    return [
        Element(vip.packed + native(number), backend.packed)
        for number, backend in enumerate(backends)
        if number >= len(other) or other[number] != backend
    ]


def chain(vip: IPv4Address) -> str:
    return f"vip-{vip}"


def renumber(have: Backends, wanted: Sequence[IPv4Address]) -> list[IPv4Address]:
    """Return `wanted` in an order in which as many as possible keep the number that they have.

    The number that a backend gave up goes to a new one; where there are fewer now, the last ones move down.
    """
    keep = set(wanted)
    held = [backend if backend in keep else None for backend in have[: len(wanted)]]
    placed = set(held)
    free = iter([backend for backend in wanted if backend not in placed])
    filled = [backend if backend is not None else next(free) for backend in held]
    return [*filled, *free]


def read(vips: Iterable[Element], backends: Iterable[Element]) -> dict[IPv4Address, list[IPv4Address]]:
    """Return each VIP's backends from the elements in force.

    Raises:
        SwarmError: CORRUPT, they are not as `change` leaves them: somebody else has been there.
    """
    found: dict[IPv4Address, dict[int, IPv4Address]] = {IPv4Address(element.key): {} for element in vips}
    for element in backends:
        assert isinstance(element.value, bytes), "the map holds addresses"
        number = int.from_bytes(element.key[4:8], sys.byteorder)
        found.setdefault(IPv4Address(element.key[:4]), {})[number] = IPv4Address(element.value)
    for vip, numbered in found.items():
        if set(numbered) != set(range(len(numbered))):
            raise SwarmError(Code.CORRUPT, f"the backends of {vip} in table {TABLE} are not numbered without gaps")
    return {vip: [numbered[number] for number in range(len(numbered))] for vip, numbered in found.items()}
