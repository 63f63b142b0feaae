"""The orchestrator's loop over a store: events in, transactions out, time from a fake clock."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from manager.orchestrator.actions import SlotActions, StartTask, StopTask
from manager.orchestrator.apply import Decision, apply, batches
from manager.orchestrator.loop import Orchestrator
from manager.store.store import Store
from manager.store.tables import TASKS
from swarmpy.errors import Code, SwarmError
from swarmpy.model.spec import RestartPolicy, TaskSpec, UpdateConfig
from swarmpy.model.states import Availability, NodeState, TaskState, UpdateOrder, UpdateState
from tests.support.clock import FakeClock, settle
from tests.support.cluster import Does, FakeCluster, leading, random_source, service_spec
from tests.support.store import FakeProposer, running_store

NODES = ("a", "b", "c")


def orchestrator(cluster: FakeCluster, seed: int = 0) -> Orchestrator:
    return Orchestrator(cluster.store, clock=cluster.clock, random_bytes=random_source(seed))


async def new_cluster(store: Store) -> FakeCluster:
    cluster = FakeCluster(store, FakeClock())
    await cluster.add_nodes(*NODES)
    return cluster


async def test_a_service_is_started_scaled_and_removed() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        async with leading(orchestrator(cluster)):
            await cluster.create_service(service_spec(replicas=450))
            await cluster.settle()
            assert [task.slot for task in cluster.running("web")] == list(range(1, 451))
            await cluster.update_service("web", service_spec(replicas=3))
            await cluster.settle()
            assert [task.slot for task in cluster.running("web")] == [1, 2, 3]
            await cluster.remove_service("web")
            await cluster.settle()
            assert {task.desired_state for task in cluster.tasks("web")} == {TaskState.REMOVE}
            assert all(task.state is TaskState.SHUTDOWN for task in cluster.tasks("web"))


async def test_a_converged_service_causes_no_writes() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        await cluster.create_service(service_spec(replicas=20))
        async with leading(orchestrator(cluster)):
            await settle()
            created_at = store.revision
            steps = 0
            while await cluster.step():
                steps += 1
                await settle()
            assert len(cluster.running("web")) == 20
            assert store.revision - created_at == steps, "all of them the cluster's"
        async with leading(orchestrator(cluster, 1)):
            await settle()
            assert store.revision - created_at == steps


async def test_a_restart_delay_passes_even_if_the_leader_changes() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        delayed = TaskSpec(restart=RestartPolicy(delay_s=10.0))
        await cluster.create_service(service_spec(replicas=1, task=delayed))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
            await cluster.end(cluster.running("web")[0].id)
            await cluster.settle()
            await cluster.clock.advance(4)
        failed, held = cluster.tasks("web")
        assert (failed.state, failed.desired_state, failed.desired_reason) == (
            TaskState.FAILED,
            TaskState.SHUTDOWN,
            "",
        )
        assert (held.state, held.desired_state) == (TaskState.READY, TaskState.READY)
        async with leading(orchestrator(cluster, 1)):
            await cluster.clock.advance(5.9)
            await cluster.settle()
            assert cluster.running("web") == []
            await cluster.clock.advance(0.2)
            await cluster.settle()
            assert [task.id for task in cluster.running("web")] == [held.id]


@pytest.mark.parametrize("order", list(UpdateOrder))
async def test_an_update_goes_through_on_events_alone(order: UpdateOrder) -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        update = UpdateConfig(order=order)
        await cluster.create_service(service_spec(replicas=10, update=update))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
            await cluster.update_service("web", service_spec(replicas=10, update=update, image="app:2"))
            await cluster.settle()
            assert {task.spec_version for task in cluster.running("web")} == {2}
            assert len(cluster.running("web")) == 10
            assert cluster.service("web").update_status.state is UpdateState.UPDATING
            await cluster.clock.advance(update.monitor_s)
            status = cluster.service("web").update_status
            assert (status.state, status.message) == (UpdateState.COMPLETED, "update completed")
            assert status.completed_at == cluster.clock.now()


async def test_an_update_that_is_paused_goes_on_with_the_next() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        cluster.workers.script = lambda task: Does.FAIL if task.spec_version == 2 else Does.SERVE
        slow = TaskSpec(restart=RestartPolicy(delay_s=60.0))
        await cluster.create_service(service_spec(replicas=3, task=slow))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
            await cluster.update_service("web", service_spec(replicas=3, task=slow, image="app:2"))
            await cluster.settle()
            status = cluster.service("web").update_status
            assert status.state is UpdateState.PAUSED
            assert status.message.startswith("update paused due to failure or early termination of task")
            assert len(cluster.running("web")) == 2
            await cluster.update_service("web", service_spec(replicas=3, task=slow, image="app:3"))
            await cluster.settle()
            assert [task.spec_version for task in cluster.running("web")] == [3, 3, 3]


async def test_an_update_without_tasks_is_complete_at_once() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        await cluster.create_service(service_spec(replicas=0))
        async with leading(orchestrator(cluster)):
            await settle()
            assert cluster.service("web").update_status.state is UpdateState.NONE
            await cluster.update_service("web", service_spec(replicas=0, image="app:2"))
            await settle()
            assert cluster.service("web").update_status.state is UpdateState.COMPLETED


async def test_node_changes_move_tasks() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        await cluster.create_service(service_spec(replicas=6))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
            await cluster.change_node("a", state=NodeState.DOWN)
            await cluster.settle()
            assert {task.node_id for task in cluster.running("web") if task.desired_state == TaskState.RUNNING} == {
                "b",
                "c",
            }
            assert len(cluster.running("web")) == 6
            await cluster.change_node("b", availability=Availability.DRAIN)
            for _ in range(40):
                await settle()
                assert len(cluster.running("web")) == 6, "a drained task serves until its successor does"
                await cluster.step()
            assert {task.node_id for task in cluster.running("web")} == {"c"}


async def test_a_drained_task_goes_when_its_successors_come_to_nothing() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        once_more = TaskSpec(restart=RestartPolicy(delay_s=0.0, max_attempts=1))
        await cluster.create_service(service_spec(replicas=1, task=once_more))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
            (served,) = cluster.running("web")
            cluster.workers.script = lambda task: Does.SERVE if task.id == served.id else Does.FAIL
            await cluster.change_node(served.node_id, availability=Availability.DRAIN)
            await cluster.settle()
            states = [task.state for task in cluster.tasks("web")]
            assert states == [TaskState.SHUTDOWN, TaskState.FAILED, TaskState.FAILED]
            assert cluster.tasks("web")[0].desired_reason == f"node {served.node_id} is drained"


async def test_a_watch_that_fell_behind_starts_over() -> None:
    log = FakeProposer()
    store = Store(log, history_changes=30)
    log.attach(store.apply)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(store.run())
        cluster = await new_cluster(store)
        async with leading(orchestrator(cluster)):
            await cluster.create_service(service_spec(replicas=100))
            await cluster.settle()
            assert len(cluster.running("web")) == 100
            for task in cluster.running("web")[:60]:
                await cluster.end(task.id)
            await cluster.settle()
            assert len(cluster.running("web")) == 100
        running.cancel()


async def test_losing_the_log_ends_the_loop() -> None:
    log = FakeProposer()
    async with running_store(log) as store:
        cluster = await new_cluster(store)
        await cluster.create_service(service_spec())
        log.hold = True
        with pytest.raises(ExceptionGroup) as caught:
            async with leading(orchestrator(cluster)):
                log.fail()
                await settle()
        (error,) = caught.value.exceptions
        assert isinstance(error, SwarmError)
        assert error.code is Code.UNAVAILABLE


async def test_a_decision_that_was_overtaken_is_dropped() -> None:
    async with running_store() as store:
        cluster = await new_cluster(store)
        await cluster.create_service(service_spec(replicas=1))
        async with leading(orchestrator(cluster)):
            await cluster.settle()
        service = cluster.service("web")
        (task,) = cluster.running("web")
        start = Decision(service, (SlotActions(1, frozenset(), (StartTask(1, 1),)),))
        stop = Decision(service, (SlotActions(1, frozenset({task.id}), (StopTask(task.id, "test"),)),))
        new_id = iter(["x" * 25, "y" * 25]).__next__
        assert await store.update(lambda tx: apply(tx, start, now=1.0, new_id=new_id)) == [], "the slot is held"
        await cluster.update_service("web", service_spec(replicas=1, image="app:2"))
        assert await store.update(lambda tx: apply(tx, stop, now=1.0, new_id=new_id)) == [], "the service changed"
        assert store.view().get(TASKS, task.id) == msgspec.structs.replace(task)


def test_batches_keep_groups_whole() -> None:
    groups = tuple(SlotActions(n, frozenset(), (StopTask(f"t{n}", "x"), StartTask(n, 1))) for n in range(250))
    sizes = [sum(len(group.actions) for group in batch.groups) for batch in batches(Decision(None, groups))]
    assert sizes == [200, 200, 100]
    assert list(batches(Decision(None, ()))) == []
