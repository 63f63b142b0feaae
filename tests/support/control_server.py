"""Serves a `FakeCluster` on the two sockets of a state directory."""

# ruff: noqa: N802  # the methods are named by the .proto

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
import msgspec

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import images_pb2, node_pb2, types_pb2
from swarmpy.api.v1.control_pb2_grpc import ControlServicer, add_ControlServicer_to_server
from swarmpy.api.v1.images_pb2_grpc import ImagesServicer, add_ImagesServicer_to_server
from swarmpy.api.v1.node_pb2_grpc import LocalNodeServicer, add_LocalNodeServicer_to_server
from swarmpy.errors import Code, InvalidSpecError, SwarmError, precondition
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.config import Config, ConfigSpec
from swarmpy.model.node import NodeSpec
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import NodeRole, NodeState, TaskState
from swarmpy.model.validate import validate_config_spec
from swarmpy.registry.reference import parse_reference
from swarmpy.rpc.stale import STALE_KEY
from swarmpy.rpc.status import STATUS, to_metadata
from swarmpy.wire.convert import fill, from_proto
from tests.support.control import NOW, FakeCluster, fake_id
from tests.support.control_networks import NetworkCalls


class FakeServer:
    """Runs from entering to leaving it; `control` False is a node that is no manager."""

    def __init__(self, cluster: FakeCluster, state_dir: Path, *, control: bool = True) -> None:
        run = state_dir / "run"
        run.mkdir(parents=True, exist_ok=True)
        self._cluster = cluster
        self._pool = ThreadPoolExecutor(8)
        self._server = grpc.server(self._pool, interceptors=[_Boundary(cluster)])
        add_LocalNodeServicer_to_server(_Local(cluster), self._server)
        images = _Images(cluster)  # type: ignore[abstract]  # of its calls, a service asks for one only
        add_ImagesServicer_to_server(images, self._server)
        self._server.add_insecure_port(f"unix:{run / 'node.sock'}")
        if control:
            add_ControlServicer_to_server(_Control(cluster), self._server)
            self._server.add_insecure_port(f"unix:{run / 'control.sock'}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._cluster.changed:
            self._cluster.closed = True
            self._cluster.changed.notify_all()
        self._server.stop(0).wait()
        self._pool.shutdown()


class _Boundary(grpc.ServerInterceptor):
    """Notes each call, and turns a SwarmError into a status."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = continuation(details)
        if handler is None:
            return handler
        method = details.method.rpartition("/")[2]
        inner = handler.unary_stream or handler.unary_unary or handler.stream_unary

        def call(request: Any, context: Any) -> Any:
            self._cluster.calls.append((method, request))
            if STALE_KEY in dict(context.invocation_metadata()):
                self._cluster.stale_reads.append(method)
            try:
                if self._cluster.failures and method != "Info":
                    raise self._cluster.failures.pop(0)
                return inner(request, context)
            except SwarmError as error:
                context.set_trailing_metadata(to_metadata(error))
                context.abort(STATUS[error.code], error.message)

        if handler.response_streaming:
            make = grpc.unary_stream_rpc_method_handler
        elif handler.request_streaming:
            make = grpc.stream_unary_rpc_method_handler
        else:
            make = grpc.unary_unary_rpc_method_handler
        return make(call, handler.request_deserializer, handler.response_serializer)


class _Images(ImagesServicer):
    """Registries that have an image under every name but those that are told to be away."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def Resolve(self, request: Any, context: Any) -> Any:
        reference = request.reference
        if reference in self._cluster.unresolved:
            raise SwarmError(Code.UNAVAILABLE, "the registry does not answer", retryable=False)
        digest = self._cluster.digests.get(reference) or f"sha256:{sha256(reference.encode()).hexdigest()}"
        return images_pb2.ResolveImageResponse(reference=f"{parse_reference(reference).familiar()}@{digest}")


class _Control(NetworkCalls, ControlServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def GetCluster(self, request: Any, context: Any) -> Any:
        answer = pb.GetClusterResponse(leader_addr="127.0.0.1:2377")
        fill(answer.cluster, self._cluster.cluster)
        return answer

    def UpdateCluster(self, request: Any, context: Any) -> Any:
        spec = from_proto(request.spec, ClusterSpec)
        answer = pb.UpdateClusterResponse()
        fill(answer.cluster, self._cluster.put(msgspec.structs.replace(self._cluster.cluster, spec=spec)))
        return answer

    def GetJoinTokens(self, request: Any, context: Any) -> Any:
        answer = pb.GetJoinTokensResponse(addr="127.0.0.1:2377")
        fill(answer.tokens, self._cluster.tokens)
        return answer

    def RotateJoinToken(self, request: Any, context: Any) -> Any:
        self._cluster.rotate(NodeRole(request.role))
        return self.GetJoinTokens(request, context)

    def ListNodes(self, request: Any, context: Any) -> Any:
        wanted = request.filter
        nodes = [
            node
            for node in self._cluster.nodes.values()
            if _prefixed(node.id, wanted.ids)
            and _prefixed(node.name, wanted.names)
            and _labelled(node.spec.labels, wanted.labels)
            and (not wanted.roles or node.spec.role in wanted.roles)
            and (not wanted.availabilities or node.spec.availability in wanted.availabilities)
        ]
        page, token = self._page(nodes, request.page)
        answer = pb.ListNodesResponse(next_page=token, revision=self._cluster.revision)
        for node in page:
            fill(answer.nodes.add(), node)
        return answer

    def GetNode(self, request: Any, context: Any) -> Any:
        answer = pb.GetNodeResponse()
        fill(answer.node, self._cluster.find(self._cluster.nodes, request.ref, "node"))
        return answer

    def UpdateNode(self, request: Any, context: Any) -> Any:
        answer = pb.UpdateNodeResponse()
        spec = from_proto(request.spec, NodeSpec)
        fill(answer.node, self._cluster.update_node(request.node_id, request.version, spec))
        return answer

    def RemoveNode(self, request: Any, context: Any) -> Any:
        node = self._cluster.find(self._cluster.nodes, request.ref, "node")
        if node.state is not NodeState.DOWN and not request.force:
            raise precondition(f"node {node.name} is not down: stop it first, or use --force")
        self._cluster.put(node, removed=True)
        return pb.RemoveNodeResponse(node_id=node.id)

    def CreateService(self, request: Any, context: Any) -> Any:
        answer = pb.CreateServiceResponse(warnings=self._cluster.warnings)
        fill(answer.service, self._cluster.create(from_proto(request.spec, ServiceSpec)))
        return answer

    def GetService(self, request: Any, context: Any) -> Any:
        service = self._cluster.find(self._cluster.services, request.ref, "service")
        answer = pb.GetServiceResponse(status=self._status(service.id))
        fill(answer.service, service)
        return answer

    def ListServices(self, request: Any, context: Any) -> Any:
        wanted = request.filter
        services = [
            service
            for service in self._cluster.services.values()
            if _prefixed(service.id, wanted.ids)
            and _prefixed(service.name, wanted.names)
            and _labelled(service.spec.labels, wanted.labels)
            and (not wanted.modes or service.spec.mode.kind in wanted.modes)
        ]
        page, token = self._page(services, request.page)
        answer = pb.ListServicesResponse(next_page=token, revision=self._cluster.revision)
        for service in page:
            fill(answer.services.add(status=self._status(service.id)).service, service)
        return answer

    def UpdateService(self, request: Any, context: Any) -> Any:
        service = self._cluster.find(self._cluster.services, request.service_id, "service")
        spec = from_proto(request.spec, ServiceSpec)
        if request.rollback:
            if service.previous_spec is None:
                raise precondition(f"service {service.name} has no previous spec to go back to")
            spec = service.previous_spec
        answer = pb.UpdateServiceResponse(warnings=self._cluster.warnings)
        fill(answer.service, self._cluster.update(request.service_id, request.version, spec))
        return answer

    def RemoveService(self, request: Any, context: Any) -> Any:
        return pb.RemoveServiceResponse(service_id=self._cluster.remove(request.ref))

    def ListTasks(self, request: Any, context: Any) -> Any:
        wanted = request.filter
        tasks = [
            task
            for task in self._cluster.tasks.values()
            if (not wanted.service_ids or task.service_id in wanted.service_ids)
            and (not wanted.node_ids or task.node_id in wanted.node_ids)
        ]
        page, token = self._page(tasks, request.page)
        answer = pb.ListTasksResponse(next_page=token, revision=self._cluster.revision)
        for task in page:
            fill(answer.tasks.add(), task)
        return answer

    def GetTask(self, request: Any, context: Any) -> Any:
        task = self._cluster.find(self._cluster.tasks, request.ref, "task")
        answer = pb.GetTaskResponse()
        fill(answer.task, task)
        fill(answer.service_version, self._cluster.versions[task.service_version_id])
        return answer

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:
        cluster = self._cluster
        cluster.refused_watches -= 1
        if cluster.refused_watches >= 0 or 0 < request.since < cluster.compacted:
            raise SwarmError(Code.COMPACTED, f"revision {request.since} is no longer kept; start again")
        return cluster.follow(request.since, context)

    def Logs(self, request: Any, context: Any) -> Iterator[Any]:
        yield pb.LogsResponse(lines=self._cluster.output[-request.tail :] if request.tail else self._cluster.output)

    def GetConsensus(self, request: Any, context: Any) -> Any:
        return self._cluster.consensus

    def CreateConfig(self, request: Any, context: Any) -> Any:
        spec = from_proto(request.spec, ConfigSpec)
        if problems := validate_config_spec(spec):
            raise InvalidSpecError(problems)
        if any(config.spec.name == spec.name for config in self._cluster.configs.values()):
            raise SwarmError(Code.ALREADY_EXISTS, f"config {spec.name} exists already: choose another name")
        number = len(self._cluster.configs) + 1
        config = Config(id=fake_id("config", number), spec=spec, created_at=NOW, updated_at=NOW)
        answer = pb.CreateConfigResponse()
        fill(answer.config, _without_data(self._cluster.put(config)))
        return answer

    def GetConfig(self, request: Any, context: Any) -> Any:
        answer = pb.GetConfigResponse()
        fill(answer.config, self._cluster.find(self._cluster.configs, request.ref, "config"))
        return answer

    def ListConfigs(self, request: Any, context: Any) -> Any:
        wanted = request.filter
        configs = [
            config
            for config in self._cluster.configs.values()
            if _prefixed(config.id, wanted.ids)
            and _prefixed(config.spec.name, wanted.names)
            and _labelled(config.spec.labels, wanted.labels)
        ]
        page, token = self._page(configs, request.page)
        answer = pb.ListConfigsResponse(next_page=token, revision=self._cluster.revision)
        for config in page:
            fill(answer.configs.add(), _without_data(config))
        return answer

    def RemoveConfig(self, request: Any, context: Any) -> Any:
        config = self._cluster.find(self._cluster.configs, request.ref, "config")
        self._cluster.put(config, removed=True)
        return pb.RemoveConfigResponse(config_id=config.id)

    def SaveSnapshot(self, request: Any, context: Any) -> Iterator[Any]:
        for start in range(0, len(self._cluster.snapshot), 100):
            yield pb.SaveSnapshotResponse(chunk=self._cluster.snapshot[start : start + 100])

    def _status(self, service_id: str) -> Any:
        tasks = [task for task in self._cluster.tasks.values() if task.service_id == service_id]
        return pb.ServiceStatus(
            desired=self._cluster.services[service_id].spec.mode.replicas,
            running=sum(task.state is TaskState.RUNNING and task.is_wanted for task in tasks),
            ready=sum(task.is_endpoint for task in tasks),
        )

    def _page(self, rows: list[Any], page: Any) -> tuple[list[Any], str]:
        rows = sorted((row for row in rows if row.id > page.token), key=lambda row: row.id)
        size = min(page.limit or self._cluster.page_size, self._cluster.page_size)
        return rows[:size], rows[size - 1].id if len(rows) > size else ""


class _Local(LocalNodeServicer):
    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    def Info(self, request: Any, context: Any) -> Any:
        return self._cluster.info

    def Init(self, request: Any, context: Any) -> Any:
        if self._cluster.info.cluster_id:
            raise precondition("this node is already part of a swarm: leave it first with `swarmpy swarm leave`")
        return node_pb2.InitResponse(
            node_id=self._cluster.here,
            cluster_id=self._cluster.cluster.id,
            worker_token=self._cluster.tokens.worker,
            addr=request.advertise_addr or "127.0.0.1:2377",
        )

    def Join(self, request: Any, context: Any) -> Any:
        manager = request.token == self._cluster.tokens.manager
        role = types_pb2.NODE_ROLE_MANAGER if manager else types_pb2.NODE_ROLE_WORKER
        return node_pb2.JoinResponse(node_id=self._cluster.here, role=role)

    def ForceNewCluster(self, request: Any, context: Any) -> Any:
        return node_pb2.ForceNewClusterResponse(
            node_id=self._cluster.here, cluster_id=self._cluster.cluster.id, kept=["kept: this", "given up: that"]
        )

    def Restore(self, requests: Any, context: Any) -> Any:
        asked = list(requests)
        if self._cluster.info.cluster_id:
            raise precondition("this node is already part of a swarm: leave it first with `swarmpy swarm leave`")
        assert b"".join(request.chunk for request in asked) == self._cluster.snapshot
        addr = asked[0].advertise_addr or "127.0.0.1:2377"
        return node_pb2.RestoreResponse(node_id=self._cluster.here, addr=addr, kept=["kept: this", "not kept: that"])

    def Leave(self, request: Any, context: Any) -> Any:
        if self._cluster.info.role == types_pb2.NODE_ROLE_MANAGER and not request.force:
            raise precondition("this node is a manager: its leaving may cost the quorum; use --force to leave anyway")
        return node_pb2.LeaveResponse()


def _without_data(config: Config) -> Config:
    return msgspec.structs.replace(config, spec=msgspec.structs.replace(config.spec, data=b""))


def _prefixed(text: str, prefixes: Iterable[str]) -> bool:
    prefixes = tuple(prefixes)
    return not prefixes or text.startswith(prefixes)


def _labelled(labels: dict[str, str], wanted: Any) -> bool:
    return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())
