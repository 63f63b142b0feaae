"""What services get, and that nothing is given twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from manager.allocator.plan import FIRST_DYNAMIC_PORT, LAST_DYNAMIC_PORT, Pools, allocate
from manager.allocator.pools import Pool
from swarmpy.model.endpoints import Transport
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import EndpointSpec, PortSpec, ServiceSpec
from swarmpy.model.states import EndpointMode


def service(*ports: PortSpec, endpoint: Endpoint | None = None, mode: EndpointMode = EndpointMode.VIP) -> Service:
    spec = ServiceSpec(name="web", endpoint=EndpointSpec(mode=mode, ports=ports))
    return Service(id="s", spec=spec, endpoint=endpoint or Endpoint())


def test_a_fixed_port_is_kept_and_a_free_one_is_picked() -> None:
    given_ports = allocate(service(PortSpec(target=80), PortSpec(target=81, published=30000)), Pools())
    assert not given_ports.problem
    published = {p.target: p.published for p in given_ports.endpoint.ports}
    assert published == {81: 30000, 80: 30001}
    assert given_ports.endpoint.vip_index == 1


def test_what_a_service_has_it_keeps_when_a_port_is_added() -> None:
    pools = Pools()
    first = allocate(service(PortSpec(target=80)), pools).endpoint
    other = allocate(service(PortSpec(target=90)), pools).endpoint
    again = allocate(service(PortSpec(target=70), PortSpec(target=80), endpoint=first), pools).endpoint
    assert again.vip_index == first.vip_index
    assert first.ports[0] in again.ports
    assert not {p.published for p in again.ports} & {p.published for p in other.ports}


def test_a_port_that_is_taken_is_a_problem_and_changes_nothing() -> None:
    pools = Pools()
    allocate(service(PortSpec(target=80, published=8080)), pools)
    second = allocate(service(PortSpec(target=80, published=8080)), pools)
    assert second.problem == "port 8080/tcp is published by another service"
    assert second.endpoint == Endpoint()
    assert pools.vips.hold(2)


def test_a_port_may_be_reachable_by_name_only() -> None:
    endpoint = allocate(service(PortSpec(target=80, publish=False)), Pools()).endpoint
    assert endpoint.ports[0].published == 0


def test_round_robin_names_need_no_virtual_address() -> None:
    assert allocate(service(mode=EndpointMode.DNSRR), Pools()).endpoint.vip_index == 0


def test_exhaustion_says_what_to_do() -> None:
    pools = Pools()
    for _ in range(FIRST_DYNAMIC_PORT, LAST_DYNAMIC_PORT + 1):
        pools.ports[Transport.TCP].take()
    assert "name a published port yourself" in allocate(service(PortSpec(target=80)), pools).problem


@given(st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=40))
def test_a_pool_never_gives_a_number_twice(steps: list[int | None]) -> None:
    pool, held = Pool(0, 5), set[int]()
    for step in steps:
        if step is None:
            number = pool.take()
            assert (number is None) == (held >= set(range(6)))
            if number is not None:
                assert number not in held
                held.add(number)
        elif step in held:
            assert not pool.hold(step)
            pool.release(step)
            held.remove(step)
        else:
            assert pool.hold(step)
            held.add(step)


def test_a_number_that_was_given_back_comes_last() -> None:
    pool = Pool(1, 3)
    assert [pool.take(), pool.take()] == [1, 2]
    pool.release(1)
    assert [pool.take(), pool.take(), pool.take()] == [3, 1, None]
