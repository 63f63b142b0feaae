"""Names of links, places of pins."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from worker.network.link import names
from worker.network.link.place import Place

KEY = "0123456789ab"
PLACE = Place(Path("/state"), KEY, IPv4Address("192.0.2.1"))


def test_names_fit_and_say_whose_they_are() -> None:
    tasks = [f"task{number}" for number in range(500)]
    ends = {names.host_end(KEY, task) for task in tasks}
    assert len(ends) == 500
    assert all(len(end) == 15 and end.startswith(names.prefix(KEY)) for end in ends)
    assert names.anchor(KEY) == "sp012345-0"
    assert len(names.ports(tasks, ["web", "db"])) == 1000
    assert names.port("task1", "web") in names.ports(["task1"], ["web"])
    assert {len(name("web")) for name in (names.bridge, names.tunnel)} == {15}


def test_macs_follow_from_addresses() -> None:
    assert names.mac(IPv4Address("10.0.1.255")) == "02:42:0a:00:01:ff"
    assert names.outer_mac(IPv4Address("10.0.1.255")) == "02:43:0a:00:01:ff"


def test_pins_stay_in_their_directory() -> None:
    assert PLACE.namespace("a1b2") == Path("/state/run/netns/a1b2")
    for wrong in ("", ".", "..", "../x", "a/b", names.FABRIC):
        with pytest.raises(SwarmError, match="is not the id of a task") as refused:
            PLACE.namespace(wrong)
        assert refused.value.code is Code.INVALID_ARGUMENT
