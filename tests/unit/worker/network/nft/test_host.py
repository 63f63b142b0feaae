from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.netfilter import FakeNetfilter
from worker.network.nft.host import HostTable
from worker.network.nft.layout import PUBLISHED, PUBLISHED_ANY, SELVES, Links, Publication

LINKS = Links("spabcdef", IPv4Network("172.18.0.0/20"))
WEB = Publication("tcp", IPv4Address("127.0.0.2"), 8080, IPv4Address("172.18.0.2"), 80)
DNS = Publication("udp", IPv4Address("0.0.0.0"), 53, IPv4Address("172.18.0.2"), 5353)


def made(kernel: FakeNetfilter, links: Links = LINKS) -> HostTable:
    table = HostTable(kernel, "abcdef012345", links)
    table.ensure()
    return table


def counts(kernel: FakeNetfilter) -> tuple[int, int, int]:
    sets = kernel.tables["swarmpy_abcdef012345"].sets
    return len(sets[PUBLISHED]), len(sets[PUBLISHED_ANY]), len(sets[SELVES])


def test_a_change_is_one_batch_of_elements(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.change(add=[WEB, DNS])
    assert [request.what for request in kernel.batches[-1].requests] == [
        f"add elements to set {name} of table {table.name}" for name in (PUBLISHED, PUBLISHED_ANY, SELVES)
    ]
    assert counts(kernel) == (1, 1, 1)


def test_a_task_is_known_as_long_as_a_port_leads_to_it(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.change(add=[WEB, DNS])
    table.change(remove=[WEB])
    assert counts(kernel) == (0, 1, 1)
    table.change(remove=[DNS], add=[WEB])
    assert counts(kernel) == (1, 0, 1)
    table.sync([])
    assert counts(kernel) == (0, 0, 0)


def test_nothing_is_sent_when_nothing_changes(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.change(add=[WEB])
    before = len(kernel.batches)
    table.change(add=[WEB], remove=[DNS])
    table.change(add=[WEB], remove=[WEB])
    table.sync([WEB])
    table.ensure()
    assert len(kernel.batches) == before


def test_two_tasks_cannot_have_one_port(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    other = Publication("tcp", WEB.address, WEB.port, IPv4Address("172.18.0.9"), 80)
    for both in ([WEB, other], [other, WEB]):
        with pytest.raises(SwarmError, match=r"tcp port 8080 on 127\.0\.0\.2 cannot lead to") as refused:
            table.sync(both)
        assert refused.value.code == Code.ALREADY_EXISTS
    assert counts(kernel) == (0, 0, 0)
    # Another transport, or any address, is another port.
    table.sync([WEB, replace(WEB, transport="udp"), replace(other, address=DNS.address)])
    assert counts(kernel) == (2, 1, 2)


def test_a_refused_change_leaves_what_was(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.change(add=[WEB])
    kernel.refuse = 12
    with pytest.raises(SwarmError, match="cannot delete elements from set published"):
        table.change(add=[DNS], remove=[WEB])
    assert table.publications == {WEB}
    table.change(add=[DNS], remove=[WEB])
    assert table.publications == {DNS}


def test_a_table_for_other_links_is_replaced_in_one_step(kernel: FakeNetfilter) -> None:
    made(kernel).change(add=[WEB, DNS])
    before = len(kernel.batches)
    after = made(kernel, Links("spabcdef", IPv4Network("172.19.0.0/20")))
    assert len(kernel.batches) == before + 1
    assert after.publications == {WEB, DNS}
    assert counts(kernel) == (1, 1, 1)


def test_a_table_without_our_maps_is_replaced(kernel: FakeNetfilter) -> None:
    made(kernel)
    kernel.tables["swarmpy_abcdef012345"].sets.clear()
    kernel.tables["swarmpy_abcdef012345"].user_data = b""
    assert made(kernel).publications == frozenset()
    assert counts(kernel) == (0, 0, 0)


def test_what_the_kernel_does_not_answer_well_is_passed_on(kernel: FakeNetfilter) -> None:
    kernel.refuse = 1
    with pytest.raises(SwarmError, match="needs root"):
        made(kernel)


def test_what_others_have_changed_is_put_back(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.change(add=[WEB, DNS])
    kernel.tables.clear()
    table.ensure()
    assert table.publications == made(kernel).publications == {WEB, DNS}
    kernel.tables[table.name].chains["raw"].clear()
    table.ensure()
    assert len(kernel.tables[table.name].chains["raw"]) == 2
    kernel.tables.clear()
    table.change(remove=[WEB])
    assert table.publications == made(kernel).publications == {DNS}


def test_a_removed_table_stays_removed(kernel: FakeNetfilter) -> None:
    table = made(kernel)
    table.change(add=[WEB])
    table.remove()
    assert kernel.tables == {}
    table.ensure()
    assert table.publications == frozenset()
