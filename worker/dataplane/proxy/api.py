"""What the data plane process and the balancer tell each other."""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from swarmpy.model.endpoints import Transport

TransportName = Literal["tcp", "udp"]
TRANSPORT_NAMES: Final[dict[Transport, TransportName]] = {Transport.TCP: "tcp", Transport.UDP: "udp"}

SPARE_DESCRIPTORS: Final = 64
"""Descriptors left for listeners, logs, sockets of the control side, and the event loop."""


_MOST_FLOWS: Final = 16384


class ListenKey(NamedTuple):
    """Where a listener is bound: an address of this node and a port."""

    address: str
    port: int
    transport: TransportName = "tcp"


def descriptor_budget() -> int:
    """Return how many connections the soft limit of open files allows, at two descriptors each."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    return max(1, (soft - SPARE_DESCRIPTORS) // 2)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the balancer. What is beyond them is refused and counted, never queued without end.

    Attributes:
        max_connections: client connections of the whole process; one service holds no more than it leaves free.
        max_connections_per_service: client connections of one service; None leaves the bound above only.
        reclaim_idle_s: a service at its bound gets a new connection in place of one without a byte for this long.
        max_held: client connections that wait for a backend, in the whole process.
        hold_s: how long a connection waits for a backend before it is closed (HTTP: answered with 503).
        connect_timeout_s: how long one backend may take to accept before the next one is tried.
        rest_s: how long a backend that failed to accept is passed over while others are there.
        high_water_bytes: most bytes kept for a slow reader, each way; the sender is not read meanwhile.
        replay_bytes: largest HTTP request kept to be sent again when a reused backend connection was dead.
        linger_s: how long an HTTP client that was answered and told to go is read before it is cut.
        idle_timeout_s: connections without a byte for this long are cut; None cuts none.
        farewell_s: how long `Balancer.drain` waits for HTTP clients to ask once more and be told to go.
        drain_s: how long `Balancer.close` lets connections end by themselves.
        max_flows: UDP clients of the whole process; one service has no more than it leaves free.
        flow_idle_s: a UDP client is forgotten once it has been silent for this long, or up to a minute longer.
        reclaim_flow_s: a service at its bound gets a new UDP client in place of one that was silent for this long.
        answer_s: how long a withdrawn backend may answer what it was asked by UDP.
    """

    max_connections: int = field(default_factory=descriptor_budget)
    max_connections_per_service: int | None = None
    reclaim_idle_s: float = 30.0
    max_held: int = 1024
    hold_s: float = 10.0
    connect_timeout_s: float = 3.0
    rest_s: float = 1.0
    high_water_bytes: int = 64 * 1024
    replay_bytes: int = 64 * 1024
    linger_s: float = 2.0
    idle_timeout_s: float | None = None
    farewell_s: float = 2.0
    drain_s: float = 5.0
    max_flows: int = field(default_factory=lambda: min(_MOST_FLOWS, descriptor_budget() // 4))
    flow_idle_s: float = 60.0
    reclaim_flow_s: float = 1.0
    answer_s: float = 1.0


@dataclass(frozen=True, slots=True)
class CounterRow:
    """Counts of one target port of a service, or of one backend of it, since the balancer started.

    Attributes:
        service_id: the service.
        port: the service's target port.
        task_id: the backend, or empty for what clients did, all listeners of the port together.
        connections: accepted from clients, or opened to the backend.
        active: open now.
        failed: connects to the backend that were refused or timed out; for clients, cut by an error.
        refused: clients turned away by a limit, or because no backend came in time.
        reclaimed: idle clients cut to make room for new ones, as the service held all that it may.
        held: clients that had to wait for a backend.
        requests: HTTP requests answered in full, 0 for TCP.
        transport: of the port; a UDP client counts as a connection as long as it is known.
        bytes_in: from clients to backends.
        bytes_out: from backends to clients.
    """

    service_id: str
    port: int
    task_id: str = ""
    connections: int = 0
    active: int = 0
    failed: int = 0
    refused: int = 0
    reclaimed: int = 0
    held: int = 0
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    transport: TransportName = "tcp"
