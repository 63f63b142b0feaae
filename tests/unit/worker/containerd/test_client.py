"""The client against a server of straw: what a real containerd does not do on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import content_pb2, events_pb2, images_pb2, version_pb2
from worker.containerd.client import Containerd
from worker.containerd.types import Descriptor, ImageRecord, OtherEvent


class Straw:
    """Notes what comes with each call; its writes end after `pieces` answers, its events in `deaf` knocks."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, str]] = []
        self.pieces = 1
        self.published: list[events_pb2.PublishRequest] = []
        self.deaf = 2
        self.heard = asyncio.Condition()
        self.names: list[str] = []

    async def version(self, request: Empty, context: grpc.aio.ServicerContext[Any, Any]) -> version_pb2.VersionResponse:
        self.metadata.append({str(key): str(value) for key, value in context.invocation_metadata() or ()})
        return version_pb2.VersionResponse(version="2.0", revision="r")

    async def write(
        self,
        request_iterator: AsyncIterator[content_pb2.WriteContentRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[content_pb2.WriteContentResponse]:
        left = self.pieces
        async for request in request_iterator:
            if left == 0:
                return
            left -= 1
            yield content_pb2.WriteContentResponse(action=request.action, offset=request.offset + len(request.data))

    async def publish(self, request: events_pb2.PublishRequest, context: Any) -> Empty:
        async with self.heard:
            self.published.append(request)
            self.heard.notify_all()
        return Empty()

    async def subscribe(
        self, request: events_pb2.SubscribeRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[events_pb2.Envelope]:
        yield events_pb2.Envelope(topic="/early")
        async with self.heard:
            await self.heard.wait_for(lambda: len(self.published) >= self.deaf)
        last = self.published[-1]
        yield events_pb2.Envelope(topic=last.topic, event=last.event)
        yield events_pb2.Envelope(topic="/late")

    async def create(self, request: images_pb2.CreateImageRequest, context: Any) -> images_pb2.CreateImageResponse:
        self.names.append("create")
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "it is there")
        raise AssertionError("abort raises")

    async def update(self, request: images_pb2.UpdateImageRequest, context: Any) -> images_pb2.UpdateImageResponse:
        self.names.append("update")
        await context.abort(grpc.StatusCode.NOT_FOUND, "it is gone")
        raise AssertionError("abort raises")

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return the methods under their names on the wire."""

        def unary(call: Any, request: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
            return grpc.unary_unary_rpc_method_handler(call, request.FromString, _bytes)

        table: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {
            "version.v1.Version": {"Version": unary(self.version, Empty)},
            "events.v1.Events": {
                "Publish": unary(self.publish, events_pb2.PublishRequest),
                "Subscribe": grpc.unary_stream_rpc_method_handler(
                    self.subscribe, events_pb2.SubscribeRequest.FromString, _bytes
                ),
            },
            "content.v1.Content": {
                "Write": grpc.stream_stream_rpc_method_handler(
                    self.write, content_pb2.WriteContentRequest.FromString, _bytes
                )
            },
            "images.v1.Images": {
                "Create": unary(self.create, images_pb2.CreateImageRequest),
                "Update": unary(self.update, images_pb2.UpdateImageRequest),
            },
        }
        return [
            grpc.method_handlers_generic_handler(f"containerd.services.{name}", methods)
            for name, methods in table.items()
        ]


def _bytes(message: Message) -> bytes:
    return message.SerializeToString()


@asynccontextmanager
async def serving(path: Path, straw: Straw) -> AsyncIterator[Containerd]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(straw.handlers())
    socket = path / "c.sock"
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        async with Containerd.connect(socket, "ours") as client:
            yield client
    finally:
        await server.stop(None)


async def test_namespace_and_lease_go_with_every_call(tmp_path: Path) -> None:
    straw = Straw()
    async with serving(tmp_path, straw) as client:
        await client.version()
        leased = client.leased("pull")
        await leased.version()
        await leased.close()
        assert (await client.version()).version == "2.0"
    assert [(m["containerd-namespace"], m.get("containerd-lease")) for m in straw.metadata] == [
        ("ours", None),
        ("ours", "pull"),
        ("ours", None),
    ]


async def test_a_containerd_that_is_away_is_said_so_and_is_worth_another_try(tmp_path: Path) -> None:
    async with Containerd.connect(tmp_path / "nobody.sock", "ours") as client:
        with pytest.raises(SwarmError, match="cannot look up container x: containerd does not answer") as caught:
            await client.containers.get("x")
        assert caught.value.retryable
        with pytest.raises(SwarmError, match=r"did not answer at .*nobody\.sock within 0\.05 s") as caught:
            await client.wait_until_serving(0.05)
        assert caught.value.code is Code.UNAVAILABLE


async def test_a_write_that_containerd_ends_is_worth_another_try(tmp_path: Path) -> None:
    straw = Straw()
    straw.pieces = 2
    async with serving(tmp_path, straw) as client, client.content.write("layer") as writer:
        assert await writer.write(b"abc") == 3
        for _ in range(2):
            with pytest.raises(SwarmError, match="cannot write layer") as caught:
                await writer.write(b"def")
            assert caught.value.code is Code.UNAVAILABLE
        assert writer.offset == 3


async def test_a_subscription_is_entered_when_our_own_event_comes_back(tmp_path: Path) -> None:
    straw = Straw()
    async with serving(tmp_path, straw) as client, client.events.subscribe('topic=="/x"') as events:
        assert len(straw.published) >= straw.deaf
        assert await anext(events) == OtherEvent("/early", 0.0)
        assert await anext(events) == OtherEvent("/late", 0.0)
        with pytest.raises(SwarmError) as caught:
            await anext(events)
        assert caught.value.code is Code.UNAVAILABLE


async def test_a_subscription_to_nobody_fails_on_entry(tmp_path: Path) -> None:
    async with Containerd.connect(tmp_path / "nobody.sock", "ours") as client:
        with pytest.raises(SwarmError) as caught:
            async with client.events.subscribe():
                pytest.fail("entered")
        assert caught.value.retryable


async def test_a_name_that_comes_and_goes_is_tried_twice(tmp_path: Path) -> None:
    straw = Straw()
    async with serving(tmp_path, straw) as client:
        with pytest.raises(SwarmError, match="is being changed; try again") as caught:
            await client.images.put(ImageRecord("web", Descriptor("m", "sha256:0", 1)))
        assert caught.value.retryable
    assert straw.names == ["create", "update"] * 2
