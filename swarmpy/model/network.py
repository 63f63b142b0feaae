"""A network of the cluster: what tasks share to reach each other, with a range of addresses and a number of its own."""

from __future__ import annotations

from typing import Final

from swarmpy.model.base import Model
from swarmpy.model.states import NetworkDriver

HOST: Final = "host"
NONE: Final = "none"
BRIDGE: Final = "bridge"
INGRESS: Final = "ingress"

PREDEFINED: Final = (BRIDGE, HOST, NONE)
"""Every node has these, under these names and with no row: its gateway bridge, its own network, and no network."""

MTU: Final = "mtu"
DOCKER_MTU: Final = "com.docker.network.driver.mtu"
OPTIONS: Final = (MTU, DOCKER_MTU)


class NetworkSpec(Model, frozen=True):
    """What the user decides about a network. An empty `subnet` is picked by the allocator, so is the `gateway`.

    `ip_range` is the part of the subnet that addresses are given from. An overlay spans the nodes; a bridge is one
    on each node, and its tasks reach those of the same node only. An `internal` one has no way out.
    """

    name: str = ""
    labels: dict[str, str] = {}
    driver: NetworkDriver = NetworkDriver.OVERLAY
    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}


class Network(Model, frozen=True):
    """Writers: `spec` the API; the rest the allocator.

    `subnet` (CIDR), `gateway` and `vni` (0 with the driver bridge) never change once they are there; `problem` says why
    they are not. `cursor` counts, in addresses of the range and without ever starting over, how far the search for free
    ones has come: a new leader gives none again that was given a moment before.
    """

    id: str
    spec: NetworkSpec = NetworkSpec()
    version: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0
    subnet: str = ""
    gateway: str = ""
    vni: int = 0
    problem: str = ""
    cursor: int = 0

    @property
    def name(self) -> str:
        return self.spec.name


class NetworkAddress(Model, frozen=True):
    """An IPv4 address on a network: of a task, or the virtual one of a service."""

    network_id: str
    address: str


class NetworkRow(Model, frozen=True):
    """What nodes are told of a network. `mtu` 0 leaves it to the node.

    With `local` each node has a network of its own: its tasks reach those of the same node only.
    """

    id: str
    name: str = ""
    subnet: str = ""
    gateway: str = ""
    vni: int = 0
    mtu: int = 0
    internal: bool = False
    local: bool = False


def mtu_of(spec: NetworkSpec) -> int:
    """Return the MTU that the user wants, in bytes; 0 leaves it to the nodes."""
    return int(spec.options.get(MTU) or spec.options.get(DOCKER_MTU) or 0)


def network_row(network: Network) -> NetworkRow:
    """Return what nodes are told of an allocated network."""
    return NetworkRow(
        id=network.id,
        name=network.name,
        subnet=network.subnet,
        gateway=network.gateway,
        vni=network.vni,
        mtu=mtu_of(network.spec),
        internal=network.spec.internal,
        local=network.spec.driver is NetworkDriver.BRIDGE,
    )
