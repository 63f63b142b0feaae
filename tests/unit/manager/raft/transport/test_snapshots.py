"""Snapshots between members over a real stream: pieces of any size, and what happens when an end gives up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from manager.raft.transport import snapshots
from manager.raft.transport.hello import make_hello
from manager.raft.transport.snapshots import INSTALL, PIECE_BYTES, Progress, SnapshotSink
from manager.raft.transport.wire import to_proto
from manager.raft.types import ConfState, Message, MessageKind, Metadata, SnapshotMark
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.status import to_error
from tests.support.clock import FakeClock

MARK = SnapshotMark(40, 3, ConfState((1, 2)))
MESSAGE = Message(MessageKind.SNAPSHOT, 1, 2, 3, snapshot=MARK)
HELLO = make_hello(Metadata("c1", 1), 2, 1)

DEADLINE_S = 10.0


class Receiver:
    """The other end; keeps what came."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.finished = self.left = False
        self.needed = True
        self.refusal: SwarmError | None = None
        self.took: list[Message] = []
        self.ended = asyncio.Event()

    async def write(self, chunk: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.chunks.append(chunk)

    async def finish(self) -> None:
        self.finished = True

    @asynccontextmanager
    async def receiving(self, message: Message) -> AsyncIterator[SnapshotSink | None]:
        try:
            yield self if self.needed else None
        finally:
            self.left = True
        self.took.append(message)
        self.ended.set()

    async def install(self, requests: AsyncIterator[pb.SnapshotChunk], context: Any) -> None:
        await snapshots.receive(requests, context.write, self.receiving, lambda hello: None)


@asynccontextmanager
async def connected(receiver: Receiver) -> AsyncIterator[grpc.aio.Channel]:
    service, _, method = INSTALL.strip("/").partition("/")
    handler = grpc.stream_stream_rpc_method_handler(
        receiver.install,
        request_deserializer=pb.SnapshotChunk.FromString,
        response_serializer=pb.InstallSnapshotResponse.SerializeToString,
    )
    server = grpc.aio.server(interceptors=(Boundary(),))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


class Calls:
    """A channel that knows the last call that was made through it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.last: Any = None

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        make = self._channel.stream_stream(*args, **kwargs)

        def call() -> Any:
            self.last = make()
            return self.last

        return call


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def send(channel: grpc.aio.Channel, *chunks: bytes, message: Message = MESSAGE) -> bool:
    progress = Progress("sent", 2, MARK, FakeClock())
    needed = await snapshots.send(channel, HELLO, message, chunks_of(*chunks), progress)
    assert not needed or progress.size_bytes == sum(map(len, chunks))
    return needed


async def test_chunks_arrive_as_they_were_given() -> None:
    receiver = Receiver()
    sent = [b"", b"x", bytes(PIECE_BYTES), bytes(PIECE_BYTES + 1), b"y" * (3 * PIECE_BYTES), b"end"]
    async with connected(receiver) as channel:
        assert await send(channel, *sent)
    assert receiver.chunks == sent
    assert receiver.finished and receiver.took == [MESSAGE]


async def test_who_has_more_already_is_sent_no_more() -> None:
    receiver = Receiver()
    receiver.needed = False
    async with connected(receiver) as channel:
        assert not await send(channel, *[bytes(PIECE_BYTES)] * 50)
        async with asyncio.timeout(DEADLINE_S):  # the sender does not wait for the other end
            await receiver.ended.wait()
    assert receiver.chunks == [] and receiver.took == [MESSAGE]


async def test_a_refusal_reaches_the_sender_by_name() -> None:
    receiver = Receiver()
    receiver.refusal = SwarmError(Code.RESOURCE_EXHAUSTED, "disk full on /there")
    async with connected(receiver) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(channel, *[bytes(PIECE_BYTES)] * 50)
    if caught.value.code() is not grpc.StatusCode.INTERNAL:  # what gRPC says when a write met the end of the stream
        assert to_error(caught.value).message == "disk full on /there"
    assert receiver.left and not receiver.finished and receiver.took == []


async def test_a_refusal_that_came_while_nothing_was_sent_is_no_fault_of_the_senders() -> None:
    receiver = Receiver()
    receiver.refusal = SwarmError(Code.RESOURCE_EXHAUSTED, "disk full on /there")

    async def slow(calls: Calls) -> AsyncIterator[bytes]:
        yield b"x"
        await calls.last.code()
        yield b"y"

    async with connected(receiver) as channel, asyncio.timeout(DEADLINE_S):
        calls = Calls(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            progress = Progress("sent", 2, MARK, FakeClock())
            await snapshots.send(cast("grpc.aio.Channel", calls), HELLO, MESSAGE, slow(calls), progress)
    assert to_error(caught.value).message == "disk full on /there"


async def test_a_sender_that_breaks_off_leaves_nothing() -> None:
    receiver = Receiver()

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise SwarmError(Code.CORRUPT, "the file is damaged")

    async with connected(receiver) as channel:
        with pytest.raises(SwarmError, match="damaged"):
            await snapshots.send(channel, HELLO, MESSAGE, broken(), Progress("sent", 2, MARK, FakeClock()))
    assert not receiver.finished and receiver.took == []


START = pb.SnapshotStart(hello=HELLO)


async def raw(channel: grpc.aio.Channel, *pieces: pb.SnapshotChunk) -> str:
    """Send these pieces and end; return the refusal."""
    call: Any = channel.stream_stream(
        INSTALL,
        request_serializer=pb.SnapshotChunk.SerializeToString,
        response_deserializer=pb.InstallSnapshotResponse.FromString,
    )(iter(pieces))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
    return to_error(caught.value).message


async def test_what_no_member_sends_is_refused() -> None:
    start = pb.SnapshotChunk(start=pb.SnapshotStart(hello=HELLO, message=to_proto(MESSAGE)))
    of_another = Message(MessageKind.SNAPSHOT, 3, 2, 3, snapshot=MARK)
    vote = Message(MessageKind.VOTE, 1, 2, 3)
    receiver = Receiver()
    async with connected(receiver) as channel:
        assert "unknown kind" in await raw(channel, pb.SnapshotChunk(start=START))
        for message in (of_another, vote):
            wrong = pb.SnapshotStart(hello=HELLO, message=to_proto(message))
            assert "with a message of others" in await raw(channel, pb.SnapshotChunk(start=wrong))
        assert "within a piece" in await raw(
            channel, start, pb.SnapshotChunk(data=b"x", more=True), pb.SnapshotChunk(end=True)
        )
        assert "broke off" in await raw(channel, start, pb.SnapshotChunk(data=b"x"))
        assert "broke off" in await raw(channel)
    assert receiver.took == []
