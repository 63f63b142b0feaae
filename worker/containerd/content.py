"""The content store: blobs by digest, and writes that can be taken up again."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import grpc.aio
from google.protobuf.field_mask_pb2 import FieldMask

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import content_pb2 as pb
from worker.containerd.api.content_pb2_grpc import ContentStub
from worker.containerd.transport import SLOW_S, UNARY_S, Transport, seconds, translated
from worker.containerd.types import NOTHING, ContentInfo, Ingest

PIECE_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 4 << 20

_Stream = grpc.aio.StreamStreamCall[pb.WriteContentRequest, pb.WriteContentResponse]


class Content:
    """The content of one namespace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = ContentStub(transport.channel)

    async def info(self, digest: str) -> ContentInfo:
        """Return what is known of a blob, or raise NOT_FOUND."""
        answer = await self._transport.call(self._stub.Info, pb.InfoRequest(digest=digest), f"look up {digest}")
        return _info(answer.info)

    async def exists(self, digest: str) -> bool:
        """Return whether a blob is there, whole."""
        try:
            await self.info(digest)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return False
            raise
        return True

    async def list(self, *filters: str) -> tuple[ContentInfo, ...]:
        """Return the blobs that any of the filters fits, or all."""
        request = pb.ListContentRequest(filters=filters)
        answers = self._transport.stream(self._stub.List, request, "list content")
        return tuple([_info(info) async for answer in answers for info in answer.info])

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncIterator[bytes]:
        """Yield a blob in pieces.

        Args:
            offset: bytes to leave out.
            size: how many bytes; 0 for all that follow.
        """
        request = pb.ReadContentRequest(digest=digest, offset=offset, size=size)
        async for answer in self._transport.stream(self._stub.Read, request, f"read {digest}"):
            yield answer.data

    async def read_all(self, digest: str, most_bytes: int = _SMALL_BYTES) -> bytes:
        """Return a small blob; RESOURCE_EXHAUSTED if it has more than `most_bytes`."""
        pieces = bytearray()
        async for piece in self.read(digest):
            pieces += piece
            if len(pieces) > most_bytes:
                raise SwarmError(Code.RESOURCE_EXHAUSTED, f"cannot read {digest}: it has more than {most_bytes} bytes")
        return bytes(pieces)

    @asynccontextmanager
    async def write(self, ref: str, *, total: int = 0, expected: str = "") -> AsyncIterator[ContentWriter]:
        """Begin to write, or take up, what `ref` names. One that is left without a commit can be taken up later.

        Args:
            total: size in bytes, 0 if it is not known yet.
            expected: digest, empty if it is not known yet.
        Raises:
            SwarmError: ALREADY_EXISTS if content with the expected digest is there; UNAVAILABLE, retryable, while
                another writer has the ref.
        """
        call: _Stream = self._stub.Write(metadata=self._transport.metadata)
        writer = ContentWriter(call, ref, total, expected)
        try:
            await writer.open()
            yield writer
        finally:
            await writer.close()

    async def put(self, data: bytes, *, ref: str = "", labels: Mapping[str, str] = NOTHING) -> str:
        """Store a small blob and return its digest; of one that is there the labels are set."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        try:
            async with self.write(ref or f"put-{digest}", total=len(data), expected=digest) as writer:
                if writer.offset:
                    await writer.restart()
                await writer.write(data)
                await writer.commit(labels=labels)
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
            if labels:
                await self.set_labels(digest, labels)
        return digest

    async def set_labels(self, digest: str, labels: Mapping[str, str]) -> ContentInfo:
        """Set these labels of a blob and leave the others; an empty value removes one."""
        mask = FieldMask(paths=[f"labels.{name}" for name in labels])
        request = pb.UpdateRequest(info=pb.Info(digest=digest, labels=labels), update_mask=mask)
        return _info((await self._transport.call(self._stub.Update, request, f"change the labels of {digest}")).info)

    async def delete(self, digest: str) -> None:
        """Delete a blob, whoever refers to it."""
        await self._transport.call(self._stub.Delete, pb.DeleteContentRequest(digest=digest), f"delete {digest}")

    async def status(self, ref: str) -> Ingest:
        """Return how far a write has come, or raise NOT_FOUND."""
        answer = await self._transport.call(self._stub.Status, pb.StatusRequest(ref=ref), f"look up the write {ref}")
        return _ingest(answer.status)

    async def ingests(self, *filters: str) -> tuple[Ingest, ...]:
        """Return the writes that are not committed."""
        request = pb.ListStatusesRequest(filters=filters)
        answer = await self._transport.call(self._stub.ListStatuses, request, "list writes")
        return tuple(_ingest(status) for status in answer.statuses)

    async def abort(self, ref: str) -> None:
        """Forget a write and what it has written."""
        await self._transport.call(self._stub.Abort, pb.AbortRequest(ref=ref), f"abort the write {ref}")


class ContentWriter:
    """One write under way. `offset` is how many bytes are safe, also from an earlier attempt: go on from there."""

    def __init__(self, call: _Stream, ref: str, total: int, expected: str) -> None:
        self.offset = 0
        self._call = call
        self._ref = ref
        self._total = total
        self._expected = expected

    async def open(self) -> None:
        """Take hold of the ref and learn how far it is."""
        first = pb.WriteContentRequest(action=pb.STAT, ref=self._ref, total=self._total, expected=self._expected)
        self.offset = (await self._exchange(first, UNARY_S)).offset

    async def write(self, data: bytes) -> int:
        """Append; return the new offset."""
        for start in range(0, len(data), PIECE_BYTES):
            piece = data[start : start + PIECE_BYTES]
            request = pb.WriteContentRequest(action=pb.WRITE, offset=self.offset, data=piece)
            self.offset = (await self._exchange(request, SLOW_S)).offset
        return self.offset

    async def restart(self) -> None:
        """Go back to the beginning."""
        if self.offset:
            # Offset 0 where there is data already means: cut it off.
            self.offset = (await self._exchange(pb.WriteContentRequest(action=pb.WRITE, offset=0), UNARY_S)).offset

    async def commit(self, *, size: int = 0, digest: str = "", labels: Mapping[str, str] = NOTHING) -> str:
        """Make it content, and return its digest.

        Raises:
            SwarmError: FAILED_PRECONDITION if it is not of this size or digest (or of those given at the beginning);
                ALREADY_EXISTS if another writer was faster, which is as good.
        """
        request = pb.WriteContentRequest(
            action=pb.COMMIT,
            offset=self.offset,
            total=size or self._total,
            expected=digest or self._expected,
            labels=labels,
        )
        # Data are synced to disk and, where a digest was not given, read once more.
        return (await self._exchange(request, 10 * SLOW_S)).digest

    async def close(self) -> None:
        """Let go of the ref; when this returns another writer can have it."""
        if not self._call.done():
            try:
                async with asyncio.timeout(UNARY_S):
                    await self._call.done_writing()
                    while await self._call.read() is not grpc.aio.EOF:
                        continue
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
                pass  # it is over either way; what failed was said where it mattered
        self._call.cancel()

    async def _exchange(self, request: pb.WriteContentRequest, deadline_s: float) -> pb.WriteContentResponse:
        what = f"write {self._ref}"
        try:
            with translated(what):
                async with asyncio.timeout(deadline_s):
                    with contextlib.suppress(asyncio.InvalidStateError):  # the call has ended; reading tells why
                        await self._call.write(request)
                    answer = await self._call.read()
        except TimeoutError as error:
            raise SwarmError(Code.DEADLINE_EXCEEDED, f"cannot {what}: containerd did not answer in time") from error
        if not isinstance(answer, pb.WriteContentResponse):
            raise SwarmError(Code.UNAVAILABLE, f"cannot {what}: containerd has ended the write")
        return answer


def _info(message: pb.Info) -> ContentInfo:
    return ContentInfo(
        message.digest, message.size, seconds(message.created_at), seconds(message.updated_at), dict(message.labels)
    )


def _ingest(message: pb.Status) -> Ingest:
    return Ingest(
        message.ref,
        message.offset,
        message.total,
        message.expected,
        seconds(message.started_at),
        seconds(message.updated_at),
    )
