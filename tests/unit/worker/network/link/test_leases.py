"""Leases as a directory of links."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from worker.network.link.leases import LeaseDirectory
from worker.network.link.pool import Leases

SUBNET = IPv4Network("172.18.0.0/29")
FIRST, SECOND = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")


def test_what_is_noted_is_read_back(tmp_path: Path) -> None:
    kept = LeaseDirectory(tmp_path / "addresses")
    assert kept.read(SUBNET) == Leases(SUBNET)
    kept.hold(FIRST, "a")
    kept.hold(SECOND, "b")
    kept.free(FIRST, 12.5)
    assert kept.read(SUBNET) == Leases(SUBNET, {"b": SECOND}, {FIRST: 12.5}, cursor=2)
    kept.hold(FIRST, "c")
    assert kept.read(SUBNET).held == {"b": SECOND, "c": FIRST}


def test_the_turn_goes_on_after_a_restart(tmp_path: Path) -> None:
    kept = LeaseDirectory(tmp_path)
    leases = kept.read(SUBNET)
    for owner in "abcde":
        kept.hold(leases.allocate(owner, 0.0), owner)
        assert kept.read(SUBNET) == leases


def test_what_is_not_ours_is_left_out(tmp_path: Path) -> None:
    kept = LeaseDirectory(tmp_path)
    kept.hold(IPv4Address("192.0.2.1"), "of another subnet")
    (tmp_path / "new").symlink_to("task:half done")
    (tmp_path / "172.18.0.4").write_text("no link")
    (tmp_path / "172.18.0.5").symlink_to("elsewhere")
    assert kept.read(SUBNET) == Leases(SUBNET)
    kept.hold(FIRST, "a")
    assert kept.read(SUBNET).held == {"a": FIRST}


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "addresses").write_text("in the way")
    with pytest.raises(SwarmError, match=r"cannot note in .*/addresses who has 172.18.0.2: ") as refused:
        LeaseDirectory(tmp_path / "addresses").hold(FIRST, "a")
    assert refused.value.code is Code.FAILED_PRECONDITION
