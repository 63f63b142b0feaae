"""What every node's data plane is told: services, their ports, and the backends that may serve them.

Derived by the leader's dispatcher from stored objects, and stored nowhere itself. An update is encoded once
(MessagePack), passes through each worker as opaque bytes, and is decoded only by the data planes.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from swarmpy.model.base import Model
from swarmpy.model.network import NetworkAddress, NetworkRow


class Transport(enum.IntEnum):
    """The transport protocol of a port."""

    TCP = 0
    UDP = 1


class AppProtocol(enum.IntEnum):
    """How the balancer treats a connection: as bytes, or as HTTP/1.1 messages with known ends."""

    TCP = 0
    HTTP = 1


class PublishMode(enum.IntEnum):
    """Where a port is published: on every node through the balancer, or on the task's node only."""

    INGRESS = 0
    HOST = 1


class ServicePort(Model, frozen=True):
    """One port of a service that the balancer serves.

    `published` is the port on every node, 0 if the port is reachable through the VIP only. It is on `address`, where a
    node has that; without one it is on the node's data address. `proxy_protocol` is the version of the PROXY header
    that tells the task the client's address, 0 for none.
    """

    target: int
    published: int = 0
    transport: Transport = Transport.TCP
    app_protocol: AppProtocol = AppProtocol.TCP
    mode: PublishMode = PublishMode.INGRESS
    name: str = ""
    address: str = ""
    proxy_protocol: int = 0


EVERY_ADDRESS: Final = "0.0.0.0"


def addresses_meet(one: str, other: str) -> bool:
    """Tell whether one port cannot be published on both: no address given is each node's data address, so any."""
    return one == other or not {"", EVERY_ADDRESS}.isdisjoint((one, other))


class HostPort(Model, frozen=True):
    """Where a task listens for one target port: `port` on `address`, or on its node's data address if that is empty."""

    target: int
    port: int
    transport: Transport = Transport.TCP
    address: str = ""

    def reached_at(self, data_addr: str) -> str:
        """Return an address at which the task is reached from its own node, whose data address is given."""
        return data_addr if self.address in ("", EVERY_ADDRESS) else self.address


class ServiceNetwork(Model, frozen=True):
    """A network that a service is on. `vip` is its virtual address there, empty with round-robin names.

    On this network, and there only, the `aliases` are names of the service like its own.
    """

    network_id: str
    vip: str = ""
    aliases: tuple[str, ...] = ()


class ServiceEndpoint(Model, frozen=True):
    """A service as names and listeners see it.

    `vip_index` (1..65534) is cluster-wide; each node renders it in its own loopback /16.
    `stack` is the stack's name or empty: `<short>.<stack>.swarm` names the service too.
    Tasks on a network find the services that have it in `networks`; tasks on none find them by `vip_index`.
    """

    service_id: str
    name: str
    vip_index: int = 0
    ports: tuple[ServicePort, ...] = ()
    stack: str = ""
    dnsrr: bool = False
    networks: tuple[ServiceNetwork, ...] = ()


class Backend(Model, frozen=True):
    """A task that may serve: desired and actually RUNNING, and ready. `address` is its node's data address."""

    task_id: str
    service_id: str
    slot: int
    node_id: str
    address: str
    ports: tuple[HostPort, ...] = ()


class Neighbour(Model, frozen=True):
    """A task that has addresses on networks, from being assigned to a node until it is known to have stopped.

    `node_addr` is its node's data address. Whether it may be given connections is said by its `Backend`.
    """

    task_id: str
    service_id: str
    slot: int
    node_id: str
    node_addr: str
    addresses: tuple[NetworkAddress, ...] = ()


class EndpointsUpdate(Model, frozen=True):
    """A change of the endpoints, up to and including store revision `revision`.

    With `complete` the update replaces everything known; without it, `services`, `backends`, `networks` and
    `neighbours` are added or replaced by id (backends and neighbours: their task's), and the removed ids are withdrawn.
    Withdrawing a service withdraws its backends; neighbours stay, also those on a network that is withdrawn.
    Updates arrive in rising order of `revision`.
    """

    revision: int
    complete: bool = False
    services: tuple[ServiceEndpoint, ...] = ()
    removed_services: tuple[str, ...] = ()
    backends: tuple[Backend, ...] = ()
    removed_backends: tuple[str, ...] = ()
    networks: tuple[NetworkRow, ...] = ()
    removed_networks: tuple[str, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    removed_neighbours: tuple[str, ...] = ()


ENCODER: Final = msgspec.msgpack.Encoder()
DECODER: Final = msgspec.msgpack.Decoder(EndpointsUpdate)
