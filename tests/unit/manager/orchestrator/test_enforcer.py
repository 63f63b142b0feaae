"""The enforcer over a store: nodes that change under the tasks they have."""

from __future__ import annotations

import asyncio

import msgspec

from manager.orchestrator.enforcer import Enforcer
from manager.orchestrator.loop import Orchestrator
from manager.store.store import Store
from manager.store.tables import NODES
from manager.store.transaction import Transaction
from swarmpy.model.node import Node, NodeDescription
from swarmpy.model.spec import Placement, Resources, TaskSpec
from swarmpy.model.states import NodeState, TaskState
from tests.support.clock import FakeClock, settle
from tests.support.cluster import FakeCluster, leading, random_source, service_spec
from tests.support.store import FakeProposer, running_store

GIB = 2**30
IN_ZONE_A = TaskSpec(placement=Placement(constraints=("node.labels.zone==a",)))


async def new_cluster(store: Store, *names: str) -> FakeCluster:
    cluster = FakeCluster(store, FakeClock())
    await cluster.add_nodes(*names)
    for name in names:
        await cluster.change_node(name, labels={"zone": "a"})
    return cluster


def orchestrator(cluster: FakeCluster) -> Orchestrator:
    return Orchestrator(cluster.store, clock=cluster.clock, random_bytes=random_source())


async def describe(cluster: FakeCluster, name: str, memory_bytes: int) -> None:
    def change(tx: Transaction) -> Node:
        row = tx.get(NODES, name)
        assert row is not None
        description = NodeDescription(resources=Resources(nano_cpus=4 * 10**9, memory_bytes=memory_bytes))
        return tx.update(NODES, msgspec.structs.replace(row, description=description))

    await cluster.store.update(change)


async def test_a_task_leaves_a_node_that_lost_its_label() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store, "a", "b")
        await cluster.create_service(service_spec(replicas=2, task=IN_ZONE_A))
        await cluster.create_service(service_spec("free", replicas=2))
        async with leading(orchestrator(cluster), Enforcer(store)):
            await cluster.settle()
            (victim,) = (task for task in cluster.running("web") if task.node_id == "a")
            await cluster.change_node("a", labels={"zone": "b"})
            await cluster.settle()
            stopped = next(task for task in cluster.tasks("web") if task.id == victim.id)
            assert stopped.state is TaskState.SHUTDOWN
            assert stopped.desired_reason == "node a no longer meets the constraint node.labels.zone==a"
            assert len(cluster.running("web")) == 2
            assert len(cluster.tasks("free")) == 2, "without a constraint nothing moves"


async def test_a_change_while_no_leader_looked_is_found_at_the_start() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store, "a")
        await cluster.create_service(service_spec(replicas=1, task=IN_ZONE_A))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
        await cluster.change_node("a", labels={})
        async with leading(Enforcer(store)):
            await cluster.settle()
        assert cluster.running("web") == []


async def test_a_label_that_is_back_already_stops_nothing() -> None:
    log = FakeProposer()
    async with running_store(log) as store:
        cluster = await new_cluster(store, "a")
        await cluster.create_service(service_spec(replicas=1, task=IN_ZONE_A))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
        async with leading(Enforcer(store)), asyncio.TaskGroup() as group:
            log.hold = True
            group.create_task(cluster.change_node("a", labels={}))
            await settle()
            group.create_task(cluster.change_node("a", labels={"zone": "a"}))
            await settle()
            log.commit()
            await settle()
            assert store.view().get(NODES, "a") is not None
            log.release()
            await settle()
        assert len(cluster.running("web")) == 1


async def test_a_node_that_is_down_is_left_to_the_orchestrator() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store, "a")
        await cluster.create_service(service_spec(replicas=1, task=IN_ZONE_A))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
        async with leading(Enforcer(store)):
            await cluster.change_node("a", state=NodeState.DOWN, labels={})
            await cluster.settle()
            assert [task.desired_state for task in cluster.tasks("web")] == [TaskState.RUNNING]
            await cluster.change_node("a", state=NodeState.READY)
            await cluster.settle()
            assert [task.desired_state for task in cluster.tasks("web")] == [TaskState.SHUTDOWN]


async def test_the_youngest_tasks_leave_a_node_that_has_shrunk() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store, "a")
        await describe(cluster, "a", 8 * GIB)
        reserving = TaskSpec(reservations=Resources(memory_bytes=2 * GIB))
        await cluster.create_service(service_spec(replicas=4, task=reserving))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
        async with leading(Enforcer(store)):
            await describe(cluster, "a", 5 * GIB)
            await cluster.settle()
        left = cluster.running("web")
        assert [task.slot for task in left] == [1, 2]
        reasons = {t.desired_reason for t in cluster.tasks("web") if t.desired_state is TaskState.SHUTDOWN}
        assert reasons == {"node a no longer has enough memory"}
