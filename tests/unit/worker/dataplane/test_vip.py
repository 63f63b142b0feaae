from __future__ import annotations

import socket
from collections import Counter

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.dataplane import FakeSockets
from worker.dataplane.dns.zone import render_vip
from worker.dataplane.sockets import Port
from worker.dataplane.vip import PROBE_PORT, candidates, claim


def test_every_node_has_its_own_order_of_all_prefixes() -> None:
    orders = [candidates(f"node-{n}") for n in range(200)]
    assert {frozenset(order) for order in orders} == {frozenset(f"127.{octet}" for octet in range(64, 128))}
    assert orders[0] == candidates("node-0")
    assert max(Counter(order[0] for order in orders).values()) < 20


def test_the_kept_prefix_comes_first_if_it_is_one() -> None:
    order = candidates("node", "127.70")
    assert order[0] == "127.70"
    assert sorted(order) == sorted(candidates("node"))
    assert candidates("node", "127.1") == candidates("node")


def test_vips_are_rendered_in_the_prefix() -> None:
    assert render_vip("127.93", 1) == "127.93.0.1"
    assert render_vip("127.93", 65534) == "127.93.255.254"


async def test_a_prefix_that_another_node_holds_is_passed_over() -> None:
    sockets = FakeSockets()
    order = candidates("node")
    sockets.failing |= {Port("tcp", f"{prefix}.255.254", PROBE_PORT) for prefix in order[:3]}
    claimed = await claim(sockets, "node")
    assert claimed is not None
    assert claimed.prefix == order[3]
    claimed.sock.close()
    sockets.close()


async def test_when_all_are_held_there_is_none() -> None:
    sockets = FakeSockets()
    sockets.failing |= {Port("tcp", f"{prefix}.255.254", PROBE_PORT) for prefix in candidates("node")}
    assert await claim(sockets, "node") is None


class NoSupervisor(FakeSockets):
    async def bind(self, port: Port) -> socket.socket:
        raise SwarmError(Code.UNAVAILABLE, "cannot talk to the supervisor")


async def test_a_supervisor_that_is_away_is_not_taken_for_a_machine_that_is_full() -> None:
    with pytest.raises(SwarmError, match="supervisor"):
        await claim(NoSupervisor(), "node")
