"""The reaper over a store, together with the orchestrator whose rows it deletes."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from manager.orchestrator.loop import Orchestrator
from manager.orchestrator.reaper import Reaper
from manager.store.store import Store
from manager.store.tables import CLUSTERS, SERVICE_VERSIONS, TASKS
from manager.store.transaction import Transaction
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.spec import RestartPolicy, TaskSpec
from swarmpy.model.states import NodeState, TaskState
from tests.support.clock import FakeClock
from tests.support.cluster import FakeCluster, leading, random_source, service_spec
from tests.support.store import running_store

AT_ONCE = TaskSpec(restart=RestartPolicy(delay_s=0.0))


def both(cluster: FakeCluster) -> AbstractAsyncContextManager[None]:
    store = cluster.store
    return leading(Orchestrator(store, clock=cluster.clock, random_bytes=random_source()), Reaper(store))


async def new_cluster(store: Store) -> FakeCluster:
    cluster = FakeCluster(store, FakeClock())
    await cluster.add_nodes("a", "b")
    return cluster


async def test_removed_tasks_and_versions_are_deleted() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        async with both(cluster):
            await cluster.create_service(service_spec(replicas=300))
            await cluster.settle()
            await cluster.update_service("web", service_spec(replicas=2))
            await cluster.settle()
            assert len(cluster.tasks("web")) == 2
            await cluster.remove_service("web")
            await cluster.settle()
            assert cluster.tasks("web") == []
            assert list(store.view().all(SERVICE_VERSIONS)) == []


async def test_a_removed_task_on_a_node_that_is_down_does_not_wait_for_it() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        async with both(cluster):
            await cluster.create_service(service_spec(replicas=2))
            await cluster.settle()
            await cluster.change_node("a", state=NodeState.DOWN)
            await cluster.settle()
            assert [t.state for t in cluster.tasks("web") if t.node_id == "a"] == [TaskState.RUNNING]
            await cluster.remove_service("web")
            await cluster.settle()
            assert cluster.tasks("web") == []


async def test_history_is_kept_up_to_the_limit_and_a_new_limit_is_heeded() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        await cluster.limit_history(3)
        async with both(cluster):
            await cluster.create_service(service_spec(replicas=1, task=AT_ONCE))
            for _ in range(6):
                await cluster.settle()
                (alive,) = cluster.running("web")
                await cluster.end(alive.id)
            await cluster.settle()
            kept = cluster.tasks("web")
            assert [task.state for task in kept] == [TaskState.FAILED, TaskState.FAILED, TaskState.RUNNING]
            assert kept[-1].attempts == 6

            def change(tx: Transaction) -> None:
                (row,) = tx.all(CLUSTERS)
                tx.delete(CLUSTERS, row.id)
                tx.create(CLUSTERS, type(row)(id=row.id, spec=ClusterSpec(task_history_limit=1)))

            await store.update(change)
            await cluster.settle()
            assert [task.id for task in cluster.tasks("web")] == [kept[-1].id]


async def test_old_versions_go_once_no_task_and_no_rollback_needs_them() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        await cluster.limit_history(1)
        async with both(cluster):
            await cluster.create_service(service_spec(replicas=2))
            for number in range(2, 6):
                await cluster.settle()
                await cluster.update_service("web", service_spec(replicas=2, image=f"app:{number}"))
            await cluster.settle()
            await cluster.clock.advance(5)
            await cluster.settle()
            assert {task.spec_version for task in cluster.tasks("web")} == {5}
            assert sorted(version.number for version in store.view().all(SERVICE_VERSIONS)) == [4, 5]


async def test_what_was_left_by_the_last_leader_is_deleted() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        orchestrator = Orchestrator(store, clock=cluster.clock, random_bytes=random_source())
        async with leading(orchestrator):
            await cluster.create_service(service_spec(replicas=250))
            await cluster.settle()
            await cluster.remove_service("web")
            await cluster.settle()
        assert len(cluster.tasks("web")) == 250
        async with leading(Reaper(store)):
            await cluster.settle()
            assert list(store.view().all(TASKS)) == []
            assert list(store.view().all(SERVICE_VERSIONS)) == []
