"""The Control and Health RPCs: each call is translated, handed to its use case, and translated back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

from manager.api.cluster import ClusterSettings
from manager.api.configs import Configs, without_data
from manager.api.consensus import ConsensusReport
from manager.api.logs import Broker, read_logs
from manager.api.networks import Networks
from manager.api.nodes import Nodes
from manager.api.paging import in_slices
from manager.api.services import Services
from manager.api.snapshots import save_snapshot
from manager.api.tasks import Tasks
from manager.api.watch import watch
from manager.store.store import Store
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import control_pb2_grpc, node_pb2, node_pb2_grpc
from swarmpy.api.v1 import types_pb2 as types
from swarmpy.clock import Clock
from swarmpy.errors import invalid
from swarmpy.ids import RandomBytes
from swarmpy.model.base import Model
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.config import ConfigSpec
from swarmpy.model.network import NetworkSpec
from swarmpy.model.node import Node, NodeSpec
from swarmpy.model.service import RegistryAuth
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import NodeRole
from swarmpy.wire.convert import fill, from_proto, to_proto

# ruff: noqa: N802  # the methods have the names that the proto gives them


class ControlServicer(control_pb2_grpc.ControlServicer):
    """Serves the user's API from one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        random_bytes: RandomBytes,
        broker: Callable[[], Broker],
        join_addr: str,
        consensus: ConsensusReport,
        why_needed: Callable[[Node], str | None],
    ) -> None:
        self._store, self._clock = store, clock
        self._broker = broker
        self._join_addr = join_addr
        self._services = Services(store, clock, random_bytes)
        self._nodes = Nodes(store, clock, why_needed)
        self._tasks = Tasks(store)
        self._cluster = ClusterSettings(store, clock, random_bytes)
        self._consensus = consensus
        self._configs = Configs(store, clock, random_bytes)
        self._networks = Networks(store, clock, random_bytes)

    async def GetCluster(self, request: pb.GetClusterRequest, context: Any) -> pb.GetClusterResponse:
        return pb.GetClusterResponse(cluster=_cluster(self._cluster.get()), leader_addr=self._join_addr)

    async def UpdateCluster(self, request: pb.UpdateClusterRequest, context: Any) -> pb.UpdateClusterResponse:
        spec = from_proto(request.spec, ClusterSpec)
        cluster = await self._cluster.update(request.version, spec, _request_id(request))
        return pb.UpdateClusterResponse(cluster=_cluster(cluster))

    async def GetJoinTokens(self, request: pb.GetJoinTokensRequest, context: Any) -> pb.GetJoinTokensResponse:
        tokens = cast(types.JoinTokens, to_proto(self._cluster.tokens()))
        return pb.GetJoinTokensResponse(tokens=tokens, addr=self._join_addr)

    async def RotateJoinToken(self, request: pb.RotateJoinTokenRequest, context: Any) -> pb.GetJoinTokensResponse:
        tokens = await self._cluster.rotate_token(NodeRole(request.role), _request_id(request))
        return pb.GetJoinTokensResponse(tokens=cast(types.JoinTokens, to_proto(tokens)), addr=self._join_addr)

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:
        found = self._nodes.list(request.filter, request.page)
        response = pb.ListNodesResponse(next_page=found.next_page, revision=found.revision)
        await _add(response.nodes, found.rows)
        return response

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> pb.GetNodeResponse:
        return pb.GetNodeResponse(node=_node(self._nodes.get(request.ref)))

    async def UpdateNode(self, request: pb.UpdateNodeRequest, context: Any) -> pb.UpdateNodeResponse:
        spec = from_proto(request.spec, NodeSpec)
        node = await self._nodes.update(request.node_id, request.version, spec, _request_id(request))
        return pb.UpdateNodeResponse(node=_node(node))

    async def RemoveNode(self, request: pb.RemoveNodeRequest, context: Any) -> pb.RemoveNodeResponse:
        node_id = await self._nodes.remove(request.ref, _request_id(request), force=request.force)
        return pb.RemoveNodeResponse(node_id=node_id)

    async def CreateService(self, request: pb.CreateServiceRequest, context: Any) -> pb.CreateServiceResponse:
        spec = from_proto(request.spec, ServiceSpec)
        service, warnings = await self._services.create(spec, _request_id(request), _auth(request))
        return pb.CreateServiceResponse(service=_service(service), warnings=warnings)

    async def GetService(self, request: pb.GetServiceRequest, context: Any) -> pb.GetServiceResponse:
        service = self._services.get(request.ref)
        return pb.GetServiceResponse(service=_service(service), status=self._services.status(service))

    async def ListServices(self, request: pb.ListServicesRequest, context: Any) -> pb.ListServicesResponse:
        found = self._services.list(request.filter, request.page)
        response = pb.ListServicesResponse(next_page=found.next_page, revision=found.revision)
        async for service in in_slices(found.rows):
            entry = response.services.add(status=self._services.status(service))
            fill(entry.service, service)
        return response

    async def UpdateService(self, request: pb.UpdateServiceRequest, context: Any) -> pb.UpdateServiceResponse:
        spec = None if request.rollback else from_proto(request.spec, ServiceSpec)
        service, warnings = await self._services.update(
            request.service_id, request.version, spec, _request_id(request), _auth(request)
        )
        return pb.UpdateServiceResponse(service=_service(service), warnings=warnings)

    async def RemoveService(self, request: pb.RemoveServiceRequest, context: Any) -> pb.RemoveServiceResponse:
        service_id = await self._services.remove(request.ref, _request_id(request))
        return pb.RemoveServiceResponse(service_id=service_id)

    async def CreateConfig(self, request: pb.CreateConfigRequest, context: Any) -> pb.CreateConfigResponse:
        config = await self._configs.create(from_proto(request.spec, ConfigSpec), _request_id(request))
        return pb.CreateConfigResponse(config=_config(config))

    async def GetConfig(self, request: pb.GetConfigRequest, context: Any) -> pb.GetConfigResponse:
        return pb.GetConfigResponse(config=_config(self._configs.get(request.ref)))

    async def ListConfigs(self, request: pb.ListConfigsRequest, context: Any) -> pb.ListConfigsResponse:
        found = self._configs.list(request.filter, request.page)
        response = pb.ListConfigsResponse(next_page=found.next_page, revision=found.revision)
        await _add(response.configs, [without_data(config) for config in found.rows])
        return response

    async def RemoveConfig(self, request: pb.RemoveConfigRequest, context: Any) -> pb.RemoveConfigResponse:
        config_id = await self._configs.remove(request.ref, _request_id(request))
        return pb.RemoveConfigResponse(config_id=config_id)

    async def CreateNetwork(self, request: pb.CreateNetworkRequest, context: Any) -> pb.CreateNetworkResponse:
        network = await self._networks.create(from_proto(request.spec, NetworkSpec), _request_id(request))
        return pb.CreateNetworkResponse(network=_network(network))

    async def GetNetwork(self, request: pb.GetNetworkRequest, context: Any) -> pb.GetNetworkResponse:
        return pb.GetNetworkResponse(network=_network(self._networks.get(request.ref)))

    async def ListNetworks(self, request: pb.ListNetworksRequest, context: Any) -> pb.ListNetworksResponse:
        found = self._networks.list(request.filter, request.page)
        response = pb.ListNetworksResponse(next_page=found.next_page, revision=found.revision)
        await _add(response.networks, found.rows)
        return response

    async def RemoveNetwork(self, request: pb.RemoveNetworkRequest, context: Any) -> pb.RemoveNetworkResponse:
        network_id = await self._networks.remove(request.ref, _request_id(request))
        return pb.RemoveNetworkResponse(network_id=network_id)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        found = self._tasks.list(request.filter, request.page)
        response = pb.ListTasksResponse(next_page=found.next_page, revision=found.revision)
        await _add(response.tasks, found.rows)
        return response

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        task, version = self._tasks.get(request.ref)
        response = pb.GetTaskResponse(task=cast(types.Task, to_proto(task)))
        if version is not None:
            fill(response.service_version, version)
        return response

    async def GetConsensus(self, request: pb.GetConsensusRequest, context: Any) -> pb.GetConsensusResponse:
        return await self._consensus.get()

    async def SaveSnapshot(
        self, request: pb.SaveSnapshotRequest, context: Any
    ) -> AsyncIterator[pb.SaveSnapshotResponse]:
        async with aclosing(save_snapshot(self._store, self._consensus.term, self._clock.now())) as pieces:
            async for piece in pieces:
                yield pb.SaveSnapshotResponse(chunk=piece)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:
        async for response in watch(self._store, request):
            yield response

    async def Logs(self, request: pb.LogsRequest, context: Any) -> AsyncIterator[pb.LogsResponse]:
        async for response in read_logs(self._store, self._broker(), request):
            yield response


