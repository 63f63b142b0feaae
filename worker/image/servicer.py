"""The Images service on node.sock: translates between messages and the use cases."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from swarmpy.api.v1 import containers_pb2, images_pb2_grpc, types_pb2
from swarmpy.api.v1 import images_pb2 as pb
from swarmpy.clock import Clock
from swarmpy.errors import SwarmError, invalid
from swarmpy.node_file import NAME, read_node_file
from swarmpy.registry.client import Registry
from swarmpy.registry.credentials import Credentials, FixedKeychain, Keychain
from swarmpy.registry.platforms import parse_platform
from swarmpy.registry.reference import parse_reference
from swarmpy.registry.settings import read_settings
from swarmpy.registry.transport import Patience
from swarmpy.wire.convert import to_proto
from worker.image.catalog import Removed
from worker.image.desk import ImageDesk
from worker.image.steps import told
from worker.image.types import PullEvent

# ruff: noqa: N802  # the methods have the names that the proto gives them

PIECE_BYTES: Final = 1 << 20
QUESTION: Final = Patience(connect_s=5.0, idle_s=10.0, call_s=10.0, attempts=2)
"""A person waits for the answer."""
T = TypeVar("T")


class ImagesServicer(images_pb2_grpc.ImagesServicer):
    """`state_dir` is where the node's settings of registries are."""

    def __init__(self, desk: ImageDesk, state_dir: Path, *, clock: Clock, rng: random.Random) -> None:
        self._desk = desk
        self._state_dir = state_dir
        self._clock = clock
        self._rng = rng

    def _registry(self, keychain: Keychain | None = None) -> Registry:
        settings = read_settings(read_node_file(self._state_dir).registry, str(self._state_dir / NAME))
        return Registry(settings, keychain, clock=self._clock, rng=self._rng, patience=QUESTION)

    async def Pull(self, request: pb.PullImageRequest, context: Any) -> None:  # type: ignore[override]  # a coroutine that writes its answers is as good
        desk = self._desk
        platform = parse_platform(request.platform) if request.platform else None

        async def tell(event: PullEvent) -> None:
            await context.write(pb.PullImageResponse(step=_step(event)))

        pulled = await told(
            lambda watch: desk.pull(request.reference, platform=platform, auth=_credentials(request.auth), watch=watch),
            tell,
            self._clock,
        )
        image = pulled.image
        answer = pb.PulledImage(name=image.name, digest=image.digest, id=image.config_digest, is_new=pulled.is_new)
        await context.write(pb.PullImageResponse(image=answer))

    async def Push(self, request: pb.PushImageRequest, context: Any) -> None:  # type: ignore[override]  # the same
        room = await self._desk.room()

        async def tell(event: PullEvent) -> None:
            await context.write(pb.PushImageResponse(step=_step(event)))

        digest = await told(
            lambda watch: room.pusher.push(request.reference, auth=_credentials(request.auth), watch=watch),
            tell,
            self._clock,
        )
        await context.write(pb.PushImageResponse(digest=digest))

    async def List(self, request: pb.ListImagesRequest, context: Any) -> pb.ListImagesResponse:
        found = await self._desk.every()
        return pb.ListImagesResponse(images=[cast(pb.LocalImage, to_proto(image)) for image in found])

    async def Get(self, request: pb.GetImageRequest, context: Any) -> pb.GetImageResponse:
        found = await self._desk.get(request.image)
        return pb.GetImageResponse(
            image=cast(pb.LocalImage, to_proto(found.image)),
            config=found.raw_config,
            layers=[cast(pb.ImageLayer, to_proto(layer)) for layer in found.layers],
            driver=found.driver,
        )

    async def Tag(self, request: pb.TagImageRequest, context: Any) -> pb.TagImageResponse:
        room = await self._desk.room()
        return pb.TagImageResponse(name=await room.catalog.tag(request.image, request.name))

    async def Remove(self, request: pb.RemoveImageRequest, context: Any) -> pb.RemoveImagesResponse:
        room = await self._desk.room()
        return _removed(await room.catalog.remove(request.image, force=request.force))

    async def Prune(self, request: pb.PruneImagesRequest, context: Any) -> pb.RemoveImagesResponse:
        room = await self._desk.room()
        removed = await room.catalog.prune(
            every=request.all, created_before_s=request.before or None, labels=dict(request.labels)
        )
        return _removed(removed)

    async def Load(self, requests: AsyncIterator[pb.LoadImagesRequest], context: Any) -> pb.LoadImagesResponse:
        desk = self._desk
        first = await anext(requests, None)
        if first is None:
            raise invalid("the call brings no archive: give its bytes in pieces")

        async def pieces() -> AsyncIterator[bytes]:
            yield first.data
            async for request in requests:
                yield request.data

        called = first.source or "the archive"
        return pb.LoadImagesResponse(names=await desk.load(pieces(), name=first.name, called=called))

    async def Save(self, request: pb.SaveImagesRequest, context: Any) -> AsyncGenerator[pb.SaveImagesResponse]:
        room = await self._desk.room()
        held = bytearray()
        async for piece in room.exporter.save(tuple(request.images)):
            held += piece
            while len(held) >= PIECE_BYTES:
                yield pb.SaveImagesResponse(data=bytes(held[:PIECE_BYTES]))
                del held[:PIECE_BYTES]
        yield pb.SaveImagesResponse(data=bytes(held))

    async def Resolve(self, request: pb.ResolveImageRequest, context: Any) -> pb.ResolveImageResponse:
        name = parse_reference(request.reference)
        auth = _credentials(request.auth)
        keychain = FixedKeychain({name.domain: auth}) if auth is not None else None
        async with self._registry(keychain) as registry:
            found = await _once(registry.resolve(name))
        return pb.ResolveImageResponse(reference=replace(name, digest=found.digest).familiar())

    async def Login(self, request: pb.LoginRequest, context: Any) -> pb.LoginResponse:
        auth = request.auth
        given = Credentials(auth.username, auth.password, auth.identity_token)
        async with self._registry() as registry:
            keep = await _once(registry.login(auth.registry, given))
        return pb.LoginResponse(
            keep=types_pb2.RegistryAuth(
                registry=auth.registry,
                username=keep.username,
                password=keep.password,
                identity_token=keep.identity_token,
            )
        )


async def _once(question: Awaitable[T]) -> T:
    """Return the answer; a failure says that the caller need not ask again, as the registry was asked often enough."""
    try:
        return await question
    except SwarmError as error:
        raise SwarmError(error.code, error.message, retryable=False) from error


def _credentials(auth: types_pb2.RegistryAuth) -> Credentials | None:
    given = Credentials(auth.username, auth.password, auth.identity_token)
    return given if given != Credentials() else None


def _removed(removed: Removed) -> pb.RemoveImagesResponse:
    return pb.RemoveImagesResponse(
        untagged=removed.untagged, deleted=removed.deleted, reclaimed_bytes=removed.reclaimed_bytes
    )


def _step(event: PullEvent) -> containers_pb2.PullStep:
    return containers_pb2.PullStep(
        reference=event.reference,
        digest=event.digest,
        stage=event.stage.value,
        done_bytes=event.done_bytes,
        total_bytes=event.total_bytes,
    )
