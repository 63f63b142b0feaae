"""A port published in mode host is had by one task of a node."""

from __future__ import annotations

import msgspec

from manager.scheduler.filters import Demand, host_port
from manager.scheduler.fleet import Fleet, need_of
from manager.scheduler.place import place
from swarmpy.model.endpoints import PublishMode, ServicePort, Transport
from swarmpy.model.service import ServiceVersion
from tests.unit.manager.scheduler.test_place import make_node, make_version


def on_host(number: int, *, address: str = "", transport: Transport = Transport.TCP) -> ServiceVersion:
    port = ServicePort(target=80, published=number, mode=PublishMode.HOST, address=address, transport=transport)
    return msgspec.structs.replace(make_version(), ports=(port,))


def test_tasks_with_one_port_go_to_different_nodes_and_the_rest_waits() -> None:
    fleet = Fleet()
    for name in ("a", "b"):
        fleet.set_node(make_node(name))
    placement = place(Demand.of(on_host(8080)), ["1", "2", "3"], fleet.nodes, 0.0)
    assert placement.nodes == {"1": "a", "2": "b"}
    assert placement.reason == "no suitable node (host-mode port already in use on 2 nodes)"


def test_a_port_is_taken_on_its_address_and_transport_only() -> None:
    fleet = Fleet()
    fleet.set_node(make_node("a"))
    fleet.place("t", "a", need_of(on_host(8080, address="10.0.0.5")))
    info = fleet.nodes["a"]

    def taken(version: ServiceVersion) -> bool:
        return host_port(Demand.of(version), info) is not None

    assert taken(on_host(8080, address="10.0.0.5"))
    assert taken(on_host(8080)), "the data address may be that one"
    assert taken(on_host(8080, address="0.0.0.0"))
    assert not taken(on_host(8080, address="10.0.0.6"))
    assert not taken(on_host(8081))
    assert not taken(on_host(8080, transport=Transport.UDP))
    fleet.release("t")
    assert not taken(on_host(8080))
