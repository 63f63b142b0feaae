"""Calls about the cluster's nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.client.call import PAGE_SIZE, Caller
from swarmpy.client.selection import NodeFilter
from swarmpy.model.node import Node, NodeSpec
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only

EVERY_NODE: Final = NodeFilter()


class Nodes:
    """`client.nodes`. A `ref` is a full id, a name, or a unique prefix of an id, in this order."""

    def __init__(self, stub: ControlAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def get(self, ref: str, *, timeout_s: float | None = None) -> Node:
        """Return one node."""
        answer = await self._call(self._stub.GetNode, pb.GetNodeRequest(ref=ref), timeout_s)
        return from_proto(answer.node, Node)

    async def list(self, selection: NodeFilter = EVERY_NODE, *, timeout_s: float | None = None) -> list[Node]:
        """Return the selected nodes in order of id."""
        return [node async for node in self.iterate(selection, timeout_s=timeout_s)]

    async def iterate(
        self, selection: NodeFilter = EVERY_NODE, *, timeout_s: float | None = None
    ) -> AsyncIterator[Node]:
        """Yield the selected nodes in order of id, a page at a time; the deadline is each page's."""
        request = pb.ListNodesRequest(
            filter=pb.NodeFilter(
                ids=selection.ids,
                names=selection.names,
                labels=selection.labels,
                roles=[types_pb2.NodeRole.ValueType(role) for role in selection.roles],
                availabilities=[types_pb2.Availability.ValueType(a) for a in selection.availabilities],
            ),
            page=pb.Page(limit=PAGE_SIZE),
        )
        while True:
            answer = await self._call(self._stub.ListNodes, request, timeout_s)
            for node in answer.nodes:
                yield from_proto(node, Node)
            if not answer.next_page:
                return
            request.page.token = answer.next_page

    async def update(self, node: Node, spec: NodeSpec, *, timeout_s: float | None = None) -> Node:
        """Replace the spec of `node`, as it was read.

        Raises:
            SwarmError: OUT_OF_SEQUENCE if another user changed the node's spec since it was read.
        """
        request = pb.UpdateNodeRequest(request_id=self._call.request_id(), node_id=node.id, version=node.version)
        fill(request.spec, spec)
        answer = await self._call(self._stub.UpdateNode, request, timeout_s)
        return from_proto(answer.node, Node)

    async def remove(self, ref: str, *, force: bool = False, timeout_s: float | None = None) -> str:
        """Remove a node that is down (any, with `force`) and return its id."""
        request = pb.RemoveNodeRequest(request_id=self._call.request_id(), ref=ref, force=force)
        return (await self._call(self._stub.RemoveNode, request, timeout_s)).node_id
