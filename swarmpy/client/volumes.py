"""Calls about the volumes of this node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from swarmpy.api.v1 import volumes_pb2 as pb
from swarmpy.client.call import Caller
from swarmpy.model.volume import LocalVolume
from swarmpy.wire.convert import from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.volumes_pb2_grpc import VolumesAsyncStub  # a name of the stubs only

PRUNE_TIMEOUT_S: Final = 600.0


class Volumes:
    """`client.volumes`."""

    def __init__(self, stub: VolumesAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def create(self, name: str = "", labels: Mapping[str, str] | None = None) -> LocalVolume:
        """Make a volume, under a name of the node's own if none is given; return one that is there as it is."""
        request = pb.CreateVolumeRequest(name=name, labels=dict(labels or {}))
        return from_proto((await self._call(self._stub.Create, request)).volume, LocalVolume)

    async def list(self) -> list[LocalVolume]:
        """Return all volumes by name."""
        answer = await self._call(self._stub.List, pb.ListVolumesRequest())
        return [from_proto(volume, LocalVolume) for volume in answer.volumes]

    async def get(self, name: str) -> LocalVolume:
        return from_proto((await self._call(self._stub.Get, pb.GetVolumeRequest(name=name))).volume, LocalVolume)

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Delete a volume that nothing uses; with `force`, one that is not there is no error."""
        await self._call(self._stub.Remove, pb.RemoveVolumeRequest(name=name, force=force), PRUNE_TIMEOUT_S)

    async def prune(
        self, *, every: bool = False, labels: Mapping[str, str] | None = None
    ) -> tuple[tuple[str, ...], int]:
        """Delete volumes that nothing uses, anonymous ones or `every` one; return their names, and the bytes freed."""
        request = pb.PruneVolumesRequest(all=every, labels=dict(labels or {}))
        answer = await self._call(self._stub.Prune, request, PRUNE_TIMEOUT_S)
        return tuple(answer.names), answer.reclaimed_bytes
