"""Who leads, and where: what the other rooms are told of Raft."""

from __future__ import annotations

import msgspec

from manager.consensus import Lead
from manager.raft.types import Leadership
from manager.store.tables import NODES
from swarmpy.model.node import ManagerStatus, Node
from tests.support.group import FakeGroup
from tests.support.store import put, running_store


def manager(number: int) -> Node:
    return Node(id=f"n{number}", manager=ManagerStatus(raft_id=number, addr=f"m{number}:2377"))


async def test_where_the_leader_is_and_the_others() -> None:
    async with running_store() as store:
        status = FakeGroup().status()
        barriers = 0

        async def barrier() -> None:
            nonlocal barriers
            barriers += 1

        lead = Lead(store, barrier, lambda: status)
        assert (lead.is_leader, lead.leader_addr, lead.addresses) == (False, "", ())
        await put(store, NODES, manager(2), manager(1), Node(id="w"))
        assert (lead.leader_addr, lead.addresses) == ("m1:2377", ("m1:2377", "m2:2377"))
        status = msgspec.structs.replace(status, leader_id=3)
        assert lead.leader_addr == "", "it is not known yet where that is"
        status = msgspec.structs.replace(status, leader_id=0)
        assert lead.leader_addr == ""
        await lead.read_barrier()
        assert barriers == 1


async def test_whoever_waits_hears_of_each_change_until_he_leaves() -> None:
    async with running_store() as store:
        lead = Lead(store, store.run, FakeGroup().status)
        heard: list[bool] = []
        with lead.when_leader_changes(lambda: heard.append(lead.is_leader)):
            lead.set_leadership(Leadership(is_leader=True, term=2, leader_id=1))
            lead.set_leadership(Leadership(is_leader=False, term=3, leader_id=2))
        lead.set_leadership(Leadership(is_leader=True, term=4, leader_id=1))
        assert heard == [True, False]
        assert lead.is_leader
