"""The use cases, each through the servicer that translates it: what they store, and every way they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import pytest

from manager.api import paging
from manager.api.consensus import ConsensusReport
from manager.api.servicer import ControlServicer
from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES, SERVICE_VERSIONS, SERVICES, TASKS
from manager.store.transaction import Transaction
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2 as types
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import Cluster, ClusterSpec, JoinTokens, RootCA
from swarmpy.model.endpoints import ServicePort
from swarmpy.model.node import ManagerStatus, Node, NodeDescription, NodeSpec
from swarmpy.model.service import Endpoint, Service
from swarmpy.model.spec import ContainerSpec, EndpointSpec, PortSpec, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Availability, NodeRole, NodeState, Runtime, TaskState
from swarmpy.model.task import Task
from swarmpy.wire.convert import from_proto, to_proto
from tests.support.clock import FakeClock
from tests.support.cluster import random_source
from tests.support.store import put, running_store


@dataclass
class Api:
    """A servicer, called as gRPC calls it, with a fresh request id for each change."""

    store: Store
    servicer: ControlServicer
    calls: int = 0

    async def create(self, spec: ServiceSpec, request_id: str | None = None) -> Service:
        message = cast(types.ServiceSpec, to_proto(spec))
        request = pb.CreateServiceRequest(request_id=self._id(request_id), spec=message)
        return from_proto((await self.servicer.CreateService(request, None)).service, Service)

    async def update(self, service: Service, spec: ServiceSpec, *, version: int | None = None) -> Service:
        request = pb.UpdateServiceRequest(
            request_id=self._id(None),
            service_id=service.id,
            version=service.version if version is None else version,
            spec=cast(types.ServiceSpec, to_proto(spec)),
        )
        return from_proto((await self.servicer.UpdateService(request, None)).service, Service)

    async def roll_back(self, service: Service) -> Service:
        request = pb.UpdateServiceRequest(
            request_id=self._id(None), service_id=service.id, version=service.version, rollback=True
        )
        return from_proto((await self.servicer.UpdateService(request, None)).service, Service)

    async def remove(self, ref: str, request_id: str | None = None) -> str:
        request = pb.RemoveServiceRequest(request_id=self._id(request_id), ref=ref)
        return (await self.servicer.RemoveService(request, None)).service_id

    def _id(self, given: str | None) -> str:
        self.calls += 1
        return f"r{self.calls}" if given is None else given


def web(
    name: str = "web", *, replicas: int = 2, ports: tuple[PortSpec, ...] = (), command: str = "serve"
) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        task=TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(command=(command,))),
        mode=ServiceMode(replicas=replicas),
        endpoint=EndpointSpec(ports=ports),
    )


JOIN_AT = "127.0.0.1:2377"


def why_needed(node: Node) -> str | None:
    """One manager cannot be done without."""
    return f"{node.name} is the last manager" if node.name == "last" else None


def no_logs() -> Any:
    raise AssertionError("nobody asks for logs here")


@asynccontextmanager
async def api() -> AsyncIterator[Api]:
    cluster = Cluster(
        id="c",
        root_ca=RootCA(cert_pem="cert", key_pem="key", digest="0" * 50),
        join_tokens=JoinTokens(worker="w", manager="m"),
    )
    async with running_store() as store:
        await put(store, CLUSTERS, cluster)
        report = ConsensusReport(store, "m1", no_logs)
        yield Api(store, ControlServicer(store, FakeClock(), random_source(), no_logs, JOIN_AT, report, why_needed))


async def refused(call: Awaitable[object]) -> SwarmError:
    with pytest.raises(SwarmError) as raised:
        await call
    return raised.value


async def test_a_service_is_stored_with_its_first_version() -> None:
    async with api() as a:
        service = await a.create(web(ports=(PortSpec(target=80, published=8080),)))
        stored = a.store.view().get(SERVICES, service.id)
        assert stored == service
        version = a.store.view().get(SERVICE_VERSIONS, f"{service.id}.1")
        assert version is not None
        assert (version.task, version.ports) == (web().task, (ServicePort(target=80),))


async def test_what_create_refuses() -> None:
    async with api() as a:
        await a.create(web(ports=(PortSpec(target=80, published=8080),)))
        for spec, code, words in [
            (web("WEB"), Code.ALREADY_EXISTS, "service web exists already"),
            (web("bad", replicas=-1), Code.INVALID_ARGUMENT, "replicas"),
            (web(""), Code.INVALID_ARGUMENT, "name"),
            (
                web("other", ports=(PortSpec(target=1, published=8080),)),
                Code.ALREADY_EXISTS,
                "port 8080/tcp is already published by service web",
            ),
        ]:
            error = await refused(a.create(spec))
            assert (error.code, words in error.message) == (code, True), error.message
        assert len(a.store.view().all(SERVICES)) == 1
        assert len(a.store.view().all(SERVICE_VERSIONS)) == 1


async def test_a_port_that_another_service_was_given_is_taken() -> None:
    async with api() as a:
        service = await a.create(web(ports=(PortSpec(target=80),)))
        given = Endpoint(vip_index=1, ports=(ServicePort(target=80, published=30000),))
        await put(a.store, SERVICES, msgspec.structs.replace(service, endpoint=given))
        error = await refused(a.create(web("other", ports=(PortSpec(target=1, published=30000),))))
        assert error.code is Code.ALREADY_EXISTS


async def test_a_request_that_is_repeated_is_done_once() -> None:
    async with api() as a:
        first, second = await asyncio.gather(a.create(web(), "same"), a.create(web(), "same"))
        assert first == second == await a.create(web(), "same")
        assert len(a.store.view().all(SERVICES)) == 1
        assert await a.remove("web", "same") == first.id, "an id of one call is none of another"
        assert await a.remove("web", "same") == first.id
        for request_id in ("", "x" * 65):
            assert (await refused(a.create(web("b"), request_id))).code is Code.INVALID_ARGUMENT


async def test_an_update_replaces_the_spec_and_makes_a_version_only_for_another_template() -> None:
    async with api() as a:
        service = await a.create(web())
        scaled = await a.update(service, web(replicas=5))
        assert (scaled.spec_version, scaled.spec.mode.replicas) == (1, 5)
        changed = await a.update(scaled, web(command="other"))
        assert (changed.spec_version, changed.previous_spec) == (2, web(replicas=5))
        back = await a.roll_back(changed)
        assert (back.spec, back.spec_version, back.previous_spec) == (web(replicas=5), 3, web(command="other"))
        versions = a.store.view().find(SERVICE_VERSIONS, "service_id", service.id)
        assert sorted(v.number for v in versions) == [1, 2, 3]


async def test_what_update_refuses() -> None:
    async with api() as a:
        service = await a.create(web())
        await a.create(web("other", ports=(PortSpec(target=80, published=8080),)))
        error = await refused(a.roll_back(service))
        assert (error.code, "no previous spec" in error.message) == (Code.FAILED_PRECONDITION, True)
        error = await refused(a.update(service, web("renamed")))
        assert (error.code, "cannot be renamed" in error.message) == (Code.INVALID_ARGUMENT, True)
        error = await refused(a.update(service, web(ports=(PortSpec(target=80, published=8080),))))
        assert error.code is Code.ALREADY_EXISTS
        assert (await refused(a.update(service, web(replicas=-1)))).code is Code.INVALID_ARGUMENT
        await a.update(service, web(replicas=3))
        error = await refused(a.update(service, web(replicas=4)))
        assert (error.code, "update out of sequence" in error.message) == (Code.OUT_OF_SEQUENCE, True)
        gone = msgspec.structs.replace(service, id="nobody")
        assert (await refused(a.update(gone, web()))).code is Code.NOT_FOUND


async def test_what_others_write_of_a_service_does_not_put_an_update_out_of_sequence() -> None:
    async with api() as a:
        service = await a.create(web())

        def allocate(tx: Transaction) -> None:
            row = tx.get(SERVICES, service.id)
            assert row is not None
            tx.update(SERVICES, msgspec.structs.replace(row, endpoint=Endpoint(vip_index=1)))

        await a.store.update(allocate)
        updated = await a.update(service, web(replicas=9))
        assert (updated.endpoint.vip_index, updated.spec.mode.replicas) == (1, 9)


async def test_names_are_looked_up_by_id_name_and_prefix_in_this_order() -> None:
    async with api() as a:
        for service_id, name in [("abc1", "x"), ("abc2", "abc1"), ("abd", "y")]:
            await put(a.store, SERVICES, Service(id=service_id, spec=web(name)))

        async def found(ref: str) -> str:
            return (await a.servicer.GetService(pb.GetServiceRequest(ref=ref), None)).service.id

        assert [await found(ref) for ref in ("abc1", "X", "abd", "abc2", "abd")] == [
            "abc1",
            "abc1",
            "abd",
            "abc2",
            "abd",
        ]
        assert await found("y") == "abd"
        error = await refused(found("ab"))
        assert (error.code, "ambiguous (abc1, abc2, abd)" in error.message) == (Code.INVALID_ARGUMENT, True)
        for ref, code in [("zzz", Code.NOT_FOUND), ("", Code.INVALID_ARGUMENT), ("abc10", Code.NOT_FOUND)]:
            assert (await refused(found(ref))).code is code
        await a.remove("y")
        assert (await refused(a.remove("y"))).code is Code.NOT_FOUND


async def test_tasks_are_named_by_service_slot_and_id() -> None:
    async with api() as a:
        await put(a.store, SERVICES, Service(id="s", spec=web("my.web")))
        old = Task(id="told", service_id="s", spec_version=1, slot=2, created_at=1.0)
        await put(a.store, TASKS, old, msgspec.structs.replace(old, id="tnew", created_at=2.0))

        async def found(ref: str) -> str:
            return (await a.servicer.GetTask(pb.GetTaskRequest(ref=ref), None)).task.id

        refs = ("told", "my.web.2", "my.web.2.told", "tn")
        assert [await found(ref) for ref in refs] == ["told", "tnew", "told", "tnew"]
        for ref in ("my.web.3", "other.2", "my.web.²"):
            assert (await refused(found(ref))).code is Code.NOT_FOUND


async def test_a_node_is_promoted_and_demoted_unless_it_is_needed() -> None:
    async with api() as a:

        async def set_role(node: Node, role: NodeRole) -> Node:
            a.calls += 1
            spec = cast(types.NodeSpec, to_proto(msgspec.structs.replace(node.spec, role=role)))
            request = pb.UpdateNodeRequest(request_id=f"n{a.calls}", node_id=node.id, version=node.version, spec=spec)
            return from_proto((await a.servicer.UpdateNode(request, None)).node, Node)

        (last, worker) = await put(
            a.store,
            NODES,
            Node(id="m", spec=NodeSpec(name="last", role=NodeRole.MANAGER), manager=ManagerStatus(raft_id=1)),
            Node(id="w", spec=NodeSpec(name="w")),
        )
        promoted = await set_role(worker, NodeRole.MANAGER)
        assert (promoted.spec.role, promoted.role) == (NodeRole.MANAGER, NodeRole.MANAGER)
        assert (await set_role(promoted, NodeRole.WORKER)).spec.role is NodeRole.WORKER
        error = await refused(set_role(last, NodeRole.WORKER))
        assert (error.code, error.message) == (Code.FAILED_PRECONDITION, "last is the last manager")


async def test_nodes_are_changed_by_the_user_and_removed_when_they_are_down() -> None:
    async with api() as a:
        description = NodeDescription(hostname="host")
        member = ManagerStatus(raft_id=1)
        manager = Node(id="m", spec=NodeSpec(role=NodeRole.MANAGER), state=NodeState.DOWN, manager=member)
        (worker, _) = await put(a.store, NODES, Node(id="w", description=description, state=NodeState.READY), manager)

        async def change(version: int, spec: NodeSpec) -> Node:
            a.calls += 1
            message = cast(types.NodeSpec, to_proto(spec))
            request = pb.UpdateNodeRequest(request_id=f"n{a.calls}", node_id="host", version=version, spec=message)
            return from_proto((await a.servicer.UpdateNode(request, None)).node, Node)

        async def remove(ref: str, *, force: bool = False) -> str:
            a.calls += 1
            request = pb.RemoveNodeRequest(request_id=f"n{a.calls}", ref=ref, force=force)
            return (await a.servicer.RemoveNode(request, None)).node_id

        drained = await change(worker.version, NodeSpec(availability=Availability.DRAIN))
        assert drained.spec.availability is Availability.DRAIN
        assert (await refused(change(worker.version, NodeSpec()))).code is Code.OUT_OF_SEQUENCE
        error = await refused(remove("host"))
        assert (error.code, "is not down" in error.message) == (Code.FAILED_PRECONDITION, True)
        assert (await refused(remove("m", force=True))).code is Code.FAILED_PRECONDITION
        assert await remove("host", force=True) == "w"
        assert (await refused(remove("w"))).code is Code.NOT_FOUND


async def test_the_clusters_secrets_leave_only_by_the_call_for_them() -> None:
    async with api() as a:
        cluster = (await a.servicer.GetCluster(pb.GetClusterRequest(), None)).cluster
        assert (cluster.root_ca.key_pem, cluster.join_tokens.worker) == ("", "")
        tokens = (await a.servicer.GetJoinTokens(pb.GetJoinTokensRequest(), None)).tokens
        assert (tokens.worker, tokens.manager) == ("w", "m")
        request = pb.RotateJoinTokenRequest(request_id="r", role=types.NODE_ROLE_WORKER)
        rotated = (await a.servicer.RotateJoinToken(request, None)).tokens
        assert rotated.worker.startswith("SWMTKN-1-" + "0" * 50)
        assert rotated.manager == "m"
        assert (await a.servicer.RotateJoinToken(request, None)).tokens == rotated, "a retry rotates nothing"
        spec = cast(types.ClusterSpec, to_proto(ClusterSpec(task_history_limit=2)))
        stale = pb.UpdateClusterRequest(request_id="u", version=cluster.version, spec=spec)
        assert (await refused(a.servicer.UpdateCluster(stale, None))).code is Code.OUT_OF_SEQUENCE
        now = (await a.servicer.GetCluster(pb.GetClusterRequest(), None)).cluster.version
        fresh = pb.UpdateClusterRequest(request_id="v", version=now, spec=spec)
        assert (await a.servicer.UpdateCluster(fresh, None)).cluster.spec.task_history_limit == 2


@pytest.mark.parametrize("limit", [1, 3, 7, 0])
@pytest.mark.parametrize("looked_at", [1, 5, 20_000])
async def test_pages_laid_end_to_end_are_all_there_is(
    limit: int, looked_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MAX_LOOKED_AT", looked_at)
    monkeypatch.setattr("manager.api.tasks.MAX_LOOKED_AT", looked_at)
    async with api() as a:
        tasks = [
            Task(
                id=f"t{i:02}",
                service_id=f"s{i % 3}",
                spec_version=1,
                slot=i,
                node_id=f"n{i % 2}",
                desired_state=TaskState.SHUTDOWN if i % 4 == 0 else TaskState.RUNNING,
            )
            for i in range(20)
        ]
        await put(a.store, TASKS, *tasks)

        async def listed(wanted: pb.TaskFilter) -> list[str]:
            ids: list[str] = []
            page = pb.Page(limit=limit)
            while True:
                answer = await a.servicer.ListTasks(pb.ListTasksRequest(filter=wanted, page=page), None)
                assert not limit or len(answer.tasks) <= limit
                ids += [t.id for t in answer.tasks]
                if not answer.next_page:
                    return ids
                assert answer.next_page > page.token
                page.token = answer.next_page

        assert await listed(pb.TaskFilter()) == [t.id for t in tasks]
        assert await listed(pb.TaskFilter(service_ids=["s1"])) == [t.id for t in tasks if t.service_id == "s1"]
        assert await listed(pb.TaskFilter(node_ids=["n0"], slots=[2, 5, 8])) == ["t02", "t08"]
        stopped = pb.TaskFilter(desired_states=[cast(Any, int(TaskState.SHUTDOWN))])
        assert await listed(stopped) == [t.id for t in tasks if t.desired_state is TaskState.SHUTDOWN]
        assert await listed(pb.TaskFilter(ids=["t1"], service_ids=["nobody"])) == []


async def test_a_page_of_less_than_nothing_is_refused() -> None:
    async with api() as a:
        for wanted in (pb.TaskFilter(), pb.TaskFilter(service_ids=["s"])):
            request = pb.ListTasksRequest(filter=wanted, page=pb.Page(limit=-1))
            assert (await refused(a.servicer.ListTasks(request, None))).code is Code.INVALID_ARGUMENT


async def test_services_are_filtered_and_counted() -> None:
    async with api() as a:
        labelled = msgspec.structs.replace(web("api"), labels={"tier": "front"})
        await put(a.store, SERVICES, Service(id="a", spec=labelled), Service(id="b", spec=web("db", replicas=3)))
        task = Task(id="1", service_id="b", spec_version=1, slot=1, state=TaskState.RUNNING, ready=True)
        stopping = msgspec.structs.replace(task, id="2", desired_state=TaskState.SHUTDOWN)
        waiting = msgspec.structs.replace(task, id="3", ready=False)
        await put(a.store, TASKS, task, stopping, waiting)

        async def listed(**wanted: Any) -> list[str]:
            request = pb.ListServicesRequest(filter=pb.ServiceFilter(**wanted))
            answer = await a.servicer.ListServices(request, None)
            return [entry.service.id for entry in answer.services]

        assert await listed(names=["d"]) == ["b"]
        assert await listed(labels={"tier": ""}) == await listed(labels={"tier": "front"}) == ["a"]
        assert await listed(labels={"tier": "back"}) == []
        assert await listed(ids=["a", "b"], modes=[types.MODE_KIND_REPLICATED]) == ["a", "b"]
        status = (await a.servicer.GetService(pb.GetServiceRequest(ref="db"), None)).status
        assert (status.desired, status.running, status.ready) == (3, 2, 1)


async def test_a_watch_tells_what_is_asked_from_where_it_is_asked() -> None:
    async with api() as a:
        await put(a.store, SERVICES, Service(id="s", spec=web()))
        since = a.store.revision
        await put(a.store, TASKS, Task(id="t", service_id="s", spec_version=1, slot=1))
        await put(a.store, TASKS, Task(id="u", service_id="other", spec_version=1, slot=1))
        await a.store.update(lambda tx: tx.delete(SERVICES, "s"))
        answers = aiter(a.servicer.Watch(pb.WatchRequest(since=since, service_id="s"), None))
        assert (await anext(answers)).revision == since
        (created,) = (await anext(answers)).changes
        assert (created.task.id, created.removed) == ("t", False)
        (removed,) = (await anext(answers)).changes
        assert (removed.service.id, removed.removed) == ("s", True)
        nodes = aiter(a.servicer.Watch(pb.WatchRequest(kinds=[pb.OBJECT_KIND_CLUSTER]), None))
        assert (await anext(nodes)).revision == a.store.revision
        (cluster,) = a.store.view().all(CLUSTERS)
        await put(a.store, CLUSTERS, cluster)
        (told,) = (await anext(nodes)).changes
        assert (told.cluster.id, told.cluster.root_ca.key_pem, told.cluster.join_tokens.worker) == ("c", "", "")


async def test_a_watch_from_too_long_ago_is_compacted() -> None:
    async with running_store() as store:
        await put(store, NODES, Node(id="n"))
        small = Store(store._proposer, history_changes=2)
        servicer = ControlServicer(
            small, FakeClock(), random_source(), no_logs, "", ConsensusReport(small, "m1", no_logs), why_needed
        )
        for data in store._proposer.log:  # type: ignore[attr-defined]  # the fake one
            small.apply(1, data)
        await put(store, NODES, *(Node(id=f"n{i}") for i in range(5)))
        for index, data in enumerate(store._proposer.log[1:], 2):  # type: ignore[attr-defined]  # the fake one
            small.apply(index, data)
        error = await refused(anext(aiter(servicer.Watch(pb.WatchRequest(since=1), None))))
        assert error.code is Code.COMPACTED
