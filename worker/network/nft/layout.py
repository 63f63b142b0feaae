"""The host's table: which chains, rules and sets it has, and how published ports are elements of them; pure.

Tasks hang on links of their own, whose host ends begin with the node's prefix, and have addresses of its pool.

    raw          drops what a task sends to, or as, the host's loopback
    prerouting   translates published ports, of packets that come in ...
    output       ... and of those that are made here
    forward      lets through what was published, keeps the rest away from tasks, and tasks from each other
    postrouting  gives what leaves the host's address, and what would otherwise be answered past us ours
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, Literal

from worker.network.nft.batch import Base, Batch, Element, Field, Hook, Set
from worker.network.nft.expressions import (
    ACCEPT,
    CT_ESTABLISHED,
    CT_RELATED,
    DROP,
    FIRST_REGISTER,
    FIRST_WORD,
    DestinationNat,
    Lookup,
    Masquerade,
    Meta,
    MetaKey,
)
from worker.network.nft.phrases import (
    PROTOCOLS,
    comes_from,
    destination,
    destination_local,
    destination_port,
    destination_translated,
    from_loopback,
    in_state,
    leaves_by,
    leaves_by_other_than,
    source,
    source_within,
    to_loopback,
)

LAYOUT: Final = 1
"""Goes up with each change of the chains and rules below, so that the table of an older version is replaced."""

ANY_ADDRESS: Final = IPv4Address(0)
PUBLISHED: Final = "published"
PUBLISHED_ANY: Final = "published_any"
SELVES: Final = "selves"

SETS: Final = (
    Set(PUBLISHED, (Field.ADDRESS, Field.PROTOCOL, Field.PORT), (Field.ADDRESS, Field.PORT)),
    Set(PUBLISHED_ANY, (Field.PROTOCOL, Field.PORT), (Field.ADDRESS, Field.PORT)),
    Set(SELVES, (Field.ADDRESS, Field.ADDRESS)),
)

RULES: Final = 12
"""How many rules there are, whatever is published."""

Transport = Literal["tcp", "udp"]
Place = tuple[Transport, IPv4Address, int]
"""A port of this machine: transport, address, number."""


@dataclass(frozen=True)
class Links:
    """Which links are tasks' ways out: the first bytes of their names, and the addresses of the tasks."""

    prefix: str
    pool: IPv4Network

    def comment(self) -> str:
        """Return what a table says of itself: one that says anything else is not as this one is to be."""
        return f"swarmpy layout {LAYOUT}, links {self.prefix}*, addresses {self.pool}"


@dataclass(frozen=True, order=True)
class Publication:
    """A port of this machine that leads to a port of a task; `address` 0.0.0.0 is any address of the machine."""

    transport: Transport
    address: IPv4Address
    port: int
    target: IPv4Address
    target_port: int

    def __str__(self) -> str:
        return f"{self.transport} port {self.port} on {self.address}"


def add_layout(batch: Batch, table: str, links: Links) -> None:
    """Add the table as it is without published ports."""
    batch.add_table(table, links.comment())
    for made in SETS:
        batch.add_set(table, made)
    _add_raw(batch, table, links.prefix)
    for chain, hook in (("prerouting", Hook.PREROUTING), ("output", Hook.OUTPUT)):
        batch.add_chain(table, chain, Base("nat", hook, -100))
        _add_publishing(batch, table, chain)
    _add_forward(batch, table, links.prefix)
    _add_postrouting(batch, table, links)


def _add_raw(batch: Batch, table: str, prefix: str) -> None:
    # The links route loopback addresses, so that a port published on one works. Before translation is undone no packet
    # of a task has such an address, unless it was made to reach what listens on the host's loopback only.
    batch.add_chain(table, "raw", Base("filter", Hook.PREROUTING, -300))
    batch.add_rule(table, "raw", *comes_from(prefix), *to_loopback(), DROP)
    batch.add_rule(table, "raw", *comes_from(prefix), *from_loopback(), DROP)


def _add_publishing(batch: Batch, table: str, chain: str) -> None:
    word = FIRST_WORD
    translate = DestinationNat(FIRST_REGISTER, word + 1)
    exact = (destination(word), Meta(MetaKey.PROTOCOL, word + 1), destination_port(word + 2))
    batch.add_rule(table, chain, *exact, Lookup(PUBLISHED, into=FIRST_REGISTER), translate)
    anywhere = (*destination_local(), Meta(MetaKey.PROTOCOL, word), destination_port(word + 1))
    batch.add_rule(table, chain, *anywhere, Lookup(PUBLISHED_ANY, into=FIRST_REGISTER), translate)


def _add_forward(batch: Batch, table: str, prefix: str) -> None:
    chain = "forward"
    batch.add_chain(table, chain, Base("filter", Hook.FORWARD, 0))
    batch.add_rule(table, chain, *in_state(CT_ESTABLISHED | CT_RELATED), ACCEPT)
    batch.add_rule(table, chain, *leaves_by(prefix), *destination_translated(), ACCEPT)
    batch.add_rule(table, chain, *leaves_by(prefix), DROP)


def _add_postrouting(batch: Batch, table: str, links: Links) -> None:
    chain = "postrouting"
    batch.add_chain(table, chain, Base("nat", Hook.POSTROUTING, 100))
    batch.add_rule(table, chain, *source_within(links.pool), *leaves_by_other_than(links.prefix), Masquerade())
    # A task that asks its own published port would get a packet from itself, which it drops.
    oneself = (source(FIRST_WORD), destination(FIRST_WORD + 1), Lookup(SELVES))
    batch.add_rule(table, chain, *oneself, Masquerade())
    batch.add_rule(table, chain, *from_loopback(), *leaves_by(links.prefix), Masquerade())


def place(publication: Publication) -> Place:
    return publication.transport, publication.address, publication.port


def publication_elements(publications: Iterable[Publication]) -> dict[str, list[Element]]:
    """Return the elements of each map of published ports."""
    found: dict[str, list[Element]] = {PUBLISHED: [], PUBLISHED_ANY: []}
    for publication in publications:
        name, element = publication_element(publication)
        found[name].append(element)
    return found


def self_element(target: IPv4Address) -> Element:
    """Return the element by which a task that asks its own published port is known."""
    return Element(target.packed * 2)


def publication_element(publication: Publication) -> tuple[str, Element]:
    """Return the map of a published port, and its element there."""
    key = pad(bytes((PROTOCOLS[publication.transport],))) + pad(publication.port.to_bytes(2, "big"))
    value = publication.target.packed + pad(publication.target_port.to_bytes(2, "big"))
    if publication.address == ANY_ADDRESS:
        return PUBLISHED_ANY, Element(key, value)
    return PUBLISHED, Element(publication.address.packed + key, value)


def read_publication(element: Element) -> Publication:
    """Return the published port of an element of either map."""
    value = element.value
    assert isinstance(value, bytes), "both maps hold addresses and ports"
    key = element.key if len(element.key) == 12 else ANY_ADDRESS.packed + element.key
    transport: Transport = "tcp" if key[4] == PROTOCOLS["tcp"] else "udp"
    port, target_port = (int.from_bytes(raw, "big") for raw in (key[8:10], value[4:6]))
    return Publication(transport, IPv4Address(key[:4]), port, IPv4Address(value[:4]), target_port)


def pad(value: bytes) -> bytes:
    """Return a field as it stands in a concatenation."""
    return value + bytes(-len(value) % 4)
