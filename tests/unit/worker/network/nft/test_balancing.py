from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import IPv4Address

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.netfilter import FakeNetfilter
from worker.network.nft.balancing import BACKENDS, TABLE, VIPS, describe, read, renumber
from worker.network.nft.batch import Batch, Element
from worker.network.nft.expressions import native
from worker.network.nft.vip import Vip
from worker.network.nft.vips import VipTable

A, B, C, D = (IPv4Address(f"10.0.1.{number}") for number in (11, 12, 13, 14))
WEB = IPv4Address("10.0.1.2")


def table(kernel: FakeNetfilter) -> VipTable:
    made = VipTable(kernel, rng=random.Random(3))
    made.ensure()
    return made


@pytest.mark.parametrize(
    ("have", "wanted", "numbered"),
    [
        ([], [A, B], [A, B]),
        ([A, B, C], [C, B, A], [A, B, C]),
        ([A, B, C], [A, C, D], [A, D, C]),
        ([A, B, C], [B, C], [C, B]),
        ([A, B], [B], [B]),
        ([A], [B, C], [B, C]),
        ([A, B], [], []),
    ],
)
def test_backends_keep_their_numbers(
    have: list[IPv4Address], wanted: list[IPv4Address], numbered: list[IPv4Address]
) -> None:
    assert renumber(have, wanted) == numbered


def test_a_replaced_backend_is_one_element(kernel: FakeNetfilter) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B, C))])
    vips.sync([Vip(WEB, (A, B, D))])
    assert [request.what for request in kernel.batches[-1].requests] == [
        "delete elements from set backends of table swarmpy",
        "add elements to set backends of table swarmpy",
    ]


def test_nothing_is_sent_when_nothing_changes(kernel: FakeNetfilter) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B)), Vip(D, ())])
    before = len(kernel.batches)
    assert vips.sync([Vip(D, ()), Vip(WEB, (B, A, A))]) == frozenset()
    assert vips.change([Vip(WEB, (B, A))], remove=[C]) == frozenset()
    assert len(kernel.batches) == before


def test_what_is_withdrawn_is_told(kernel: FakeNetfilter) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B)), Vip(D, (C,))])
    assert vips.change([Vip(WEB, (B,))]) == {(WEB, A)}
    assert vips.change(remove=[D]) == {(D, C)}
    assert vips.sync([Vip(WEB, ())]) == {(WEB, B)}


def test_tasks_begin_with_different_backends(kernel: FakeNetfilter) -> None:
    firsts = set()
    for seed in range(20):
        vips = VipTable(FakeNetfilter(), rng=random.Random(seed))
        vips.ensure()
        vips.sync([Vip(WEB, (A, B, C))])
        firsts.add(vips.vips[WEB][0])
    assert firsts == {A, B, C}


def test_a_refused_change_leaves_what_was(kernel: FakeNetfilter) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B))])
    kernel.refuse = 12
    with pytest.raises(SwarmError, match="cannot delete elements from set backends"):
        vips.sync([Vip(WEB, (C,))])
    assert set(vips.vips[WEB]) == {A, B}
    vips.sync([Vip(WEB, (C,))])
    assert vips.vips == {WEB: [C]}


def test_numbers_with_gaps_are_not_taken_over(kernel: FakeNetfilter) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B))])
    del kernel.tables[TABLE].sets[BACKENDS][WEB.packed + native(0)]
    with pytest.raises(SwarmError, match="not numbered without gaps") as wrong:
        read([Element(WEB.packed)], kernel.tables[TABLE].sets[BACKENDS].values())
    assert wrong.value.code == Code.CORRUPT
    after = table(kernel)
    assert after.vips == {}
    assert kernel.tables[TABLE].sets[VIPS] == {}
    # Who knows what there should be puts it back.
    vips.ensure()
    assert set(vips.vips[WEB]) == {A, B}
    assert len(kernel.tables[TABLE].sets[BACKENDS]) == 2


def test_an_older_table_is_replaced_with_its_vips_in_one_step(kernel: FakeNetfilter) -> None:
    older = table(kernel)
    older.sync([Vip(WEB, (A, B)), Vip(D, ())])
    kernel.tables[TABLE].user_data = b""
    vips = table(kernel)
    assert vips.vips == older.vips
    assert len(kernel.batches) == 3
    batch = Batch()
    batch.add_table(TABLE, describe(0))
    assert kernel.tables[TABLE].user_data in batch.requests[0].payload


def flush(kernel: FakeNetfilter) -> None:
    kernel.tables.clear()


def flush_rules(kernel: FakeNetfilter) -> None:
    for rules in kernel.tables[TABLE].chains.values():
        rules.clear()


def lose_an_element(kernel: FakeNetfilter) -> None:
    kernel.tables[TABLE].sets[BACKENDS].popitem()


@pytest.mark.parametrize("harm", [flush, flush_rules, lose_an_element])
def test_what_others_have_changed_is_put_back(kernel: FakeNetfilter, harm: Callable[[FakeNetfilter], None]) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B)), Vip(D, ())])
    before = str(kernel.tables[TABLE].sets)
    harm(kernel)
    vips.ensure()
    assert str(kernel.tables[TABLE].sets) == before
    assert len(kernel.tables[TABLE].chains[f"vip-{WEB}"]) == 3


def test_a_change_puts_back_what_it_finds_missing(kernel: FakeNetfilter) -> None:
    vips = table(kernel)
    vips.sync([Vip(WEB, (A, B))])
    flush(kernel)
    assert vips.sync([Vip(WEB, (A,))]) == {(WEB, B)}
    assert vips.vips == table(kernel).vips == {WEB: [A]}


def test_a_table_leads_to_the_name_server_where_it_is_told(kernel: FakeNetfilter) -> None:
    plain = table(kernel)
    plain.sync([Vip(WEB, (A,))])
    named = VipTable(kernel, rng=random.Random(1), names_port=34953)
    named.ensure()
    assert named.vips == plain.vips
    assert len(kernel.tables[TABLE].chains["output"]) == 3
    count = len(kernel.batches)
    named.ensure()
    assert len(kernel.batches) == count
