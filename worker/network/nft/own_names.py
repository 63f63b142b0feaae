"""Leads what a task asks of its name server to another port, so that the task can have port 53 for itself."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Final

from worker.network.nft import dump
from worker.network.nft.batch import Base, Batch, Element, Field, Hook, Set
from worker.network.nft.expressions import FIRST_REGISTER, FIRST_WORD, Compare, DestinationNat, Lookup
from worker.network.nft.phrases import PROTOCOLS, destination, destination_port, protocol
from worker.network.nft.sock import Netfilter

TABLE: Final = "swarmpy-names"
LAYOUT: Final = "swarmpy names 1"
OUTPUT: Final = "output"
SERVER: Final = "server"
DNS_PORT: Final = 53


def lead_names(sock: Netfilter, server: IPv4Address, port: int) -> None:
    """Lead what is sent to port 53 of `server` from this namespace to another port of it; may be repeated.

    Args:
        sock: opened in the task's namespace.

    Raises:
        SwarmError: the kernel refuses.
    """
    comment = f"{LAYOUT} {server}:{port}"
    there = next((row.comment for row in dump.tables(sock) if row.name == TABLE), None)
    if there == comment:
        return
    batch = Batch()
    if there is not None:
        batch.delete_table(TABLE)
    batch.add_table(TABLE, comment)
    batch.add_set(TABLE, Set(SERVER, (Field.ADDRESS,), (Field.ADDRESS, Field.PORT)))
    where = server.packed + port.to_bytes(2) + bytes(2)
    batch.add_elements(TABLE, SERVER, [Element(server.packed, where)])
    batch.add_chain(TABLE, OUTPUT, Base("nat", Hook.OUTPUT, -100))
    asked = (destination_port(FIRST_REGISTER), Compare(DNS_PORT.to_bytes(2)))
    led = (destination(), Lookup(SERVER, into=FIRST_REGISTER), DestinationNat(FIRST_REGISTER, FIRST_WORD + 1))
    for number in PROTOCOLS.values():
        batch.add_rule(TABLE, OUTPUT, *protocol(number), *asked, *led)
    sock.commit(batch)
