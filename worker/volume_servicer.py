"""The Volumes service on node.sock: translates between messages and the use cases."""

from __future__ import annotations

from typing import Any, cast

from swarmpy.api.v1 import volumes_pb2 as pb
from swarmpy.api.v1 import volumes_pb2_grpc
from swarmpy.model.volume import LocalVolume
from swarmpy.wire.convert import to_proto
from worker.volume_desk import VolumeDesk

# ruff: noqa: N802  # the methods have the names that the proto gives them


class VolumesServicer(volumes_pb2_grpc.VolumesServicer):
    """Serves the volumes of one node."""

    def __init__(self, desk: VolumeDesk) -> None:
        self._desk = desk

    async def Create(self, request: pb.CreateVolumeRequest, context: Any) -> pb.VolumeResponse:
        return pb.VolumeResponse(volume=_volume(await self._desk.create(request.name, dict(request.labels))))

    async def List(self, request: pb.ListVolumesRequest, context: Any) -> pb.ListVolumesResponse:
        return pb.ListVolumesResponse(volumes=map(_volume, await self._desk.list()))

    async def Get(self, request: pb.GetVolumeRequest, context: Any) -> pb.VolumeResponse:
        return pb.VolumeResponse(volume=_volume(await self._desk.get(request.name)))

    async def Remove(self, request: pb.RemoveVolumeRequest, context: Any) -> pb.RemoveVolumeResponse:
        await self._desk.remove(request.name, force=request.force)
        return pb.RemoveVolumeResponse()

    async def Prune(self, request: pb.PruneVolumesRequest, context: Any) -> pb.PruneVolumesResponse:
        pruned = await self._desk.prune(every=request.all, labels=dict(request.labels))
        return pb.PruneVolumesResponse(names=pruned.names, reclaimed_bytes=pruned.reclaimed_bytes)


def _volume(volume: LocalVolume) -> pb.LocalVolume:
    return cast(pb.LocalVolume, to_proto(volume))
