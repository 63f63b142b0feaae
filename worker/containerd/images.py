"""Image records: names, each with the manifest or index that it stands for."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import images_pb2 as pb
from worker.containerd.api.images_pb2_grpc import ImagesStub
from worker.containerd.mounts import from_descriptor, to_descriptor
from worker.containerd.transport import SLOW_S, Transport, seconds
from worker.containerd.types import ImageRecord


class Images:
    """The images of one namespace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = ImagesStub(transport.channel)

    async def create(self, image: ImageRecord) -> ImageRecord:
        """Make a record. ALREADY_EXISTS if the name is taken."""
        request = pb.CreateImageRequest(image=_to_message(image))
        return _from_message((await self._transport.call(self._stub.Create, request, f"name image {image.name}")).image)

    async def put(self, image: ImageRecord) -> ImageRecord:
        """Make a record, or have the one of this name stand for `image` from now on."""
        for attempt in (self.create, self._update) * 2:
            try:
                return await attempt(image)
            except SwarmError as error:
                if error.code not in (Code.ALREADY_EXISTS, Code.NOT_FOUND):
                    raise
        # Another deletes the name each time we look.
        raise SwarmError(Code.UNAVAILABLE, f"cannot name image {image.name}: the name is being changed; try again")

    async def get(self, name: str) -> ImageRecord:
        """Return one record, or raise NOT_FOUND."""
        request = pb.GetImageRequest(name=name)
        return _from_message((await self._transport.call(self._stub.Get, request, f"look up image {name}")).image)

    async def list(self, *filters: str) -> tuple[ImageRecord, ...]:
        """Return the records that any of the filters fits, or all."""
        request = pb.ListImagesRequest(filters=filters)
        answer = await self._transport.call(self._stub.List, request, "list images")
        return tuple(_from_message(message) for message in answer.images)

    async def delete(self, name: str, *, sync: bool = False) -> None:
        """Delete a record; with `sync`, what it alone has kept is gone when this returns."""
        request = pb.DeleteImageRequest(name=name, sync=sync)
        await self._transport.call(self._stub.Delete, request, f"delete image {name}", 10 * SLOW_S)

    async def _update(self, image: ImageRecord) -> ImageRecord:
        mask = FieldMask(paths=["target", "labels"])
        request = pb.UpdateImageRequest(image=_to_message(image), update_mask=mask)
        answer = await self._transport.call(self._stub.Update, request, f"change image {image.name}")
        return _from_message(answer.image)


def _to_message(image: ImageRecord) -> pb.Image:
    return pb.Image(name=image.name, labels=image.labels, target=to_descriptor(image.target))


def _from_message(message: pb.Image) -> ImageRecord:
    return ImageRecord(
        message.name,
        from_descriptor(message.target),
        dict(message.labels),
        seconds(message.created_at),
        seconds(message.updated_at),
    )
