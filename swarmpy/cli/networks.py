"""Networks as rows and as JSON documents, in the names of the Docker Engine API; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swarmpy.cli.documents import Document, in_order
from swarmpy.cli.human import short_id, timestamp
from swarmpy.model.network import BRIDGE, HOST, NONE, Network, NetworkAddress, NetworkSpec
from swarmpy.model.node import Node
from swarmpy.model.service import Service
from swarmpy.model.states import NetworkDriver, word
from swarmpy.model.task import Task
from swarmpy.notation.ports import protocol_word


@dataclass(frozen=True)
class Listed:
    """A network as it is shown: one of the cluster, or one that every node has."""

    id: str
    spec: NetworkSpec
    driver: str
    scope: str
    network: Network | None = None

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_predefined(self) -> bool:
        return self.network is None


def of_cluster(network: Network) -> Listed:
    """Return a stored network."""
    local = network.spec.driver is NetworkDriver.BRIDGE
    return Listed(network.id, network.spec, word(network.spec.driver), "local" if local else "swarm", network)


def predefined() -> tuple[Listed, ...]:
    """Return the networks that every node has: their names are their ids."""
    drivers = {BRIDGE: "bridge", HOST: "host", NONE: "null"}
    return tuple(Listed(name, NetworkSpec(name=name), driver, "local") for name, driver in drivers.items())


def network_row(one: Listed, *, no_trunc: bool) -> dict[str, Any]:
    """Return a row of `network ls`."""
    return {
        "ID": short_id(one.id, no_trunc=no_trunc),
        "Name": one.name,
        "Driver": one.driver,
        "Scope": one.scope,
        "IPv4": one.name not in (HOST, NONE),
        "IPv6": False,
        "Internal": one.spec.internal,
        "Labels": in_order(one.spec.labels),
        "CreatedAt": timestamp(one.network.created_at) if one.network else "",
    }


def network_document(one: Listed) -> Document:
    """Return a network as `network inspect` shows it."""
    network, spec = one.network, one.spec
    document: Document = {"Name": one.name, "Id": one.id}
    config: Document = {}
    if network is not None:
        document |= {"Created": timestamp(network.created_at), "Version": {"Index": network.version}}
        config = {"Subnet": network.subnet, "IPRange": spec.ip_range, "Gateway": network.gateway}
    document |= {
        "Scope": one.scope,
        "Driver": one.driver,
        "EnableIPv4": one.name not in (HOST, NONE),
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Config": [{key: value for key, value in config.items() if value}] if config.get("Subnet") else [],
        },
        "Internal": spec.internal,
        "Attachable": spec.attachable,
        "Ingress": False,
        "Options": _options(one),
        "Labels": in_order(spec.labels),
    }
    if network is not None and network.problem:
        document["Problem"] = network.problem
    return document


def service_documents(
    network_id: str, services: Iterable[Service], tasks: Sequence[Task], nodes: Mapping[str, Node]
) -> Document:
    """Return services with their virtual address and their tasks on one network, by name."""
    return {
        service.name: {
            "VIP": _address(service.endpoint.vips, network_id),
            "Ports": [f"Target: {p.target}, Publish: {p.published}/{protocol_word(p)}" for p in service.endpoint.ports],
            "Tasks": [
                _task(service, task, network_id, nodes)
                for task in sorted(tasks, key=lambda t: (t.slot, t.id))
                if task.service_id == service.id and not task.state.is_stopped and _address(task.networks, network_id)
            ],
        }
        for service in sorted(services, key=lambda s: s.name)
    }


def _task(service: Service, task: Task, network_id: str, nodes: Mapping[str, Node]) -> Document:
    node = nodes.get(task.node_id)
    return {
        "Name": f"{service.name}.{task.slot}.{task.id}",
        "EndpointIP": _address(task.networks, network_id),
        "Info": {"Host IP": node.data_addr if node else ""},
    }


def _address(addresses: Iterable[NetworkAddress], network_id: str) -> str:
    return next((a.address for a in addresses if a.network_id == network_id), "")


def _options(one: Listed) -> Document:
    options = in_order(one.spec.options)
    if one.network is not None and one.network.vni:
        options["com.docker.network.driver.overlay.vxlanid_list"] = str(one.network.vni)
    return options
