"""Subnets of networks, and the addresses within one."""

from __future__ import annotations

from ipaddress import IPv4Network

import msgspec
import pytest

from manager.allocator.addresses import REUSE_AFTER_S, AddressPool
from manager.allocator.subnets import FIRST_VNI, LAST_VNI, Taken, allocated, pick_subnet, pick_vni
from swarmpy.model.network import Network, NetworkSpec
from swarmpy.model.states import NetworkDriver

SINCE_EVER = float("-inf")


def network(subnet: str, *, cursor: int = 0, ip_range: str = "", gateway: str = "") -> Network:
    made = Network(id="n", spec=NetworkSpec(name="web", subnet=subnet, ip_range=ip_range, gateway=gateway))
    return msgspec.structs.replace(allocated(made, Taken(()), (), 24), cursor=cursor)


def all_of(pool: AddressPool, now_s: float = 0.0) -> list[str]:
    taken = []
    while (address := pool.take(now_s)) is not None:
        taken.append(address)
    return taken


def test_the_ends_and_the_gateway_are_given_to_nobody() -> None:
    pool = AddressPool(network("10.1.0.0/29"), SINCE_EVER)
    assert all_of(pool) == ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"]
    assert pool.size == 5
    other = AddressPool(network("10.1.0.0/29", gateway="10.1.0.6"), SINCE_EVER)
    assert all_of(other) == ["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"]


def test_addresses_come_from_the_range_only() -> None:
    pool = AddressPool(network("10.1.0.0/24", ip_range="10.1.0.252/30"), SINCE_EVER)
    assert all_of(pool) == ["10.1.0.252", "10.1.0.253", "10.1.0.254"]


def test_an_address_rests_after_its_release() -> None:
    pool = AddressPool(network("10.1.0.0/29"), SINCE_EVER)
    all_of(pool)
    pool.release("10.1.0.3", 100.0)
    pool.release("10.1.0.2", 110.0)
    assert pool.take(100.0 + REUSE_AFTER_S - 1) is None
    assert pool.next_free_s(100.0) == 100.0 + REUSE_AFTER_S
    assert pool.take(100.0 + REUSE_AFTER_S) == "10.1.0.3"
    assert pool.next_free_s(130.0) == 110.0 + REUSE_AFTER_S
    assert pool.take(110.0 + REUSE_AFTER_S) == "10.1.0.2"
    assert pool.next_free_s(200.0) is None


def test_one_that_was_never_used_need_not_rest() -> None:
    pool = AddressPool(network("10.1.0.0/29"), SINCE_EVER)
    all_of(pool)
    pool.give_back("10.1.0.4")
    assert pool.take(0.0) == "10.1.0.4"


def test_a_new_leader_goes_on_where_the_last_one_was() -> None:
    first = AddressPool(network("10.1.0.0/28"), SINCE_EVER)
    given = [first.take(0.0) for _ in range(4)]
    second = AddressPool(network("10.1.0.0/28", cursor=first.cursor), known_since_s=50.0)
    second.hold("10.1.0.2")
    fresh = all_of(second, 50.0)
    assert not set(fresh) & set(given)
    assert len(fresh) == second.size - 4, "what was never given need not be waited for"
    assert second.next_free_s(50.0) == 50.0 + REUSE_AFTER_S
    assert sorted(all_of(second, 50.0 + REUSE_AFTER_S)) == ["10.1.0.3", "10.1.0.4", "10.1.0.5"]


def test_once_around_everything_is_in_doubt_for_a_new_leader() -> None:
    pool = AddressPool(network("10.1.0.0/29", cursor=9), known_since_s=0.0)
    assert pool.free(1.0) == 0
    assert pool.take(1.0) is None
    assert pool.take(REUSE_AFTER_S) == "10.1.0.2"


def test_a_subnet_is_the_first_that_overlaps_nothing() -> None:
    taken = [IPv4Network(t) for t in ("10.0.0.0/24", "10.0.1.0/25", "10.0.2.7/32", "10.0.4.0/22", "9.0.0.0/8")]
    assert pick_subnet(["10.0.0.0/8"], 24, taken) == IPv4Network("10.0.3.0/24")
    assert pick_subnet(["10.0.0.0/23"], 24, taken) is None
    assert pick_subnet(["10.0.0.0/23", "10.9.0.0/16"], 16, taken) == IPv4Network("10.9.0.0/16")
    assert pick_subnet(["10.0.0.0/22"], 24, [IPv4Network("10.0.0.0/14")]) is None


def test_subnets_that_are_asked_for_are_kept_clear_before_they_are_given() -> None:
    asked = Network(id="a", spec=NetworkSpec(name="a", subnet="10.0.0.0/24"))
    picked = allocated(Network(id="b", spec=NetworkSpec(name="b")), Taken((asked,)), ["10.0.0.0/8"], 24)
    assert (picked.subnet, picked.gateway) == ("10.0.1.0/24", "10.0.1.1")


def test_no_subnet_is_a_problem_that_says_what_to_do() -> None:
    full = Taken((), (IPv4Network("10.0.0.0/24"),))
    lacking = allocated(Network(id="b", spec=NetworkSpec(name="b")), full, ["10.0.0.0/24"], 24)
    assert lacking.subnet == ""
    assert lacking.problem == ("no subnet of /24 is free in 10.0.0.0/24: remove a network, or create it with --subnet")


@pytest.mark.parametrize(
    ("used", "last", "number"),
    [((), 0, FIRST_VNI), ((4097, 4100), 0, 4101), ((4097,), 5000, 5001), ((4097, 4099, LAST_VNI), 0, 4098)],
)
def test_numbers_go_up_until_there_are_no_more(used: tuple[int, ...], last: int, number: int) -> None:
    networks = [Network(id=str(vni), vni=vni) for vni in used]
    assert pick_vni(Taken(networks, last_vni=last)) == number


def test_a_bridge_needs_no_number() -> None:
    local = Network(id="b", spec=NetworkSpec(name="b", driver=NetworkDriver.BRIDGE))
    assert allocated(local, Taken(()), ["10.0.0.0/8"], 24).vni == 0
