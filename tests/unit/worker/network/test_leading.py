"""What the kernel is told of published ports: containers at their own addresses, and only what can be passed on."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from tests.support.netfilter import FakeNetfilter, FakeTable
from worker.network.leading import Leading
from worker.network.link.place import Place
from worker.network.nft.attributes import nested, text, u32
from worker.network.nft.batch import Hook
from worker.network.nft.conntrack import Conntrack
from worker.network.nft.host import HostTable
from worker.network.nft.ingress import PREFIX, REMOTE, Entry, chain
from worker.network.nft.layout import Links, Publication
from worker.network.nft.legacy import LegacyTables

KEY = "abcdef012345"
HERE, THERE = "10.0.0.1", "10.0.0.2"
WEB, API = (HERE, 8080), (HERE, 8081)
DROPS = nested(4, u32(1, Hook.FORWARD), u32(2, 0)) + u32(5, 0) + text(7, "filter")


class Rig:
    def __init__(self, folder: Path) -> None:
        self.kernel = FakeNetfilter()
        self.in_use = folder / "names"
        self.host = HostTable(self.kernel, KEY, Links("spabcdef", IPv4Network("172.18.0.0/20")))
        self.host.ensure()
        place = Place(folder, KEY, IPv4Address(HERE))
        legacy = LegacyTables([], self.in_use)
        self.leading = Leading(self.kernel, place, self.host, Conntrack(self.kernel), legacy)

    def rules(self, port: tuple[str, int]) -> int:
        return len(self.kernel.tables[PREFIX + KEY].chains.get(chain(Entry(IPv4Address(port[0]), port[1])), ()))

    @property
    def remote(self) -> set[bytes]:
        return set(self.kernel.tables[PREFIX + KEY].sets[REMOTE])


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_a_container_of_this_node_is_led_to_at_its_own_address(rig: Rig) -> None:
    web = Publication("tcp", IPv4Address(HERE), 20000, IPv4Address("172.18.0.2"), 80)
    rig.host.change(add=[web])
    rig.leading.lead({WEB: ((HERE, 20000), (HERE, 20001), (THERE, 20000), ("127.0.0.9", 20000))})
    assert rig.rules(WEB) == 4
    assert {IPv4Address(key[:4]) for key in rig.remote} == {IPv4Address(THERE)}, "only that needs our address"
    first, second, *_ = (rule.expressions for rule in rig.kernel.tables[PREFIX + KEY].chains["port-10.0.0.1-8080"])
    assert IPv4Address("172.18.0.2").packed in first
    assert IPv4Address(HERE).packed in second


@pytest.mark.parametrize("legacy", [False, True])
def test_where_another_firewall_drops_what_is_passed_on_the_balancer_serves(rig: Rig, legacy: bool) -> None:
    if legacy:
        rig.in_use.write_text("filter\n")
    else:
        rig.kernel.tables["filter"] = FakeTable(chains={"FORWARD": []}, hooks={"FORWARD": DROPS})
    rig.leading.lead({WEB: ((HERE, 20000), (THERE, 20000)), API: ((HERE, 20001),)})
    assert (rig.rules(WEB), rig.rules(API), rig.remote) == (0, 1, set())
    rig.kernel.tables.pop("filter", None)
    rig.in_use.unlink(missing_ok=True)
    rig.leading.lead({WEB: ((HERE, 20000), (THERE, 20000)), API: ((HERE, 20001),)})
    assert (rig.rules(WEB), rig.rules(API), len(rig.remote)) == (2, 1, 1)


def test_a_table_that_somebody_has_removed_is_made_again(rig: Rig) -> None:
    rig.leading.lead({WEB: ((HERE, 20000),)})
    del rig.kernel.tables[PREFIX + KEY]
    rig.leading.lead({API: ((HERE, 20001),)})
    assert (rig.rules(WEB), rig.rules(API)) == (0, 1)
    rig.leading.end()
    assert PREFIX + KEY not in rig.kernel.tables
