"""The allocator's loop over a real store: services get what they ask for, and only then their tasks go on."""

from __future__ import annotations

import msgspec

from manager.allocator.allocator import Allocator
from manager.store.store import Store
from manager.store.tables import SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.model.service import Service
from swarmpy.model.spec import EndpointSpec, PortSpec, ServiceSpec
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading
from tests.support.store import put, running_store


def web(service_id: str, *published: int) -> Service:
    ports = tuple(PortSpec(target=80 + i, published=p) for i, p in enumerate(published))
    return Service(id=service_id, spec=ServiceSpec(name=service_id, endpoint=EndpointSpec(ports=ports)))


def new_task(task_id: str, service_id: str) -> Task:
    return Task(id=task_id, service_id=service_id, spec_version=1, slot=1)


def service(store: Store, service_id: str) -> Service:
    row = store.view().get(SERVICES, service_id)
    assert row is not None
    return row


def published(store: Store, service_id: str) -> list[int]:
    return [p.published for p in service(store, service_id).endpoint.ports]


def task(store: Store, task_id: str) -> Task:
    row = store.view().get(TASKS, task_id)
    assert row is not None
    return row


async def ask(store: Store, service_id: str, *ports: int) -> None:
    """Change the published ports that a service asks for."""

    def change(tx: Transaction) -> None:
        row = tx.get(SERVICES, service_id)
        assert row is not None
        tx.update(SERVICES, msgspec.structs.replace(row, spec=web(service_id, *ports).spec))

    await store.update(change)
    await settle()


async def test_services_and_their_tasks_go_on_whichever_comes_first() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(store, TASKS, new_task("early", "a"))
        await settle()
        assert task(store, "early").state is TaskState.NEW
        await put(store, SERVICES, web("a", 0, 8080))
        await put(store, TASKS, new_task("late", "a"))
        await settle()
        assert sorted(published(store, "a")) == [8080, 30000]
        assert service(store, "a").allocated_for == service(store, "a").spec.endpoint
        assert [task(store, t).state for t in ("early", "late")] == [TaskState.PENDING] * 2


async def test_a_port_that_another_one_has_is_waited_for() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(store, SERVICES, web("a", 8080), web("b", 8080))
        await put(store, TASKS, new_task("t", "b"))
        await settle()
        problem = "port 8080/tcp is published by another service"
        assert service(store, "b").allocation_problem == problem
        assert (task(store, "t").state, task(store, "t").pending_reason) == (TaskState.NEW, problem)
        before = store.revision
        await settle()
        assert store.revision == before, "waiting writes nothing"
        await ask(store, "a", 9090)
        assert (published(store, "a"), published(store, "b")) == ([9090], [8080])
        assert service(store, "b").allocation_problem == ""
        assert (task(store, "t").state, task(store, "t").pending_reason) == (TaskState.PENDING, "")


async def test_what_a_removed_service_had_is_given_to_who_waits() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(store, SERVICES, web("a", 8080), web("b", 8080))
        await settle()
        await store.update(lambda tx: tx.delete(SERVICES, "a"))
        await settle()
        assert published(store, "b") == [8080]


async def test_a_new_leader_gives_nothing_twice() -> None:
    async with running_store() as store:
        async with leading(Allocator(store, FakeClock())):
            await put(store, SERVICES, web("a", 0), web("b", 0))
            await settle()
        await put(store, SERVICES, web("c", 0))
        await put(store, TASKS, *(new_task(f"t{i:03}", "c") for i in range(450)))
        async with leading(Allocator(store, FakeClock())):
            await settle()
            assert len({service(store, s).endpoint.vip_index for s in "abc"}) == 3
            assert len({p for s in "abc" for p in published(store, s)}) == 3
            assert {t.state for t in store.view().all(TASKS)} == {TaskState.PENDING}
