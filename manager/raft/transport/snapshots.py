"""Snapshots from member to member: piece by piece, as they stand in the file. A transfer that breaks begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import grpc
import grpc.aio
import structlog

from manager.raft.log.snapshot_file import MAX_CHUNK_BYTES
from manager.raft.transport.wire import from_proto, to_proto
from manager.raft.types import Message, SnapshotMark
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError, invalid

INSTALL: Final = "/swarmpy.api.v1.Raft/InstallSnapshot"
PIECE_BYTES: Final = 256 * 1024
STALLED_S: Final = 30.0
_LOG_EVERY_BYTES: Final = 64 * 1024 * 1024
_log: Final = structlog.get_logger()


class SnapshotSink(Protocol):
    """Where a received snapshot goes."""

    async def write(self, chunk: bytes) -> None: ...

    async def finish(self) -> None:
        """Make it durable."""


class Progress:
    """Says in the log how far a transfer is, now and then."""

    def __init__(self, verb: str, member_id: int, mark: SnapshotMark, clock: Clock) -> None:
        self._log = _log.bind(member=member_id, index=mark.index)
        self._verb, self._clock, self._began_s = verb, clock, clock.monotonic()
        self._said_bytes = self.size_bytes = 0

    def more(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        if self.size_bytes - self._said_bytes >= _LOG_EVERY_BYTES:
            self._said_bytes = self.size_bytes
            self._log.info(f"raft snapshot {self._verb}", size_bytes=self.size_bytes, is_done=False)

    def done(self) -> None:
        took_s = self._clock.monotonic() - self._began_s
        self._log.info(f"raft snapshot {self._verb}", size_bytes=self.size_bytes, is_done=True, took_s=round(took_s, 3))


async def send(
    channel: grpc.aio.Channel, hello: pb.RaftHello, message: Message, chunks: AsyncIterator[bytes], progress: Progress
) -> bool:
    """Send a snapshot and then `message`; return whether the other had need of it.

    Raises:
        SwarmError: CORRUPT, the file is damaged; UNAVAILABLE, nothing moved for `STALLED_S`.
        grpc.aio.AioRpcError: the other end refused, or the stream broke.
    """
    install: Any = channel.stream_stream(
        INSTALL,
        request_serializer=pb.SnapshotChunk.SerializeToString,
        response_deserializer=pb.InstallSnapshotResponse.FromString,
    )
    call = install()
    try:
        await _put(call, pb.SnapshotChunk(start=pb.SnapshotStart(hello=hello, message=to_proto(message))))
        if not (await _answer(call)).needed:
            await _moving(call.read())  # its end: the other has taken the message
            return False
        async for chunk in chunks:
            for start in range(0, len(chunk) or 1, PIECE_BYTES):
                piece = chunk[start : start + PIECE_BYTES]
                more = start + PIECE_BYTES < len(chunk)
                await _put(call, pb.SnapshotChunk(data=piece, more=more))
            progress.more(len(chunk))
        await _put(call, pb.SnapshotChunk(end=True))
        await _answer(call)
        return True
    finally:
        call.cancel()


async def receive(
    requests: AsyncIterator[pb.SnapshotChunk],
    answer: Callable[[pb.InstallSnapshotResponse], Awaitable[None]],
    receiving: Callable[[Message], AbstractAsyncContextManager[SnapshotSink | None]],
    admit: Callable[[pb.RaftHello], None],
) -> None:
    """Store what `send` sends.

    Raises:
        SwarmError: INVALID_ARGUMENT, RESOURCE_EXHAUSTED (disk full), UNAVAILABLE; what was stored of it is removed.
    """
    start = (await _moving(anext(requests))).start
    admit(start.hello)
    message = from_proto(start.message)
    if message.snapshot is None or message.sender != start.hello.member_id or message.to != start.hello.to:
        raise invalid(f"a snapshot from member {start.hello.member_id} to {start.hello.to} with a message of others")
    async with receiving(message) as sink:
        await answer(pb.InstallSnapshotResponse(needed=sink is not None))
        if sink is not None:
            await _fill(sink, requests)
    if sink is not None:
        await answer(pb.InstallSnapshotResponse(stored=True))


async def _fill(sink: SnapshotSink, requests: AsyncIterator[pb.SnapshotChunk]) -> None:
    pieces: list[bytes] = []
    size_bytes = 0
    while not (chunk := await _moving(anext(requests))).end:
        pieces.append(chunk.data)
        size_bytes += len(chunk.data)
        if size_bytes > MAX_CHUNK_BYTES:
            raise invalid(f"a piece of a snapshot of more than {MAX_CHUNK_BYTES} bytes")
        if not chunk.more:
            await sink.write(b"".join(pieces))
            pieces, size_bytes = [], 0
    if pieces:
        raise invalid("a snapshot that ends within a piece")
    await sink.finish()


async def _put(call: Any, chunk: pb.SnapshotChunk) -> None:
    try:
        await _moving(call.write(chunk))
    except asyncio.InvalidStateError:
        await _answer(call)  # the other end had ended the call before: why, this raises


async def _answer(call: Any) -> pb.InstallSnapshotResponse:
    answer = await _moving(call.read())
    if not isinstance(answer, pb.InstallSnapshotResponse):
        raise SwarmError(Code.UNAVAILABLE, "the other end gave a snapshot's transfer up: it is stopping")
    return answer


async def _moving(step: Any) -> Any:
    """Wait for a step of a transfer; the other end may not stand still for ever."""
    try:
        async with asyncio.timeout(STALLED_S):
            return await step
    except TimeoutError:
        raise SwarmError(Code.UNAVAILABLE, f"a snapshot's transfer stood still for {STALLED_S:.0f} s") from None
    except StopAsyncIteration:
        raise SwarmError(Code.UNAVAILABLE, "a snapshot's transfer broke off") from None
