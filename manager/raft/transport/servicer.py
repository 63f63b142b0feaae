"""The end of the members' streams that is dialled: on the manager's one server, and so on the main loop.

It only looks at who calls. Batches go to the Raft thread as they came, and what that answers goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import grpc
import grpc.aio

from manager.raft.transport.hello import check_hello, make_hello, read_hello
from manager.raft.transport.inbound import Inbound
from manager.raft.transport.snapshots import SnapshotSink, receive
from manager.raft.types import Message, Metadata
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.security.names import NodeName

SERVICE: Final = "swarmpy.api.v1.Raft"
HELLO_S: Final = 5.0


class Member(Protocol):
    """The member that is served: `RaftThread`."""

    @property
    def metadata(self) -> Metadata: ...

    def admit(self, hello: pb.RaftHello, name: NodeName) -> None:
        """Raise SwarmError unless the caller is a member that this one knows."""

    def places(self) -> Mapping[int, str]:
        """Return where the other members are (`host:port`), as far as this one knows."""

    def opened(self, inbound: Inbound) -> None:
        """A member's stream is up; it replaces an earlier one of that member."""

    def arrived(self, inbound: Inbound, data: bytes) -> None:
        """A batch came."""

    def closed(self, inbound: Inbound) -> None:
        """The stream ended."""

    def receiving(self, message: Message) -> AbstractAsyncContextManager[SnapshotSink | None]:
        """Begin to store a snapshot; None if this member has more already. Leaving it hands `message` to the core."""


class RaftServicer:
    """Serves the `Raft` service for one member.

    Args:
        peer: returns whose certificate a call shows.
        feature_level, addr: see `Network`.
    """

    def __init__(
        self, member: Member, peer: Callable[[Any], NodeName], *, feature_level: int = 1, addr: str = ""
    ) -> None:
        self._member, self._peer, self._feature_level, self._addr = member, peer, feature_level, addr

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service; batches stay bytes, so that the main loop does not decode them."""
        handlers = {
            "Stream": grpc.stream_stream_rpc_method_handler(self.stream),
            "InstallSnapshot": grpc.stream_stream_rpc_method_handler(
                self.install_snapshot,
                request_deserializer=pb.SnapshotChunk.FromString,
                response_serializer=pb.InstallSnapshotResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Serve one member's stream until either side ends it."""
        hello = read_hello(await _first(requests))
        self._admit(hello, context)
        places = {member_id: addr for member_id, addr in self._member.places().items() if member_id != hello.member_id}
        answer = make_hello(self._member.metadata, hello.member_id, self._feature_level, addr=self._addr, places=places)
        await context.write(pb.RaftBatch(hello=answer).SerializeToString())
        inbound = Inbound(hello.member_id, hello.addr)
        self._member.opened(inbound)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._read(inbound, requests)),
                    group.create_task(self._answer(inbound, context)),
                ]
                await inbound.ended
                for task in tasks:
                    task.cancel()
        finally:
            self._member.closed(inbound)

    async def install_snapshot(self, requests: AsyncIterator[pb.SnapshotChunk], context: Any) -> None:
        """Store a snapshot that a leader sends, and let the core have it."""
        await receive(requests, context.write, self._member.receiving, lambda hello: self._admit(hello, context))

    def _admit(self, hello: pb.RaftHello, context: Any) -> None:
        check_hello(hello, self._member.metadata)
        self._member.admit(hello, self._peer(context))

    async def _read(self, inbound: Inbound, requests: AsyncIterator[bytes]) -> None:
        async for data in requests:
            self._member.arrived(inbound, data)
            await inbound.room(len(data))
        inbound.end()

    async def _answer(self, inbound: Inbound, context: Any) -> None:
        while True:
            await context.write(await inbound.next_answer())


async def _first(requests: AsyncIterator[bytes]) -> bytes:
    try:
        async with asyncio.timeout(HELLO_S):
            return await anext(requests)
    except (TimeoutError, StopAsyncIteration):
        raise SwarmError(Code.DEADLINE_EXCEEDED, "a manager opened a stream and did not say who it is") from None
