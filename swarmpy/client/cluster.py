"""Calls about the cluster itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

import msgspec

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.client.call import Caller
from swarmpy.client.results import ClusterInfo, Consensus, ConsensusMember, Tokens
from swarmpy.model.base import Model
from swarmpy.model.cluster import Cluster, ClusterSpec, JoinTokens
from swarmpy.model.states import NodeRole
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only


class ClusterCalls:
    """`client.cluster`."""

    def __init__(self, stub: ControlAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def get(self, *, timeout_s: float | None = None) -> ClusterInfo:
        """Return the cluster, without its secrets, and the leader's address."""
        answer = await self._call(self._stub.GetCluster, pb.GetClusterRequest(), timeout_s)
        return ClusterInfo(cluster=from_proto(answer.cluster, Cluster), leader_addr=answer.leader_addr)

    async def update(self, cluster: Cluster, spec: ClusterSpec, *, timeout_s: float | None = None) -> Cluster:
        """Replace the settings of `cluster`, as it was read.

        Raises:
            SwarmError: OUT_OF_SEQUENCE if they changed since they were read.
        """
        request = pb.UpdateClusterRequest(request_id=self._call.request_id(), version=cluster.version)
        fill(request.spec, spec)
        answer = await self._call(self._stub.UpdateCluster, request, timeout_s)
        return from_proto(answer.cluster, Cluster)

    async def consensus(self, *, timeout_s: float | None = None) -> Consensus:
        """Return how the managers agree, as this node's manager sees it; needs no quorum."""
        answer = await self._call(self._stub.GetConsensus, pb.GetConsensusRequest(), timeout_s)
        members = tuple(ConsensusMember(**_plain(member, ConsensusMember)) for member in answer.members)
        return Consensus(**_plain(answer, Consensus), members=members)

    def save_snapshot(self) -> AsyncGenerator[bytes]:
        """Yield the bytes of a snapshot file with the state of this moment; it holds the cluster's keys."""
        return self._call.stream(lambda: self._stub.SaveSnapshot(pb.SaveSnapshotRequest()), lambda piece: piece.chunk)

    async def join_tokens(self, *, timeout_s: float | None = None) -> Tokens:
        """Return both join tokens and the address to join."""
        answer = await self._call(self._stub.GetJoinTokens, pb.GetJoinTokensRequest(), timeout_s)
        return _tokens(answer)

    async def rotate_join_token(self, role: NodeRole, *, timeout_s: float | None = None) -> Tokens:
        """Replace the token of `role`: the old one admits nobody any more."""
        request = pb.RotateJoinTokenRequest(request_id=self._call.request_id(), role=types_pb2.NodeRole.ValueType(role))
        return _tokens(await self._call(self._stub.RotateJoinToken, request, timeout_s))


def _plain(message: Any, wanted: type[Model]) -> dict[str, Any]:
    """Return the fields of a message that the struct has, but for nested ones; None where one is absent."""
    names = [field.name for field in msgspec.structs.fields(wanted) if field.name != "members"]
    absent = {f.name for f in message.DESCRIPTOR.fields if f.has_presence and not message.HasField(f.name)}
    return {name: None if name in absent else getattr(message, name) for name in names}


def _tokens(answer: pb.GetJoinTokensResponse) -> Tokens:
    return Tokens(tokens=from_proto(answer.tokens, JoinTokens), addr=answer.addr)
