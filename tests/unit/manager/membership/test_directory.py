"""The transport's addresses follow the rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec

from manager.membership.directory import Directory
from manager.raft.api import Peer
from manager.store.store import Store
from manager.store.tables import NODES
from swarmpy.model.node import ManagerStatus, Node
from tests.support.clock import settle
from tests.support.cluster import leading
from tests.support.store import put, running_store

KNOWN = {1: Peer("n1", "m1:2377"), 2: Peer("n2", "m2:2377")}


@dataclass
class Told:
    store: Store
    directories: list[Mapping[int, Peer]] = field(default_factory=list)

    async def put(self, *nodes: Node) -> None:
        await put(self.store, NODES, *nodes)
        await settle()


def manager(number: int, addr: str = "") -> Node:
    return Node(id=f"n{number}", manager=ManagerStatus(raft_id=number, addr=addr or f"m{number}:2377"))


@asynccontextmanager
async def telling(known: Mapping[int, Peer]) -> AsyncIterator[Told]:
    async with running_store() as store:
        told = Told(store)
        async with leading(Directory(store, 2, known, told.directories.append)):
            yield told


async def test_until_the_rows_have_come_the_place_tells() -> None:
    async with telling(KNOWN) as told:
        assert told.directories == [{1: Peer("n1", "m1:2377")}]
        await told.put(manager(1, "m1:9000"), manager(2), Node(id="w"))
        assert told.directories[1:] == [{1: Peer("n1", "m1:9000")}]


async def test_managers_that_come_move_and_go_are_told_of_once() -> None:
    async with telling({}) as told:
        await told.put(manager(1), manager(2))
        await told.put(manager(3))
        await told.put(manager(3, "elsewhere:2377"))
        await told.put(msgspec.structs.replace(manager(3, "elsewhere:2377"), message="it says something"))
        await told.put(msgspec.structs.replace(manager(3), manager=None))
        first, third = Peer("n1", "m1:2377"), Peer("n3", "m3:2377")
        assert told.directories == [
            {},
            {1: first},
            {1: first, 3: third},
            {1: first, 3: Peer("n3", "elsewhere:2377")},
            {1: first},
        ]
