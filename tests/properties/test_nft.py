"""Laws of the tables: what is written is read back, and no order of changes leaves anything but what was asked for."""

from __future__ import annotations

import random
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from swarmpy.errors import SwarmError
from tests.support.netfilter import FakeNetfilter
from worker.network.nft.attributes import attribute, each, number, parse
from worker.network.nft.balancing import BACKENDS, REFUSED, TABLE, VIPS, chain, renumber
from worker.network.nft.batch import Element
from worker.network.nft.dump import decode_element
from worker.network.nft.expressions import Outcome, Verdict, native
from worker.network.nft.host import HostTable
from worker.network.nft.layout import (
    PUBLISHED,
    PUBLISHED_ANY,
    SELVES,
    Links,
    Publication,
    place,
    publication_element,
    read_publication,
)
from worker.network.nft.vip import Vip
from worker.network.nft.vips import VipTable

addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
ports = st.integers(0, 65535)
verdicts = st.builds(Verdict, st.sampled_from(Outcome), st.text("abc-.", max_size=20))
elements = st.builds(
    Element,
    st.binary(min_size=1, max_size=64),
    st.none() | st.binary(min_size=1, max_size=64) | verdicts,
    st.booleans(),
)
publications = st.builds(Publication, st.sampled_from(["tcp", "udp"]), addresses, ports, addresses, ports)
few_publications = st.builds(
    Publication,
    st.sampled_from(["tcp", "udp"]),
    st.sampled_from([IPv4Address("0.0.0.0"), IPv4Address("10.0.0.1")]),
    st.integers(1, 3),
    st.sampled_from([IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")]),
    st.just(80),
)
backends = st.integers(1, 6).map(lambda last: IPv4Address(f"10.0.0.{100 + last}"))
vips = st.builds(Vip, st.integers(1, 3).map(lambda last: IPv4Address(f"10.0.0.{last}")), st.lists(backends).map(tuple))


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=100))))
def test_attributes_are_read_back(values: list[tuple[int, bytes]]) -> None:
    assert list(each(b"".join(attribute(kind, value) for kind, value in values))) == values


@given(elements)
def test_elements_are_read_back(element: Element) -> None:
    ((_, raw),) = each(element.encode())
    assert decode_element(raw) == element


@given(publications)
def test_published_ports_are_read_back(publication: Publication) -> None:
    _, element = publication_element(publication)
    ((_, raw),) = each(element.encode())
    assert read_publication(decode_element(raw)) == publication


@given(st.lists(backends, unique=True), st.lists(backends, unique=True))
def test_renumbering_moves_none_that_can_stay(have: list[IPv4Address], wanted: list[IPv4Address]) -> None:
    numbered = renumber(have, wanted)
    assert sorted(numbered) == sorted(wanted)
    for old, new in zip(have, numbered, strict=False):
        assert new == old or old not in wanted


@given(st.lists(st.lists(vips, unique_by=lambda vip: vip.address), max_size=8), st.randoms())
def test_vips_are_what_was_asked_for_last(steps: list[list[Vip]], rng: random.Random) -> None:
    kernel = FakeNetfilter()
    table = VipTable(kernel, rng=rng)
    table.ensure()
    for step in steps:
        before = {vip: set(backends) for vip, backends in table.vips.items()}
        withdrawn = table.sync(step)
        wanted = {vip.address: set(vip.backends) for vip in step}
        assert withdrawn == {
            (vip, backend) for vip, backends in before.items() for backend in backends - wanted.get(vip, set())
        }
        check_vips(kernel, wanted)
        if rng.random() < 0.3:
            table = VipTable(kernel, rng=rng)
            table.ensure()
        assert {vip: set(backends) for vip, backends in table.vips.items()} == wanted


def check_vips(kernel: FakeNetfilter, wanted: dict[IPv4Address, set[IPv4Address]]) -> None:
    """Hold the kernel's elements and rules against what is wanted; number 0 is there for whoever meets a change."""
    table = kernel.tables[TABLE]
    verdicts = {IPv4Address(key): element.value for key, element in table.sets[VIPS].items()}
    assert verdicts == {
        vip: Verdict(Outcome.GOTO, chain(vip)) if backends else REFUSED for vip, backends in wanted.items()
    }
    assert set(table.chains) == {"output", "refuse", *(chain(vip) for vip, backends in wanted.items() if backends)}
    assert len(table.sets[BACKENDS]) == sum(map(len, wanted.values()))
    for vip, expected in wanted.items():
        numbered = [table.sets[BACKENDS][vip.packed + native(place)].value for place in range(len(expected))]
        assert {IPv4Address(value) for value in numbered if isinstance(value, bytes)} == expected
        if expected:
            moduli = [
                number(row[2]) for rule in table.chains[chain(vip)] for name, row in rule.parts() if name == "numgen"
            ]
            assert moduli == [len(expected), 1]


@dataclass(frozen=True)
class Step:
    add: list[Publication]
    remove: list[Publication]


one_target = st.lists(few_publications, unique_by=place)
steps = st.builds(Step, one_target, st.lists(few_publications))


@given(st.lists(steps, max_size=8))
def test_published_ports_are_those_that_were_added_and_not_removed(steps: list[Step]) -> None:
    kernel = FakeNetfilter()
    table = HostTable(kernel, "abcdef012345", Links("sp", IPv4Network("172.18.0.0/20")))
    table.ensure()
    wanted: set[Publication] = set()
    for step in steps:
        taken = {place(port) for port in wanted - set(step.remove)}
        add = [port for port in step.add if place(port) not in taken]
        table.change(add=add, remove=step.remove)
        wanted = (wanted - set(step.remove)) | set(add)
        assert table.publications == wanted
        sets = kernel.tables[table.name].sets
        assert {read_publication(e) for name in (PUBLISHED, PUBLISHED_ANY) for e in sets[name].values()} == wanted
        assert set(sets[SELVES]) == {port.target.packed * 2 for port in wanted}
        again = HostTable(kernel, "abcdef012345", Links("sp", IPv4Network("172.18.0.0/20")))
        again.ensure()
        assert again.publications == wanted


@given(st.binary(max_size=200))
def test_bytes_that_are_no_attributes_are_refused_not_misread(data: bytes) -> None:
    try:
        row = parse(data)
    except SwarmError:
        return
    assert all(len(value) <= len(data) for value in row.values())
