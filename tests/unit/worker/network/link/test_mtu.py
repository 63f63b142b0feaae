"""How large packets may be."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

import pytest

from worker.network.link import mtu
from worker.network.link.messages import Link, Route

LOOPBACK = Link(1, "lo", "", 65536, 0, up=True)
WIRE = Link(2, "eth0", "", 1400, 0, up=True)
JUMBO = Link(3, "eth1", "", 9000, 0, up=True)
LINKS = [LOOPBACK, WIRE, JUMBO]
ADDRESSES = [
    (1, IPv4Interface("127.0.0.1/8")),
    (2, IPv4Interface("192.0.2.2/24")),
    (3, IPv4Interface("198.51.100.2/24")),
]


@pytest.mark.parametrize(
    ("address", "size"), [("192.0.2.2", 1400), ("198.51.100.2", 9000), ("127.0.0.9", 65536), ("203.0.113.1", 1500)]
)
def test_the_link_that_has_an_address(address: str, size: int) -> None:
    assert mtu.of_address(IPv4Address(address), ADDRESSES, LINKS) == size


def test_the_way_out_is_as_wide_as_the_default_route() -> None:
    anywhere, near = IPv4Network("0.0.0.0/0"), IPv4Network("192.0.2.0/24")
    assert mtu.of_way_out([Route(near, 3), Route(anywhere, 2)], LINKS) == 1400
    assert mtu.of_way_out([Route(anywhere, 3)], LINKS) == 1500
    assert mtu.of_way_out([Route(anywhere, 0)], LINKS) == 1500


@pytest.mark.parametrize(
    ("wanted", "underlay", "tunnelled", "size"),
    [
        (0, 1500, True, 1450),
        (0, 9000, True, 8950),
        (1300, 1500, True, 1300),
        (1500, 1500, True, 1450),
        (0, 65536, True, 65485),
        (0, 500, True, 576),
        (0, 9000, False, 1500),
        (9000, 1500, False, 9000),
    ],
)
def test_a_networks_packets_fit_below(wanted: int, underlay: int, tunnelled: bool, size: int) -> None:
    assert mtu.of_network(wanted, underlay, tunnelled=tunnelled) == size
