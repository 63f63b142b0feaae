"""A small DNS zone, and queries that it answers."""

from __future__ import annotations

import dnslib

from swarmpy.model.endpoints import EndpointsUpdate
from tests.support.dataplane import service, task
from worker.dataplane.dns.zone import Zone
from worker.dataplane.endpoints import EndpointTable


def a_zone() -> Zone:
    """Return a zone with one service, `web`: VIP 127.93.0.5, one task on the node 10.9.8.7."""
    table = EndpointTable()
    zone = Zone(table, server_address="127.0.0.1")
    zone.vip_prefix = "127.93"
    change = table.apply(
        EndpointsUpdate(
            revision=1, services=(service("web", vip=5),), backends=(task("t1", "web", address="10.9.8.7"),)
        )
    )
    assert change is not None
    zone.apply(change)
    return zone


def query(number: int = 7) -> bytes:
    """Return a query for `web` with an id."""
    return bytes(dnslib.DNSRecord(dnslib.DNSHeader(id=number), q=dnslib.DNSQuestion("web.swarm")).pack())


def framed(message: bytes) -> bytes:
    """Return a message as it goes over TCP."""
    return len(message).to_bytes(2, "big") + message
