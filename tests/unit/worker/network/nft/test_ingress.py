"""The kernel's table of published ports: what is in it, and that a change touches only what differs."""

from __future__ import annotations

from ipaddress import IPv4Address

from tests.support.netfilter import FakeNetfilter
from worker.network.nft.ingress import PORTS, PORTS_ANY, PREFIX, REMOTE, Entry, IngressTable, Target, chain

WEB = Entry(IPv4Address("10.0.0.1"), 8080)
ANY = Entry(IPv4Address(0), 8081)
OWN = Target(IPv4Address("172.18.0.2"), 80)
OTHER = Target(IPv4Address("10.0.0.2"), 20000, remote=True)
NAME = f"{PREFIX}abcdef012345"


def made(kernel: FakeNetfilter) -> IngressTable:
    table = IngressTable(kernel, "abcdef012345")
    table.sync({WEB: (OWN, OTHER), ANY: (OWN,)})
    return table


def counts(kernel: FakeNetfilter) -> tuple[int, int, int]:
    sets = kernel.tables[NAME].sets
    return len(sets[PORTS]), len(sets[PORTS_ANY]), len(sets[REMOTE])


def test_each_port_has_a_chain_with_a_rule_for_each_backend(kernel: FakeNetfilter) -> None:
    made(kernel)
    table = kernel.tables[NAME]
    assert counts(kernel) == (1, 1, 1)
    assert (len(table.chains[chain(WEB)]), len(table.chains[chain(ANY)])) == (2, 1)


def test_a_change_touches_what_differs_only(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.sync({WEB: (OWN,), ANY: (OWN,)})
    assert all("any" not in request.what and chain(ANY) not in request.what for request in kernel.batches[-1].requests)
    assert (len(kernel.tables[NAME].chains[chain(WEB)]), counts(kernel)) == (1, (1, 1, 0))
    before = len(kernel.batches)
    table.sync({WEB: (OWN,), ANY: (OWN,)})
    assert len(kernel.batches) == before
    table.sync({})
    assert counts(kernel) == (0, 0, 0)
    assert not [name for name in kernel.tables[NAME].chains if name.startswith("port-")]


def test_a_table_that_is_there_is_replaced_in_one_step(kernel: FakeNetfilter) -> None:
    made(kernel)
    before = len(kernel.batches)
    IngressTable(kernel, "abcdef012345").sync({WEB: (OTHER,)})
    assert len(kernel.batches) == before + 1
    assert counts(kernel) == (1, 0, 1)


def test_removing_it_is_repeatable(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.remove()
    table.remove()
    assert NAME not in kernel.tables
    table.sync({WEB: (OWN,)})
    assert counts(kernel) == (1, 0, 0)
