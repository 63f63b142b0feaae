"""What a session says of the managers: what its node is, where all of them are; and what a node says of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec

from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.model.cluster import Cluster
from swarmpy.model.node import ManagerStatus, Node
from swarmpy.model.states import NodeRole
from tests.support.clock import settle
from tests.support.dispatching import Desk, dispatching
from tests.support.store import put

MANAGER, WORKER = int(NodeRole.MANAGER), int(NodeRole.WORKER)


async def change_node(desk: Desk, role: NodeRole, member: ManagerStatus | None, node_id: str = "n1") -> None:
    def change(tx: Transaction) -> None:
        node = tx.get(NODES, node_id)
        assert node is not None
        spec = msgspec.structs.replace(node.spec, role=role)
        tx.update(NODES, msgspec.structs.replace(node, spec=spec, manager=member))

    await desk.store.update(change)


def place(update: pb.NodeUpdate) -> tuple[int, int]:
    return int(update.role), update.member_id


async def test_a_node_is_told_what_it_is_and_each_change(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk:
        await put(desk.store, CLUSTERS, Cluster(id="c", next_raft_id=3))
        async with desk.worker() as worker:
            first = await worker.next("node")
            assert (place(first), first.next_member_id) == ((WORKER, 0), 3)
            await change_node(desk, NodeRole.MANAGER, None)
            assert place(await worker.next("node")) == (MANAGER, 0)
            await change_node(desk, NodeRole.MANAGER, ManagerStatus(raft_id=3, addr="m3:2377"))
            assert place(await worker.next("node")) == (MANAGER, 3)
            await change_node(desk, NodeRole.WORKER, ManagerStatus(raft_id=3, addr="m3:2377"))
            await change_node(desk, NodeRole.WORKER, None)
            assert place(await worker.next("node")) == (WORKER, 0), "until it was let go it is a manager"


async def test_what_is_not_about_its_place_is_not_told_again(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker() as worker:
        await worker.next("node")
        await put(desk.store, NODES, msgspec.structs.replace(desk.node("n2"), message="it says something"))
        await worker.send(status=pb.StatusBatch(sequence=1))
        kinds = []
        while (message := await worker.read()).WhichOneof("message") != "status_ack":
            kinds.append(message.WhichOneof("message"))
        assert "node" not in kinds
        assert "managers" not in kinds


async def test_all_sessions_hear_where_the_managers_are(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker("n1") as one, desk.worker("n2") as other:
        for worker in (one, other):
            await worker.next("assignments")
        desk.managers.append("m2:2377")
        await put(desk.store, NODES, Node(id="m2", manager=ManagerStatus(raft_id=2, addr="m2:2377")))
        for worker in (one, other):
            assert list((await worker.next("managers")).managers) == ["127.0.0.1:2377", "m2:2377"]


async def test_a_manager_that_has_moved_says_so_in_its_hello(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk:
        await change_node(desk, NodeRole.MANAGER, ManagerStatus(raft_id=2, addr="old:2377", feature_level=1))
        async with desk.worker(manager_addr="new:9000", feature_level=2):
            assert desk.node().manager == ManagerStatus(raft_id=2, addr="new:9000", feature_level=2)
        async with desk.worker():
            assert desk.node().manager == ManagerStatus(raft_id=2, addr="new:9000", feature_level=2)
        await settle()


async def test_a_hello_alone_makes_nobody_a_manager(tmp_path: Path) -> None:
    async with dispatching(tmp_path) as desk, desk.worker(manager_addr="m1:2377", feature_level=2):
        assert desk.node().manager is None