class HealthServicer(node_pb2_grpc.HealthServicer):
    """Says whether this manager leads and how far it has come."""

    def __init__(self, check: Callable[[], node_pb2.HealthResponse]) -> None:
        self._check = check

    async def Check(self, request: node_pb2.HealthRequest, context: Any) -> node_pb2.HealthResponse:
        return self._check()


def _auth(request: pb.CreateServiceRequest | pb.UpdateServiceRequest) -> RegistryAuth | None:
    return from_proto(request.auth, RegistryAuth) if request.HasField("auth") else None


def _request_id(request: Any) -> str:
    request_id: str = request.request_id
    if not request_id:
        raise invalid("request_id is missing: a call that changes something needs one, made once and kept for retries")
    if len(request_id) > 64:
        raise invalid("request_id is longer than 64 characters")
    # A caller that uses one id for two calls must not be answered with the other call's result.
    return f"{type(request).__name__}/{request_id}"


async def _add(entries: Any, rows: list[Any]) -> None:
    async for row in in_slices(rows):
        fill(entries.add(), row)


def _cluster(row: Model) -> types.Cluster:
    return cast(types.Cluster, to_proto(row))


def _node(row: Model) -> types.Node:
    return cast(types.Node, to_proto(row))


def _config(row: Model) -> types.Config:
    return cast(types.Config, to_proto(row))


def _network(row: Model) -> types.Network:
    return cast(types.Network, to_proto(row))


def _service(row: Model) -> types.Service:
    return cast(types.Service, to_proto(row))
