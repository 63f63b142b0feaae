"""The `members` loop and the use cases beside it, on a store and a group of straw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import msgspec
import pytest

from manager.membership.admission import SPARED_WITHIN_S, Placed, Placement
from manager.membership.loop import LOOK_S, Members
from manager.raft.types import ConfChangeKind
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.cluster import Cluster, ClusterSpec
from swarmpy.model.node import ManagerStatus, Node, NodeSpec
from swarmpy.model.states import NodeRole
from tests.support.clock import FakeClock
from tests.support.group import FakeGroup
from tests.support.store import put, running_store

ADD_LEARNER, ADD_VOTER, REMOVE = ConfChangeKind.ADD_LEARNER, ConfChangeKind.ADD_VOTER, ConfChangeKind.REMOVE


@dataclass
class Room:
    store: Store
    group: FakeGroup
    clock: FakeClock
    placement: Placement

    async def settle(self, seconds: float = 2 * LOOK_S) -> None:
        await self.clock.advance(seconds)

    def node(self, node_id: str) -> Node:
        found = self.store.view().get(NODES, node_id)
        assert found is not None
        return found

    def manager(self, node_id: str) -> ManagerStatus:
        found = self.node(node_id).manager
        assert found is not None
        return found

    async def change(self, node_id: str, changed: Callable[[Node], Node]) -> None:
        def change(tx: Transaction) -> None:
            node = tx.get(NODES, node_id)
            assert node is not None
            tx.update(NODES, changed(node))

        await self.store.update(change)

    async def set_role(self, node_id: str, role: NodeRole) -> None:
        def changed(node: Node) -> Node:
            return msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, role=role))

        await self.change(node_id, changed)

    async def join(self, node_id: str, request_id: str = "", level: int = 2) -> Placed:
        return await self.placement.join(node_id, f"{node_id}:2377", level, request_id or f"join-{node_id}")


def manager_node(node_id: str) -> Node:
    return Node(id=node_id, spec=NodeSpec(name=node_id, role=NodeRole.MANAGER))


@asynccontextmanager
async def room(*, spec: ClusterSpec = ClusterSpec(), level: int = 2) -> AsyncIterator[Room]:  # noqa: B008  # frozen
    clock, group, lock = FakeClock(), FakeGroup(), asyncio.Lock()
    async with running_store() as store:
        await put(store, CLUSTERS, Cluster(id="c", spec=spec, feature_level=level))
        first = ManagerStatus(raft_id=1, addr="m1:2377", leader=True, reachable=True, feature_level=2)
        await put(store, NODES, msgspec.structs.replace(manager_node("m1"), manager=first))
        await put(store, NODES, manager_node("m2"), manager_node("m3"))
        async with asyncio.TaskGroup() as tasks:
            loop = tasks.create_task(Members(store, group, clock, lock).run())
            yield Room(store, group, clock, Placement(store, group, clock, lock))
            loop.cancel()


async def test_a_manager_joins_as_a_learner_and_gets_its_vote() -> None:
    async with room() as r:
        r.group.behind = {2}
        placed = await r.join("m2")
        assert placed == Placed(2, ((1, "m1", "m1:2377"), (2, "m2", "m2:2377")), 2)
        await r.settle()
        assert (r.manager("m2").learner, r.group.changes) == (True, [(ADD_LEARNER, 2)])
        r.group.behind = set()
        await r.settle()
        assert (r.manager("m2").learner, r.group.changes[1:]) == (False, [(ADD_VOTER, 2)])
        assert r.manager("m2").reachable


async def test_the_same_request_again_gives_the_same_place() -> None:
    async with room() as r:
        first = await r.join("m2")
        assert await r.join("m2") == first
        assert r.group.changes[0] == (ADD_LEARNER, 2)


async def test_a_place_that_was_given_by_a_leader_that_was_lost_is_good() -> None:
    async with room() as r:
        given = ManagerStatus(raft_id=2, addr="m2:2377", learner=True, feature_level=2)
        await r.change("m2", lambda node: msgspec.structs.replace(node, manager=given))
        await r.settle()
        assert r.group.changes == [(ADD_LEARNER, 2), (ADD_VOTER, 2)]
        assert r.manager("m2").reachable


async def test_a_manager_without_its_log_comes_back_as_somebody_else() -> None:
    async with room() as r:
        await r.join("m2")
        await r.join("m3")
        await r.settle()
        assert (await r.join("m2", "again")).member_id == 4
        await r.settle()
        assert r.group.changes[-2:] == [(ADD_VOTER, 4), (REMOVE, 2)]
        assert r.group.voters == {1, 3, 4}


async def test_many_at_once_come_in_one_after_the_other() -> None:
    async with room() as r:
        await put(r.store, NODES, *(manager_node(f"n{number}") for number in range(5)))
        async with asyncio.TaskGroup() as tasks:
            joins = [tasks.create_task(r.join(f"n{number}")) for number in range(5)]
            await r.settle(5.0)
        assert sorted(join.result().member_id for join in joins) == [2, 3, 4, 5, 6]
        await r.settle(5.0)
        assert r.group.voters == {1, 2, 3, 4, 5, 6}


async def test_who_joins_waits_for_a_change_that_is_under_way() -> None:
    async with room() as r:
        r.group.failures = [precondition("a change is under way")]
        async with asyncio.TaskGroup() as tasks:
            joined = tasks.create_task(r.join("m2"))
            await r.settle()
        assert joined.result().member_id == 2


@pytest.mark.parametrize(
    ("node_id", "level", "code", "sentence"),
    [
        ("nobody", 2, Code.PERMISSION_DENIED, "this node was removed from the cluster"),
        ("w", 2, Code.PERMISSION_DENIED, "node w is to be a worker: promote it first"),
        (
            "m2",
            1,
            Code.FAILED_PRECONDITION,
            "this manager's release has feature level 1, the cluster is at 2: "
            "install a newer release of swarmpy on this node",
        ),
    ],
)
async def test_who_may_not_join(node_id: str, level: int, code: Code, sentence: str) -> None:
    async with room() as r:
        await put(r.store, NODES, Node(id="w", spec=NodeSpec(name="w")))
        with pytest.raises(SwarmError) as caught:
            await r.join(node_id, level=level)
        assert (caught.value.code, caught.value.message) == (code, sentence)
        assert r.group.changes == []


async def test_a_demoted_manager_is_let_go_and_then_is_none() -> None:
    async with room() as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        await r.set_role("m3", NodeRole.WORKER)
        assert r.node("m3").role is NodeRole.MANAGER, "until it is let go"
        await r.settle()
        assert (r.group.changes[-1], r.node("m3").manager, r.node("m3").role) == ((REMOVE, 3), None, NodeRole.WORKER)


async def test_a_demoted_leader_hands_over() -> None:
    async with room() as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        await r.set_role("m1", NodeRole.WORKER)
        await r.settle()
        assert r.group.handed_over > 0
        assert 1 in r.group.voters


async def test_a_manager_whose_node_is_removed_is_let_go() -> None:
    async with room() as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        await r.store.update(lambda tx: tx.delete(NODES, "m2"))
        await r.settle()
        assert r.group.voters == {1, 3}


async def test_who_leaves_is_let_go_first() -> None:
    async with room() as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        async with asyncio.TaskGroup() as tasks:
            before = r.node("m3").version
            tasks.create_task(r.placement.leave("m3", "leave"))
            await r.settle(1.0)
        assert r.group.voters == {1, 2}
        assert before < r.node("m3").spec_revision < r.node("m3").version, "letting it go is no change of the spec"
        with pytest.raises(SwarmError, match="m1 is the last manager"):
            r.group.voters = {1}
            await r.placement.leave("m1", "leave-1")


async def test_who_leaves_waits_a_moment_for_another_one_to_come_back() -> None:
    async with room() as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        r.group.silent = {2}
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(r.placement.leave("m3", "leave"))
            await r.settle(1.0)
            assert not leaving.done()
            r.group.silent = set()
            await r.settle(1.0)
        assert r.group.voters == {1, 2}


async def test_who_leaves_is_not_let_go_where_that_would_cost_the_quorum() -> None:
    async with room() as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        r.group.silent = {2}
        async with asyncio.TaskGroup() as tasks:
            leaving = tasks.create_task(refusal_of(r.placement.leave("m3", "leave")))
            await r.settle(SPARED_WITHIN_S + 1.0)
        assert leaving.result().message.startswith("without m3, 1 of 2 managers would be reachable")
        assert r.group.voters == {1, 2, 3}


async def refusal_of(call: Awaitable[None]) -> SwarmError:
    with pytest.raises(SwarmError) as refused:
        await call
    return refused.value


async def test_rows_follow_who_is_heard_of() -> None:
    async with room() as r:
        await r.join("m2")
        await r.settle()
        r.group.silent = {2}
        before = r.node("m2")
        await r.settle()
        assert not r.manager("m2").reachable
        r.group.silent = set()
        await r.settle()
        assert r.manager("m2").reachable
        after = r.node("m2")
        assert (after.version > before.version, after.spec_revision) == (True, before.spec_revision)


async def test_a_dead_manager_is_demoted_and_let_go_when_that_is_asked_for() -> None:
    async with room(spec=ClusterSpec(remove_dead_managers_after_s=60.0)) as r:
        for node_id in ("m2", "m3"):
            await r.join(node_id)
        await r.settle()
        r.group.silent = {3}
        await r.settle(50.0)
        assert r.group.voters == {1, 2, 3}
        before = r.node("m3").version
        await r.settle(20.0)
        assert r.group.voters == {1, 2}
        assert r.node("m3").spec.role is NodeRole.WORKER
        assert r.node("m3").spec_revision > before, "who has not seen this cannot undo it unawares"


async def test_the_cluster_rises_to_a_level_once_all_managers_have_it() -> None:
    async with room(level=1) as r:
        await r.settle()
        (cluster,) = r.store.view().all(CLUSTERS)
        assert cluster.feature_level == 2
