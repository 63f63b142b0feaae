"""The LocalNode service on node.sock: what concerns this node alone, in a cluster or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

from swarmpy.addresses import METRICS_PORT_WORKER, Address, metrics_host
from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import node_pb2_grpc, types_pb2
from swarmpy.errors import invalid
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import NodeDescription
from swarmpy.model.states import Availability
from swarmpy.wire.convert import from_proto, to_proto
from worker.host import Place
from worker.membership import Addresses, Membership

# ruff: noqa: N802  # the methods have the names that the proto gives them


class LocalNodeServicer(node_pb2_grpc.LocalNodeServicer):
    """Translates for `Membership`."""

    def __init__(
        self, place: Place, membership: Membership, describe: Callable[[], Awaitable[NodeDescription]]
    ) -> None:
        """
        Args:
            describe: returns what the node says of itself, also where it is in no cluster.
        """
        self._place = place
        self._membership = membership
        self._describe = describe

    async def Info(self, request: pb.InfoRequest, context: Any) -> pb.InfoResponse:
        response = pb.InfoResponse(state="inactive", addr=self._place.addr, data_addr=self._place.data_addr)
        identity, member = self._membership.identity, self._membership.member
        description = await (self._describe if member is None else member.describe)()
        response.description.CopyFrom(cast(types_pb2.NodeDescription, to_proto(description)))
        if identity is None:
            return response
        response.node_id = identity.node_id
        response.cluster_id = identity.cluster_id
        response.role = cast(types_pb2.NodeRole.ValueType, int(identity.role))
        response.state = "joining"
        response.managers.extend(identity.managers)
        response.metrics_addr = str(Address(metrics_host(self._place.addr), METRICS_PORT_WORKER))
        if member is None:
            return response
        response.state = "connected" if member.session.connected_to else "disconnected"
        if member.session.last_error is not None and not member.session.connected_to:
            response.error = member.session.last_error.message
        hello = member.endpoints.hello
        if hello is not None and hello.dns_port:
            response.dns_addr = str(Address(hello.dns_address, hello.dns_port))
        response.missing.update({str(capability): reason for capability, reason in member.machine.missing.items()})
        response.problems.extend(member.endpoints.problems.values())
        return response

    async def Init(self, request: pb.InitRequest, context: Any) -> pb.InitResponse:
        addresses = Addresses(request.advertise_addr, request.listen_addr, request.data_path_addr)
        spec = from_proto(request.spec, ClusterSpec)
        identity, token = await self._membership.init(spec, Availability(request.availability), addresses)
        return pb.InitResponse(
            node_id=identity.node_id,
            cluster_id=identity.cluster_id,
            worker_token=token,
            addr=identity.advertise_addr,
        )

    async def Join(self, request: pb.JoinRequest, context: Any) -> pb.JoinResponse:
        identity = await self._membership.join(
            request.remote_addr,
            request.token,
            Addresses(request.advertise_addr, request.listen_addr, request.data_path_addr),
            join_addr=request.join_addr,
            availability=Availability(request.availability),
            request_id=request.request_id,
        )
        role = cast(types_pb2.NodeRole.ValueType, int(identity.role))
        return pb.JoinResponse(node_id=identity.node_id, role=role)

    async def ForceNewCluster(self, request: pb.ForceNewClusterRequest, context: Any) -> pb.ForceNewClusterResponse:
        addresses = Addresses(request.advertise_addr, request.listen_addr)
        identity, kept = await self._membership.force_new_cluster(addresses)
        return pb.ForceNewClusterResponse(node_id=identity.node_id, cluster_id=identity.cluster_id, kept=kept)

    async def Restore(self, requests: AsyncIterator[pb.RestoreRequest], context: Any) -> pb.RestoreResponse:
        first = await anext(requests, None)
        if first is None:
            raise invalid("the call brings no snapshot: give the file's bytes in chunks")

        async def chunks() -> AsyncIterator[bytes]:
            yield first.chunk
            async for request in requests:
                yield request.chunk

        identity, kept = await self._membership.restore(chunks(), Addresses(first.advertise_addr, first.listen_addr))
        return pb.RestoreResponse(
            node_id=identity.node_id, cluster_id=identity.cluster_id, addr=identity.advertise_addr, kept=kept
        )

    async def Leave(self, request: pb.LeaveRequest, context: Any) -> pb.LeaveResponse:
        await self._membership.leave(force=request.force)
        return pb.LeaveResponse()
