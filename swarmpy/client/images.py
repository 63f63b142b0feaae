"""Calls about the images of this node, and the registries that it knows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from swarmpy.api.v1 import images_pb2 as pb
from swarmpy.client.call import Caller
from swarmpy.client.containers import PullStep
from swarmpy.model.base import Model
from swarmpy.model.image import ImageLayer, LocalImage
from swarmpy.model.service import RegistryAuth
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.images_pb2_grpc import ImagesAsyncStub  # a name of the stubs only

TRANSFER_TIMEOUT_S: Final = 24 * 3600.0
"""A pull, a push or an archive takes what the network and the disk give."""
REGISTRY_TIMEOUT_S: Final = 60.0
PIECE_BYTES: Final = 1 << 20
Watch = Callable[[PullStep], None]


class PulledImage(Model, frozen=True):
    """What a pull brought. `is_new`: the name stood for nothing or something else before."""

    name: str = ""
    digest: str = ""
    id: str = ""
    is_new: bool = False


class ImageDetail(Model, frozen=True):
    """An image with its configuration's JSON as it came, its layers from the lowest, and the driver that keeps them."""

    image: LocalImage
    config: bytes = b""
    layers: tuple[ImageLayer, ...] = ()
    driver: str = ""


class RemovedImages(Model, frozen=True):
    """Names that are gone, and digests of images that nothing names any more."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    reclaimed_bytes: int = 0


class Images:
    """`client.images`. An `image` is a name, a digest, or the beginning of an ID."""

    def __init__(self, stub: ImagesAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def pull(
        self, reference: str, *, platform: str = "", auth: RegistryAuth | None = None, watch: Watch | None = None
    ) -> PulledImage:
        """Bring a name to what its registry has under it now; `watch` is told how it goes on."""
        request = pb.PullImageRequest(reference=reference, platform=platform)
        _say_who(request, auth)
        async with aclosing(self._call.stream(lambda: self._stub.Pull(request), _same, TRANSFER_TIMEOUT_S)) as answers:
            async for answer in answers:
                if answer.HasField("image"):
                    image = answer.image
                    return PulledImage(image.name, image.digest, image.id, image.is_new)
                _tell(watch, answer.step)
        raise AssertionError("the last answer has the image")

    async def push(self, reference: str, *, auth: RegistryAuth | None = None, watch: Watch | None = None) -> str:
        """Bring an image to the registry that its name says; return its digest."""
        request = pb.PushImageRequest(reference=reference)
        _say_who(request, auth)
        async with aclosing(self._call.stream(lambda: self._stub.Push(request), _same, TRANSFER_TIMEOUT_S)) as answers:
            async for answer in answers:
                if answer.WhichOneof("answer") == "digest":
                    return str(answer.digest)
                _tell(watch, answer.step)
        raise AssertionError("the last answer has the digest")

    async def get(self, image: str) -> ImageDetail:
        answer = await self._call(self._stub.Get, pb.GetImageRequest(image=image))
        layers = tuple(from_proto(layer, ImageLayer) for layer in answer.layers)
        return ImageDetail(from_proto(answer.image, LocalImage), answer.config, layers, answer.driver)

    async def tag(self, image: str, name: str) -> str:
        """Give an image another name; return it in full."""
        return (await self._call(self._stub.Tag, pb.TagImageRequest(image=image, name=name))).name

    async def remove(self, image: str, *, force: bool = False) -> RemovedImages:
        return _removed(await self._call(self._stub.Remove, pb.RemoveImageRequest(image=image, force=force)))

    async def prune(
        self, *, every: bool = False, before: float = 0.0, labels: Mapping[str, str] | None = None
    ) -> RemovedImages:
        """Remove images that no container uses: those without a tag, or with `every` all.

        Args:
            before: only those that came here before that wall time; 0: whenever.
            labels: only those that have these; an empty value asks for the key alone.
        """
        request = pb.PruneImagesRequest(all=every, before=before, labels=dict(labels or {}))
        return _removed(await self._call(self._stub.Prune, request, REGISTRY_TIMEOUT_S))

    async def load(self, pieces: AsyncIterator[bytes], *, name: str = "", source: str = "") -> list[str]:
        """Import an archive; return the names of its images.

        Args:
            name: what to call an archive's only image; empty for as the archive says.
            source: what to call the archive in sentences.
        """

        async def requests() -> AsyncIterator[pb.LoadImagesRequest]:
            yield pb.LoadImagesRequest(name=name, source=source)
            async for piece in pieces:
                for at in range(0, len(piece), PIECE_BYTES):
                    yield pb.LoadImagesRequest(data=piece[at : at + PIECE_BYTES])

        async def send(
            request: Callable[[], AsyncIterator[pb.LoadImagesRequest]], *, timeout: float | None = None
        ) -> pb.LoadImagesResponse:
            return await self._stub.Load(request(), timeout=timeout)

        answer = await self._call(send, requests, TRANSFER_TIMEOUT_S)
        return list(answer.names)

    async def save(self, images: Sequence[str]) -> AsyncGenerator[bytes]:
        """Yield an archive with images, which other tools read, too."""
        request = pb.SaveImagesRequest(images=images)
        async with aclosing(self._call.stream(lambda: self._stub.Save(request), _same, TRANSFER_TIMEOUT_S)) as answers:
            async for answer in answers:
                yield answer.data

    async def login(self, auth: RegistryAuth) -> RegistryAuth:
        """Ask a registry whether it takes credentials; return what to keep of them."""
        request = pb.LoginRequest()
        fill(request.auth, auth)
        return from_proto((await self._call(self._stub.Login, request, REGISTRY_TIMEOUT_S)).keep, RegistryAuth)

    async def resolve(self, reference: str, *, auth: RegistryAuth | None = None) -> str:
        """Return a name with the digest that its registry has under it now."""
        request = pb.ResolveImageRequest(reference=reference)
        _say_who(request, auth)
        return (await self._call(self._stub.Resolve, request, REGISTRY_TIMEOUT_S)).reference

    async def list(self) -> list[LocalImage]:
        """Return all images, the newest first."""
        answer = await self._call(self._stub.List, pb.ListImagesRequest())
        return [from_proto(image, LocalImage) for image in answer.images]


def _say_who(request: Any, auth: RegistryAuth | None) -> None:
    if auth is not None:
        fill(request.auth, auth)


def _tell(watch: Watch | None, step: Any) -> None:
    if watch is not None:
        watch(PullStep(step.reference, step.digest, step.stage, step.done_bytes, step.total_bytes))


def _removed(answer: pb.RemoveImagesResponse) -> RemovedImages:
    return RemovedImages(tuple(answer.untagged), tuple(answer.deleted), answer.reclaimed_bytes)


def _same(answer: Any) -> Any:
    return answer
