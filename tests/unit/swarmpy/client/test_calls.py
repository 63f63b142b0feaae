"""Calls: typed both ways, repeated with the same request id, paged, bounded by a deadline."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from swarmpy.client import (
    BlockingClient,
    Changes,
    Client,
    NodeFilter,
    ObjectKind,
    ServiceFilter,
    TaskFilter,
)
from swarmpy.client.call import Caller
from swarmpy.errors import Code, SwarmError
from swarmpy.ids import new_id
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.service import Service
from swarmpy.model.spec import ContainerSpec, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Availability, ModeKind, NodeRole, Runtime
from swarmpy.model.task import Task
from swarmpy.rpc.status import to_metadata
from tests.support.control import FakeCluster

UNAVAILABLE = SwarmError(Code.UNAVAILABLE, "there is no leader")


def make_spec(name: str, replicas: int = 1) -> ServiceSpec:
    task = TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(args=("sleep", "1")))
    return ServiceSpec(name=name, task=task, mode=ServiceMode(replicas=replicas), labels={"app": name})


async def test_a_service_from_creation_to_removal(client: Client, cluster: FakeCluster) -> None:
    created = await client.services.create(make_spec("web", replicas=2))
    assert created.service.spec == make_spec("web", replicas=2)
    listed = await client.services.get("web")
    assert (listed.status.desired, listed.status.running, listed.status.ready) == (2, 2, 2)
    scaled = await client.services.scale("web", 3)
    assert scaled.service.spec.mode.replicas == 3
    tasks = await client.tasks.list(TaskFilter(service_ids=(created.service.id,)))
    assert [task.slot for task in tasks] == [1, 2, 3]
    back = await client.services.rollback(scaled.service)
    assert back.service.spec.mode.replicas == 2
    task, version = await client.tasks.get(tasks[0].id)
    assert (task, version.task) == (tasks[0], created.service.spec.task)
    assert await client.services.remove("web") == created.service.id
    assert await client.services.list() == []


async def test_a_retry_carries_the_request_id_of_the_first_try(client: Client, cluster: FakeCluster) -> None:
    cluster.failures = [UNAVAILABLE, SwarmError(Code.NOT_LEADER, "ask another manager")]
    await client.services.create(make_spec("web"))
    ids = [request.request_id for method, request in cluster.calls if method == "CreateService"]
    assert len(ids) == 3
    assert len(set(ids)) == 1
    await client.services.create(make_spec("db"))
    assert cluster.calls[-1][1].request_id != ids[0]


async def test_what_a_retry_cannot_help_is_raised_at_once(client: Client, cluster: FakeCluster) -> None:
    await client.services.create(make_spec("web"))
    with pytest.raises(SwarmError) as caught:
        await client.services.create(make_spec("WEB"))
    assert caught.value.code is Code.ALREADY_EXISTS
    assert sum(method == "CreateService" for method, _ in cluster.calls) == 2


async def test_retries_end_at_the_deadline_with_the_last_reason(client: Client, cluster: FakeCluster) -> None:
    cluster.failures = [UNAVAILABLE] * 1000
    with pytest.raises(SwarmError, match="there is no leader"):
        await client.nodes.list(timeout_s=0.3)
    cluster.failures = []


async def test_a_last_try_without_time_hides_no_reason() -> None:
    silence = AioRpcError(StatusCode.DEADLINE_EXCEEDED, Metadata(), Metadata(), "Deadline Exceeded")
    answers = [
        AioRpcError(StatusCode.UNAVAILABLE, Metadata(), Metadata(*to_metadata(UNAVAILABLE)), UNAVAILABLE.message)
    ]

    async def reachable() -> None:
        return None

    async def method(request: str, *, timeout: float | None = None) -> str:
        raise answers.pop() if answers else silence

    with pytest.raises(SwarmError, match="there is no leader"):
        await Caller(reachable, timeout_s=0.2)(method, "request")
    assert not answers
    with pytest.raises(SwarmError, match=r"no answer within 0.2 s"):
        await Caller(reachable, timeout_s=0.2)(method, "request")


async def test_a_stale_version_is_out_of_sequence(client: Client, cluster: FakeCluster) -> None:
    service = (await client.services.create(make_spec("web"))).service
    await client.services.update(service, make_spec("web", replicas=2))
    with pytest.raises(SwarmError) as caught:
        await client.services.update(service, make_spec("web", replicas=3))
    assert caught.value.code is Code.OUT_OF_SEQUENCE


async def test_scaling_reads_again_where_somebody_else_wrote(client: Client, cluster: FakeCluster) -> None:
    await client.services.create(make_spec("web"))
    cluster.touched.add("web")
    assert (await client.services.scale("web", 4)).service.spec.mode.replicas == 4


async def test_only_replicated_services_scale(client: Client, cluster: FakeCluster) -> None:
    spec = msgspec.structs.replace(make_spec("agent"), mode=ServiceMode(kind=ModeKind.GLOBAL))
    cluster.put(Service(id="agent", spec=spec))
    with pytest.raises(SwarmError, match="service agent is global, and only replicated ones scale"):
        await client.services.scale("agent", 2)


async def test_lists_come_in_pages_and_leave_whole(client: Client, cluster: FakeCluster) -> None:
    cluster.page_size = 3
    for number in range(8):
        await client.services.create(make_spec(f"s{number}"))
    listed = await client.services.list()
    assert sorted(one.service.name for one in listed) == [f"s{number}" for number in range(8)]
    assert sum(method == "ListServices" for method, _ in cluster.calls) == 3
    tasks, revision = await client.tasks.snapshot()
    assert (len(tasks), revision) == (8, cluster.revision)
    named = await client.services.list(ServiceFilter(names=("s1", "s2"), labels={"app": ""}))
    assert [one.service.name for one in named] == ["s1", "s2"]


async def test_nodes_and_cluster(client: Client, cluster: FakeCluster) -> None:
    node = await client.nodes.get("n1")
    drained = msgspec.structs.replace(node.spec, availability=Availability.DRAIN)
    assert (await client.nodes.update(node, drained)).spec == drained
    assert await client.nodes.list(NodeFilter(availabilities=(Availability.ACTIVE,))) == []
    assert [one.name for one in await client.nodes.list(NodeFilter(roles=(NodeRole.MANAGER,)))] == ["n1"]
    with pytest.raises(SwarmError, match="not down"):
        await client.nodes.remove("n1")
    assert await client.nodes.remove("n1", force=True) == node.id
    info = await client.cluster.get()
    updated = await client.cluster.update(info.cluster, ClusterSpec(task_history_limit=1))
    assert updated.spec.task_history_limit == 1
    assert (await client.cluster.rotate_join_token(NodeRole.WORKER)).tokens.worker.endswith("worker2")
    assert (await client.node.info()).cluster_id == info.cluster.id
    joined = await client.node.join("127.0.0.1:2377", cluster.tokens.manager)
    assert joined.role is NodeRole.MANAGER
    await client.node.leave(force=True)


async def test_a_watch_gives_the_changes_after_a_revision(client: Client, cluster: FakeCluster) -> None:
    service = (await client.services.create(make_spec("web"))).service
    seen: list[Changes] = []
    async with aclosing(client.watch(since=service.version, kinds=(ObjectKind.TASK,))) as stream:
        async for changes in stream:
            seen.append(changes)
            if len(seen) == 2:
                break
    assert (seen[0].revision, seen[0].changes) == (service.version, ())
    (change,) = seen[1].changes
    assert isinstance(change.object, Task)
    assert change.object.service_id == service.id
    assert not change.removed


async def test_a_watch_from_too_long_ago_is_compacted(client: Client, cluster: FakeCluster) -> None:
    cluster.compacted = 100
    with pytest.raises(SwarmError) as caught:
        await anext(client.watch(since=5))
    assert caught.value.code is Code.COMPACTED


def test_the_blocking_client_runs_the_same_calls(cluster: FakeCluster, tmp_path: Path) -> None:
    with BlockingClient(state_dir=tmp_path) as swarm:
        service = swarm.run(swarm.client.services.create(make_spec("web"))).service
        assert [one.service for one in swarm.iterate(swarm.client.services.iterate())] == [service]
        for changes in swarm.iterate(swarm.client.watch(since=service.version)):
            if changes.changes:
                break
        assert isinstance(changes.changes[0].object, Task | Service)


def test_request_ids_come_from_the_given_source() -> None:
    async def nothing() -> None:
        return None

    call = Caller(nothing, random_bytes=lambda size: b"\x01" * size)
    assert call.request_id() == new_id(lambda size: b"\x01" * size)


async def test_reads_may_be_stale(cluster: FakeCluster, tmp_path: Path) -> None:
    async with Client.connect(state_dir=tmp_path, timeout_s=5.0) as current:
        await current.nodes.list()
    assert cluster.stale_reads == []
    async with Client.connect(state_dir=tmp_path, timeout_s=5.0, stale=True) as client:
        assert [node.name for node in await client.nodes.list()] == ["n1"]
        async with aclosing(client.watch()) as changes:
            assert (await anext(changes)).revision == cluster.revision
        assert [batch async for batch in client.logs("web")] != []
    assert cluster.stale_reads == ["ListNodes", "Watch", "Logs"]


def test_the_blocking_client_may_read_so_too(cluster: FakeCluster, tmp_path: Path) -> None:
    with BlockingClient(state_dir=tmp_path, stale=True) as swarm:
        swarm.run(swarm.client.nodes.list())
    assert cluster.stale_reads == ["ListNodes"]
