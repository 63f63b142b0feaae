"""The scheduler's loop over a real store: what it assigns, what it explains, and what it learns again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from manager.scheduler.fleet import FAILURES_TO_AVOID, Fleet, need_of
from manager.scheduler.loop import GROUP_SLICE, Scheduler
from manager.store.store import Store
from manager.store.tables import NODES, SERVICE_VERSIONS, TASKS, T, Table
from manager.store.transaction import Transaction
from swarmpy.model.node import Node
from swarmpy.model.service import ServiceVersion
from swarmpy.model.states import Availability, NodeState, TaskState
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading
from tests.support.store import FakeProposer, put, running_store
from tests.unit.manager.scheduler.test_place import make_node, make_version


def pending(number: int, service: str = "web") -> Task:
    return Task(id=f"{service}{number:05}", service_id=service, spec_version=1, slot=number, state=TaskState.PENDING)


async def change(store: Store, table: Table[T], row_id: str, **fields: object) -> None:
    def update(tx: Transaction) -> None:
        row = tx.get(table, row_id)
        assert row is not None
        tx.update(table, msgspec.structs.replace(row, **fields))  # type: ignore[type-var]  # rows are structs

    await store.update(update)


@asynccontextmanager
async def scheduling(
    *nodes: Node, version: ServiceVersion | None = None, log: FakeProposer | None = None
) -> AsyncIterator[Store]:
    async with running_store(log) as store:
        await put(store, NODES, *nodes)
        await put(store, SERVICE_VERSIONS, version or make_version())
        async with leading(Scheduler(store, FakeClock())):
            yield store


def task(store: Store, number: int, service: str = "web") -> Task:
    row = store.view().get(TASKS, f"{service}{number:05}")
    assert row is not None
    return row


def spread(store: Store) -> Counter[str]:
    return Counter(t.node_id for t in store.view().all(TASKS) if t.state is TaskState.ASSIGNED)


async def test_pending_tasks_are_assigned_evenly() -> None:
    async with scheduling(make_node("a"), make_node("b"), make_node("c", state=NodeState.DOWN)) as store:
        await put(
            store, TASKS, *(pending(i) for i in range(4)), msgspec.structs.replace(pending(9), state=TaskState.NEW)
        )
        await settle()
        assert spread(store) == {"a": 2, "b": 2}
        assert task(store, 9).node_id == ""


async def test_a_group_larger_than_a_slice_is_spread_all_the_same() -> None:
    count = 2 * GROUP_SLICE + 100
    async with scheduling(*(make_node(f"n{i}") for i in range(7))) as store:
        await put(store, TASKS, *(pending(i) for i in range(count)))
        await settle(500)
        counts = spread(store)
        assert sum(counts.values()) == count
        assert max(counts.values()) - min(counts.values()) <= 1


async def test_who_finds_no_node_is_told_why_and_tried_again_when_that_changes() -> None:
    async with scheduling(make_node("a", cpus=2), version=make_version(cpus=1)) as store:
        await put(store, TASKS, *(pending(i) for i in range(3)))
        await settle()
        assert task(store, 2).pending_reason == "no suitable node (insufficient resources on 1 node)"
        await change(store, TASKS, "web00000", state=TaskState.FAILED)
        await settle()
        assert (task(store, 2).state, task(store, 2).pending_reason) == (TaskState.ASSIGNED, "")
        await put(store, TASKS, pending(3))
        await settle()
        assert task(store, 3).state is TaskState.PENDING
        await put(store, NODES, make_node("b", cpus=1))
        await settle()
        assert task(store, 3).node_id == "b"
        await store.update(lambda tx: tx.delete(TASKS, "web00003"))
        await put(store, TASKS, pending(4))
        await settle()
        assert task(store, 4).node_id == "b", "what a removed task held is free again"


async def test_the_reason_of_very_many_is_not_written_anew_for_every_node() -> None:
    async with scheduling(version=make_version(cpus=9)) as store:
        await put(store, TASKS, *(pending(i) for i in range(300)))
        await settle(200)
        await put(store, NODES, make_node("a"))
        await settle(200)
        assert task(store, 0).pending_reason == "no suitable node (insufficient resources on 1 node)"
        before = store.revision
        await put(store, NODES, make_node("b"))
        await settle(200)
        assert store.revision == before + 1, "the same words with another count"


async def test_a_node_that_closes_while_tasks_are_on_their_way_to_it_gets_none() -> None:
    log = FakeProposer()
    async with scheduling(make_node("a"), log=log) as store:
        node = store.view().get(NODES, "a")
        assert node is not None
        paused = msgspec.structs.replace(node.spec, availability=Availability.PAUSE)
        log.hold = True
        async with asyncio.TaskGroup() as group:
            group.create_task(put(store, TASKS, pending(1)))
            await settle()
            # In flight behind the task: the scheduler places it before it has seen the node close.
            group.create_task(change(store, NODES, "a", spec=paused))
            await settle()
            log.release()
        await settle()
        assert task(store, 1).state is TaskState.PENDING
        assert "not available for new tasks" in task(store, 1).pending_reason


async def test_a_new_leader_counts_what_is_there() -> None:
    async with running_store() as store:
        await put(store, NODES, make_node("a", cpus=2), make_node("b", cpus=2))
        await put(store, SERVICE_VERSIONS, make_version(cpus=1))
        for number, node_id in enumerate(["a", "a", "gone"]):
            await put(
                store,
                TASKS,
                msgspec.structs.replace(pending(number), state=TaskState.RUNNING, node_id=node_id),
            )
        await put(store, TASKS, *(pending(i) for i in range(10, 13)))
        async with leading(Scheduler(store, FakeClock())):
            assert [task(store, i).node_id for i in range(10, 13)] == ["b", "b", ""]
            await put(store, NODES, make_node("gone", cpus=2))
            await settle()
            assert task(store, 12).node_id == "gone", "its own task is counted there, and one more fits"
            await put(store, TASKS, pending(13))
            await settle()
            assert task(store, 13).state is TaskState.PENDING


async def test_what_is_shut_down_before_it_has_a_node_gets_none() -> None:
    async with scheduling() as store:
        await put(store, TASKS, pending(1))
        await settle()
        await change(store, TASKS, "web00001", desired_state=TaskState.SHUTDOWN)
        await put(store, NODES, make_node("a"))
        await settle()
        assert task(store, 1).state is TaskState.PENDING


def test_failures_count_by_their_time_in_whatever_order_they_are_heard_of() -> None:
    fleet = Fleet()
    fleet.set_node(make_node("a"))
    failed = msgspec.structs.replace(pending(1), node_id="a", state=TaskState.FAILED)
    for at in [1000.0, 1.0, 1001.0, 2.0, 1002.0]:
        fleet.note_failure(failed, at)
    assert not fleet.nodes["a"].fails_often("web.1", 1010.0)
    for at in [1003.0, 1004.0]:
        fleet.note_failure(failed, at)
    assert FAILURES_TO_AVOID == 5
    assert not fleet.nodes["a"].fails_often("web.1", 1400.0)


async def test_a_node_with_a_slow_clock_is_avoided_like_any_other_where_tasks_fail() -> None:
    async with scheduling(make_node("a"), make_node("b")) as store:
        long_ago = FakeClock().now() - 86_400
        rows = [
            msgspec.structs.replace(pending(i), node_id="a", state=TaskState.RUNNING) for i in range(FAILURES_TO_AVOID)
        ]
        await put(store, TASKS, *rows)
        await settle()
        for row in rows:
            await change(store, TASKS, row.id, state=TaskState.FAILED, status_at=long_ago)
        await settle()
        await put(store, TASKS, *(pending(10 + i) for i in range(4)))
        await settle()
        assert spread(store) == {"b": 4}


def test_a_node_that_comes_back_holds_what_it_held() -> None:
    fleet, need = Fleet(), need_of(make_version(cpus=1))
    fleet.set_node(make_node("a"))
    fleet.place("t", "a", need)
    fleet.remove_node("a")
    fleet.set_node(make_node("a"))
    assert (fleet.nodes["a"].tasks, fleet.nodes["a"].nano_cpus) == (1, 3 * 10**9)
    fleet.release("t")
    assert (fleet.nodes["a"].tasks, fleet.nodes["a"].nano_cpus) == (0, 4 * 10**9)
