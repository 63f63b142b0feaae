"""The allocator's loop and networks: subnets, virtual addresses, tasks' addresses, and who waits for one."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from manager.allocator.addresses import REUSE_AFTER_S
from manager.allocator.allocator import Allocator
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NETWORKS, NODES, SERVICE_VERSIONS, SERVICES, TASKS
from swarmpy.model.cluster import Cluster, ClusterSpec
from swarmpy.model.network import Network, NetworkSpec
from swarmpy.model.node import Node
from swarmpy.model.service import Service, ServiceVersion, version_id
from swarmpy.model.spec import EndpointSpec, NetworkAttachment, ServiceSpec, TaskSpec
from swarmpy.model.states import EndpointMode, NetworkDriver, TaskState
from swarmpy.model.task import Task
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading
from tests.support.store import put, running_store


def network(name: str, subnet: str = "", **spec: object) -> Network:
    return Network(id=name, spec=msgspec.structs.replace(NetworkSpec(name=name, subnet=subnet), **spec))


async def serve(store: Store, name: str, *networks: str, tasks: int = 0, mode: EndpointMode = EndpointMode.VIP) -> None:
    """Store a service on networks, and `tasks` of it."""
    task = TaskSpec(networks=tuple(NetworkAttachment(target=n) for n in networks))
    spec = ServiceSpec(name=name, task=task, endpoint=EndpointSpec(mode=mode))
    await put(
        store, SERVICE_VERSIONS, ServiceVersion(id=version_id(name, 1), service_id=name, number=1, name=name, task=task)
    )
    await put(store, SERVICES, Service(id=name, spec=spec))
    await put(store, TASKS, *(new_task(name, slot) for slot in range(1, tasks + 1)))
    await settle()


def new_task(service: str, slot: int) -> Task:
    return Task(id=f"{service}.{slot}", service_id=service, spec_version=1, slot=slot)


def row(store: Store, name: str) -> Network:
    found = store.view().get(NETWORKS, name)
    assert found is not None
    return found


def service(store: Store, name: str) -> Service:
    found = store.view().get(SERVICES, name)
    assert found is not None
    return found


def task(store: Store, task_id: str) -> Task:
    found = store.view().get(TASKS, task_id)
    assert found is not None
    return found


def addresses(rows: Iterable[Task | Service]) -> list[str]:
    found = [a for r in rows for a in (r.networks if isinstance(r, Task) else r.endpoint.vips)]
    return [a.address for a in found]


async def stop(store: Store, task_id: str) -> None:
    await put(store, TASKS, msgspec.structs.replace(task(store, task_id), state=TaskState.SHUTDOWN))
    await settle()


async def test_networks_get_what_they_lack() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(
            store, NODES, Node(id="n1", addr="10.0.0.7", data_addr="10.0.1.7"), Node(id="n2", addr="host.example")
        )
        await put(store, NETWORKS, network("a"), network("b", "10.0.3.0/24", gateway="10.0.3.254"))
        await put(store, NETWORKS, network("c"), network("d", driver=NetworkDriver.BRIDGE))
        await settle()
        rows = [row(store, name) for name in "abcd"]
        assert [r.subnet for r in rows] == ["10.0.2.0/24", "10.0.3.0/24", "10.0.4.0/24", "10.0.5.0/24"]
        assert [r.gateway for r in rows] == ["10.0.2.1", "10.0.3.254", "10.0.4.1", "10.0.5.1"]
        assert [r.vni for r in rows] == [4097, 4098, 4099, 0]


async def test_the_cluster_says_where_subnets_come_from() -> None:
    spec = ClusterSpec(default_addr_pools=("192.168.0.0/28", "172.30.0.0/28"), default_addr_mask=28)
    clock = FakeClock()
    async with running_store() as store, leading(Allocator(store, clock)):
        await put(store, CLUSTERS, Cluster(id="c", spec=spec))
        await put(store, NETWORKS, network("a"), network("b"), network("c"))
        await settle()
        assert [row(store, name).subnet for name in "abc"] == ["192.168.0.0/28", "172.30.0.0/28", ""]
        assert "no subnet of /28 is free in 192.168.0.0/28, 172.30.0.0/28" in row(store, "c").problem
        await serve(store, "web", "c", tasks=1)
        assert service(store, "web").allocation_problem == f"network c: {row(store, 'c').problem}"
        assert task(store, "web.1").pending_reason == service(store, "web").allocation_problem
        await store.update(lambda tx: tx.delete(NETWORKS, "a"))
        await settle()
        assert row(store, "c").subnet == "", "the subnet rests"
        await clock.advance(REUSE_AFTER_S)
        assert row(store, "c").subnet == "192.168.0.0/28"
        assert row(store, "c").problem == ""
        assert service(store, "web").allocation_problem == ""
        assert addresses([service(store, "web"), task(store, "web.1")]) == ["192.168.0.2", "192.168.0.3"]


async def test_services_and_tasks_get_an_address_on_each_network() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await serve(store, "web", "front", "bridge", "back", tasks=2)
        assert task(store, "web.1").state is TaskState.NEW
        await put(store, NETWORKS, network("front"), network("back"))
        await settle()
        assert addresses([service(store, "web")]) == ["10.0.0.2", "10.0.1.2"]
        assert [addresses([task(store, t)]) for t in ("web.1", "web.2")] == [
            ["10.0.0.3", "10.0.1.3"],
            ["10.0.0.4", "10.0.1.4"],
        ]
        assert {t.state for t in store.view().all(TASKS)} == {TaskState.PENDING}
        assert row(store, "front").cursor == 5
        assert [a.network_id for a in task(store, "web.1").networks] == ["front", "back"]


async def test_names_that_go_round_need_no_virtual_address() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(store, NETWORKS, network("front"))
        await serve(store, "web", "front", tasks=1, mode=EndpointMode.DNSRR)
        assert service(store, "web").endpoint.vips == ()
        assert addresses([task(store, "web.1")]) == ["10.0.0.2"]


async def test_a_service_that_changes_its_networks_keeps_what_it_still_wants() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(store, NETWORKS, network("a"), network("b"), network("c"))
        await serve(store, "web", "a", "b")
        had = service(store, "web")
        joined = tuple(NetworkAttachment(target=n) for n in ("c", "b"))
        spec = msgspec.structs.replace(had.spec, task=TaskSpec(networks=joined))
        await put(store, SERVICES, msgspec.structs.replace(had, spec=spec))
        await settle()
        assert [v.network_id for v in service(store, "web").endpoint.vips] == ["c", "b"]
        assert addresses([service(store, "web")]) == ["10.0.2.2", "10.0.1.2"]
        await serve(store, "other", "a")
        assert addresses([service(store, "other")]) == ["10.0.0.3"], "the one that was left rests"


async def test_an_exhausted_network_is_explained_and_waited_for() -> None:
    clock = FakeClock()
    async with running_store() as store, leading(Allocator(store, clock)):
        await put(store, NETWORKS, network("small", "10.9.0.0/29"))
        await serve(store, "web", "small", tasks=6)
        states = [task(store, f"web.{slot}").state for slot in range(1, 7)]
        assert states == [TaskState.PENDING] * 4 + [TaskState.NEW] * 2
        assert task(store, "web.5").pending_reason == (
            "no address is free on network small (10.9.0.0/29, 5 addresses for tasks and services): "
            "run fewer tasks on it, or use a network with a larger subnet"
        )
        before = store.revision
        await clock.advance(REUSE_AFTER_S)
        assert store.revision == before, "waiting writes nothing"
        await serve(store, "late", "small")
        assert service(store, "late").allocation_problem.startswith("no address is free on network small")
        await stop(store, "web.2")
        await clock.advance(REUSE_AFTER_S - 1)
        assert task(store, "web.5").state is TaskState.NEW
        await clock.advance(1)
        freed = task(store, "web.5")
        assert (freed.state, freed.pending_reason, addresses([freed])) == (TaskState.PENDING, "", ["10.9.0.4"])
        assert task(store, "web.6").state is TaskState.NEW
        await store.update(lambda tx: tx.delete(TASKS, "web.1"))
        await store.update(lambda tx: tx.delete(TASKS, "web.6"))
        await clock.advance(REUSE_AFTER_S)
        assert addresses([service(store, "late")]) == ["10.9.0.3"], "who was gone is passed over"
        assert service(store, "late").allocation_problem == ""


async def test_a_new_leader_builds_the_same_pools() -> None:
    clock = FakeClock()
    async with running_store() as store:
        async with leading(Allocator(store, clock)):
            await put(store, NETWORKS, network("n", "10.9.0.0/28"))
            await serve(store, "web", "n", tasks=3)
            await stop(store, "web.1")
            await store.update(lambda tx: tx.delete(TASKS, "web.1"))
        async with leading(Allocator(store, clock)):
            await serve(store, "api", "n", tasks=7)
            given = addresses([*store.view().all(SERVICES), *store.view().all(TASKS)])
            assert len(given) == len(set(given)) == 11
            assert "10.9.0.3" not in given, "what the last leader took back still rests"
            await serve(store, "more", "n")
            waits = service(store, "more").allocation_problem
            assert waits == "", "one that was never given need not be waited for"
            await serve(store, "last", "n")
            assert service(store, "last").allocation_problem
            await clock.advance(REUSE_AFTER_S)
            assert addresses([service(store, "last")]) == ["10.9.0.3"]


async def test_a_network_that_is_gone_leaves_its_tasks_alone() -> None:
    clock = FakeClock()
    async with running_store() as store, leading(Allocator(store, clock)):
        await put(store, NETWORKS, network("old"))
        await serve(store, "web", "old", tasks=1)
        await store.update(lambda tx: tx.delete(SERVICES, "web"))
        await store.update(lambda tx: tx.delete(NETWORKS, "old"))
        await clock.advance(REUSE_AFTER_S)
        await put(store, NETWORKS, network("new"))
        await settle()
        assert row(store, "new").subnet == "10.0.1.0/24", "a task is still there"
        assert row(store, "new").vni == 4098
        await stop(store, "web.1")
        await put(store, NETWORKS, network("newer"))
        await settle()
        assert row(store, "newer").subnet == "10.0.0.0/24"


async def test_many_tasks_on_many_networks_fit_into_transactions() -> None:
    async with running_store() as store, leading(Allocator(store, FakeClock())):
        await put(store, NETWORKS, *(network(f"n{i:03}") for i in range(150)))
        for i in range(150):
            await serve(store, f"s{i:03}", f"n{i:03}", f"n{(i + 1) % 150:03}")
        await put(store, TASKS, *(new_task(f"s{i:03}", slot) for i in range(150) for slot in (1, 2)))
        await settle(400)
        assert {t.state for t in store.view().all(TASKS)} == {TaskState.PENDING}
        given = addresses([*store.view().all(SERVICES), *store.view().all(TASKS)])
        assert len(given) == len(set(given)) == 150 * 2 * 3
