"""Laws of a node's addresses and of what its networks know of other nodes."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from swarmpy.errors import SwarmError
from worker.network.link.forwarding import Entries, Neighbour, Remote, difference, entries
from worker.network.link.pool import POOLS, QUARANTINE_S, Leases, pick_subnet

NETWORKS = st.builds(
    lambda base, bits: IPv4Network((base, bits), strict=False), st.integers(0, 2**32 - 1), st.integers(1, 32)
)
NEAR = st.one_of(NETWORKS, st.sampled_from([n for pool in POOLS for n in pool.subnets(new_prefix=20)]))


@given(st.lists(NEAR, max_size=300), st.integers(0, 10**6))
def test_a_picked_subnet_overlaps_nothing(taken: list[IPv4Network], start: int) -> None:
    try:
        picked = pick_subnet(taken, start=start)
    except SwarmError:
        assert all(any(n.overlaps(t) for t in taken) for pool in POOLS for n in pool.subnets(new_prefix=20))
    else:
        assert not any(picked.overlaps(network) for network in taken)
        assert any(picked.subnet_of(pool) for pool in POOLS)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.floats(0, 20)), max_size=60))
def test_no_address_has_two_owners_or_comes_back_early(steps: list[tuple[bool, int, float]]) -> None:
    leases = Leases(IPv4Network("172.18.0.0/28"))
    freed: dict[IPv4Address, float] = {}
    now_s = 0.0
    for allocate, number, passed_s in steps:
        now_s += passed_s
        if not allocate:
            if (address := leases.release(str(number), now_s)) is not None:
                freed[address] = now_s
            continue
        known = leases.held.get(str(number))
        try:
            address = leases.allocate(str(number), now_s)
        except SwarmError:
            recent = sum(now_s - at < QUARANTINE_S for a, at in freed.items() if a not in leases.held.values())
            assert len(leases.held) + recent >= leases.size
            continue
        assert known in (None, address)
        assert address in leases.subnet
        assert address not in (leases.gateway, leases.subnet.network_address, leases.subnet.broadcast_address)
        if known is None:
            assert now_s - freed.pop(address, -QUARANTINE_S) >= QUARANTINE_S
        assert len(set(leases.held.values())) == len(leases.held)


NEIGHBOURS = st.lists(
    st.builds(
        Neighbour,
        st.integers(0, 15).map(lambda n: IPv4Address("10.0.1.2") + n),
        st.one_of(st.integers(0, 3).map(lambda n: IPv4Address("192.0.2.1") + n), st.just(IPv4Address("127.0.0.2"))),
    ),
    max_size=30,
)


def apply(present: Entries, change_from: Entries, wanted: Entries) -> Entries:
    """Return what the kernel has after a difference: drops, then adds in place of what is there."""
    change = difference(wanted, change_from)
    tunnel = {mac: remote for mac, remote in present.tunnel.items() if mac not in change.drop.tunnel}
    neighbours = {a: mac for a, mac in present.neighbours.items() if a not in change.drop.neighbours}
    return Entries(
        {**tunnel, **change.add.tunnel},
        (present.bridge - change.drop.bridge) | change.add.bridge,
        {**neighbours, **change.add.neighbours},
    )


@given(NEIGHBOURS, NEIGHBOURS, st.randoms(use_true_random=False))
def test_differences_lead_from_anywhere_to_what_is_wanted(
    before: list[Neighbour], after: list[Neighbour], rng: random.Random
) -> None:
    whole, wanted = entries(before, port=4789), entries(after, port=4789)
    # What a killed worker leaves: any part of it, and things that were never ours.
    torn = Entries(
        {
            "02:42:00:00:00:01": Remote(IPv4Address("192.0.2.9")),
            **{m: r for m, r in whole.tunnel.items() if rng.random() < 0.5},
        },
        frozenset(m for m in whole.bridge if rng.random() < 0.5),
        {a: m for a, m in whole.neighbours.items() if rng.random() < 0.5},
    )
    for present in (whole, torn, Entries()):
        assert apply(present, present, wanted) == wanted
    assert len(difference(wanted, wanted)) == 0


@given(NEIGHBOURS, NEIGHBOURS)
def test_differences_are_no_larger_than_what_differs(before: list[Neighbour], after: list[Neighbour]) -> None:
    old = {n.address: n.node_address for n in before}
    new = {n.address: n.node_address for n in after}
    differing = [a for a in old.keys() | new.keys() if old.get(a) != new.get(a)]
    change = difference(entries(after, port=4789), entries(before, port=4789))
    assert len(change) <= 3 * len(differing)
    assert bool(len(change)) == bool(differing)
