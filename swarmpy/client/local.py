"""Calls about this node, in a cluster or not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Final

from swarmpy.api.v1 import node_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.client.call import Caller
from swarmpy.client.results import Initialised, Joined, NodeInfo, Recovered
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import NodeDescription
from swarmpy.model.states import Availability, NodeRole
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.node_pb2_grpc import LocalNodeAsyncStub  # a name of the stubs only

CHANGE_TIMEOUT_S: Final = 60.0
"""Init, join and leave start or stop a manager and fetch certificates."""
RECOVERY_TIMEOUT_S: Final = 120.0
"""A manager reads all that it has and writes it again."""


class LocalNode:
    """`client.node`."""

    def __init__(self, stub: LocalNodeAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def info(self, *, timeout_s: float | None = None) -> NodeInfo:
        """Return what this node says of itself."""
        answer = await self._call(self._stub.Info, pb.InfoRequest(), timeout_s)
        return NodeInfo(
            node_id=answer.node_id,
            cluster_id=answer.cluster_id,
            role=NodeRole(answer.role),
            state=answer.state,
            error=answer.error,
            addr=answer.addr,
            data_addr=answer.data_addr,
            managers=tuple(answer.managers),
            description=from_proto(answer.description, NodeDescription),
            dns_addr=answer.dns_addr,
            metrics_addr=answer.metrics_addr,
            missing=dict(answer.missing),
            problems=tuple(answer.problems),
        )

    async def init(
        self,
        spec: ClusterSpec,
        *,
        advertise_addr: str = "",
        listen_addr: str = "",
        data_path_addr: str = "",
        availability: Availability = Availability.ACTIVE,
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> Initialised:
        """Make this node the first manager of a new cluster.

        Args:
            advertise_addr: host or host:port; empty takes the node's address and port 2377.
        """
        request = pb.InitRequest(
            request_id=self._call.request_id(),
            advertise_addr=advertise_addr,
            listen_addr=listen_addr,
            data_path_addr=data_path_addr,
            availability=types_pb2.Availability.ValueType(availability),
        )
        request.spec.SetInParent()
        fill(request.spec, spec)
        answer = await self._call(self._stub.Init, request, timeout_s)
        return Initialised(
            node_id=answer.node_id,
            cluster_id=answer.cluster_id,
            worker_token=answer.worker_token,
            addr=answer.addr,
        )

    async def join(
        self,
        remote_addr: str,
        token: str,
        *,
        join_addr: str = "",
        advertise_addr: str = "",
        listen_addr: str = "",
        data_path_addr: str = "",
        availability: Availability = Availability.ACTIVE,
        timeout_s: float = CHANGE_TIMEOUT_S,
    ) -> Joined:
        """Join the cluster of the manager at `remote_addr` (host:port), in the role of `token`.

        Args:
            join_addr: the manager's bootstrap address where it is not the port beside `remote_addr`.
        """
        request = pb.JoinRequest(
            request_id=self._call.request_id(),
            remote_addr=remote_addr,
            join_addr=join_addr,
            token=token,
            advertise_addr=advertise_addr,
            listen_addr=listen_addr,
            data_path_addr=data_path_addr,
            availability=types_pb2.Availability.ValueType(availability),
        )
        answer = await self._call(self._stub.Join, request, timeout_s)
        return Joined(node_id=answer.node_id, role=NodeRole(answer.role))

    async def force_new_cluster(
        self, *, advertise_addr: str = "", listen_addr: str = "", timeout_s: float = RECOVERY_TIMEOUT_S
    ) -> Recovered:
        """Have this node's manager, whose quorum is lost, go on alone with what it has.

        Args:
            advertise_addr: host or host:port; empty keeps the present one.
        """
        request = pb.ForceNewClusterRequest(advertise_addr=advertise_addr, listen_addr=listen_addr)
        answer = await self._call(self._stub.ForceNewCluster, request, timeout_s)
        return Recovered(node_id=answer.node_id, cluster_id=answer.cluster_id, kept=tuple(answer.kept))

    async def restore(
        self,
        chunks: Callable[[], Iterable[bytes]],
        *,
        advertise_addr: str = "",
        listen_addr: str = "",
        timeout_s: float = RECOVERY_TIMEOUT_S,
    ) -> Recovered:
        """Bring a cluster back from a snapshot file, with this node as its only manager.

        Args:
            chunks: returns the file's bytes in pieces of at most a few megabytes; called for each try.
            advertise_addr: host or host:port; empty takes the node's address and port 2377.
        """

        async def requests() -> AsyncIterator[pb.RestoreRequest]:
            for chunk in chunks():
                yield pb.RestoreRequest(chunk=chunk, advertise_addr=advertise_addr, listen_addr=listen_addr)

        async def send(
            request: Callable[[], AsyncIterator[pb.RestoreRequest]], *, timeout: float | None = None
        ) -> pb.RestoreResponse:
            return await self._stub.Restore(request(), timeout=timeout)

        answer = await self._call(send, requests, timeout_s)
        return Recovered(
            node_id=answer.node_id, cluster_id=answer.cluster_id, kept=tuple(answer.kept), addr=answer.addr
        )

    async def leave(self, *, force: bool = False, timeout_s: float = CHANGE_TIMEOUT_S) -> None:
        """Leave the cluster; its tasks on this node stop. A manager leaves only with `force`."""
        request = pb.LeaveRequest(request_id=self._call.request_id(), force=force)
        await self._call(self._stub.Leave, request, timeout_s)
