"""Subnets and addresses of a node's tasks."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from swarmpy.errors import Code, SwarmError
from worker.network.link.pool import POOLS, QUARANTINE_S, Leases, pick_subnet

SMALL = IPv4Network("172.18.0.0/29")


def test_the_first_subnet_that_nothing_overlaps() -> None:
    assert pick_subnet([]) == IPv4Network("172.18.0.0/20")
    taken = [IPv4Network("0.0.0.0/0"), IPv4Network("172.18.4.0/24"), IPv4Network("172.18.16.0/20")]
    assert pick_subnet(taken) == IPv4Network("172.18.32.0/20")
    assert pick_subnet([IPv4Network("172.16.0.0/12")]) == IPv4Network("192.168.0.0/20")
    assert pick_subnet([], start=10**9) != pick_subnet([])


def test_a_machine_that_uses_all_of_them() -> None:
    with pytest.raises(SwarmError, match=r"no /20 of 172.18.0.0/15, .* give this node another pool") as refused:
        pick_subnet(POOLS)
    assert refused.value.code is Code.RESOURCE_EXHAUSTED


def test_pools_of_the_node() -> None:
    assert pick_subnet([], [IPv4Network("10.9.0.0/24")]) == IPv4Network("10.9.0.0/24")
    with pytest.raises(SwarmError, match=r"10.9.0.0/30 is too small"):
        pick_subnet([], [IPv4Network("10.9.0.0/30")])


def test_the_same_owner_has_the_same_address() -> None:
    leases = Leases(SMALL)
    assert leases.gateway == IPv4Address("172.18.0.1")
    assert leases.allocate("a", 0) == leases.allocate("a", 50) == IPv4Address("172.18.0.2")
    assert leases.release("nobody", 0) is None


def test_addresses_come_back_late_and_in_turn() -> None:
    leases = Leases(SMALL)
    first = leases.allocate("a", 0.0)
    leases.release("a", 1.0)
    others = [leases.allocate(owner, 1.0) for owner in "bcde"]
    assert first not in others
    with pytest.raises(SwarmError, match=r"172.18.0.0/29 has no free address: 4 of 5 are in use, 1 .* 30 s") as refused:
        leases.allocate("f", 1.0 + QUARANTINE_S - 0.1)
    assert refused.value.retryable
    assert leases.allocate("f", 1.0 + QUARANTINE_S) == first
