"""Numbers of published ports, on addresses."""

from __future__ import annotations

from manager.allocator.plan import Pools, allocate
from manager.allocator.ports import PortNumbers
from swarmpy.model.endpoints import PublishMode
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import EndpointSpec, PortSpec, ServiceSpec


def service(*ports: PortSpec) -> Service:
    return Service(id="s", spec=ServiceSpec(name="web", endpoint=EndpointSpec(ports=ports)))


def test_a_number_may_be_had_once_on_each_address() -> None:
    numbers = PortNumbers(1, 3)
    assert numbers.hold(1, "10.0.0.5")
    assert numbers.hold(1, "10.0.0.6")
    assert not numbers.hold(1, "10.0.0.5")
    assert not numbers.hold(1, ""), "a data address may be one of them"
    assert not numbers.hold(1, "0.0.0.0")
    numbers.release(1, "10.0.0.6")
    assert numbers.take() == 2, "what is had somewhere is not free"
    numbers.release(1, "10.0.0.5")
    assert [numbers.take(), numbers.take(), numbers.take()] == [3, 1, None]


def test_what_tasks_take_on_their_nodes_is_not_given_to_others() -> None:
    numbers = PortNumbers(1, 2)
    numbers.hold_on_hosts(1)
    numbers.hold_on_hosts(1)
    assert [numbers.take(), numbers.take()] == [2, None]
    numbers.release_on_hosts(1)
    assert numbers.take() is None
    numbers.release_on_hosts(1)
    numbers.release_on_hosts(1)  # once too often
    assert numbers.take() == 1


def test_a_service_is_given_ports_on_addresses_and_gives_them_back() -> None:
    pools = Pools()
    chosen = service(PortSpec(target=80, published=8080, address="10.0.0.5"))
    first = allocate(chosen, pools)
    assert first.endpoint.ports[0].address == "10.0.0.5"
    assert allocate(chosen, pools).problem == "port 8080/tcp is published by another service"
    pools.release(first.endpoint)
    assert not allocate(chosen, pools).problem


def test_any_number_of_services_may_have_a_port_in_mode_host() -> None:
    pools = Pools()
    on_host = service(PortSpec(target=80, published=30000, mode=PublishMode.HOST), PortSpec(target=81))
    given = [allocate(on_host, pools).endpoint for _ in range(2)]
    assert [[p.published for p in endpoint.ports] for endpoint in given] == [[30000, 30001], [30000, 30002]]
    for endpoint in given:
        pools.release(endpoint)
    assert allocate(service(PortSpec(target=1, published=30000)), pools).endpoint != Endpoint()
