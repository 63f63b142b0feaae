"""Snapshots: the layers of images and the writable layers of containers, kept by one storage driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import snapshots_pb2 as pb
from worker.containerd.api.snapshots_pb2_grpc import SnapshotsStub
from worker.containerd.mounts import from_messages
from worker.containerd.transport import SLOW_S, Transport, seconds
from worker.containerd.types import NOTHING, Mount, Snapshot, SnapshotKind, Usage

_KINDS: Final = {
    pb.VIEW: SnapshotKind.VIEW,
    pb.ACTIVE: SnapshotKind.ACTIVE,
    pb.COMMITTED: SnapshotKind.COMMITTED,
}


class Snapshots:
    """The snapshots of one namespace under one driver. What nothing refers to is collected by containerd."""

    def __init__(self, transport: Transport, driver: str) -> None:
        self.driver = driver
        self._transport = transport
        self._stub = SnapshotsStub(transport.channel)

    async def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make a writable snapshot on top of a committed one, or of nothing; return how to mount it."""
        request = pb.PrepareSnapshotRequest(snapshotter=self.driver, key=key, parent=parent, labels=labels)
        what = f"prepare snapshot {key}"
        return from_messages((await self._transport.call(self._stub.Prepare, request, what, SLOW_S)).mounts)

    async def view(self, key: str, parent: str = "", labels: Mapping[str, str] = NOTHING) -> tuple[Mount, ...]:
        """Make a read-only view of a committed snapshot; return how to mount it."""
        request = pb.ViewSnapshotRequest(snapshotter=self.driver, key=key, parent=parent, labels=labels)
        what = f"make a view of snapshot {parent}"
        return from_messages((await self._transport.call(self._stub.View, request, what, SLOW_S)).mounts)

    async def mounts(self, key: str) -> tuple[Mount, ...]:
        """Return how to mount a snapshot that is writable or a view."""
        request = pb.MountsRequest(snapshotter=self.driver, key=key)
        what = f"find the mounts of snapshot {key}"
        return from_messages((await self._transport.call(self._stub.Mounts, request, what)).mounts)

    async def commit(self, name: str, key: str, labels: Mapping[str, str] = NOTHING) -> None:
        """Turn the writable snapshot `key` into the committed one `name`. ALREADY_EXISTS if that is there."""
        request = pb.CommitSnapshotRequest(snapshotter=self.driver, name=name, key=key, labels=labels)
        await self._transport.call(self._stub.Commit, request, f"commit snapshot {key}", SLOW_S)

    async def remove(self, key: str) -> None:
        """Remove a snapshot. FAILED_PRECONDITION while others are built upon it."""
        request = pb.RemoveSnapshotRequest(snapshotter=self.driver, key=key)
        await self._transport.call(self._stub.Remove, request, f"remove snapshot {key}", SLOW_S)

    async def stat(self, key: str) -> Snapshot:
        """Return what is known of a snapshot, or raise NOT_FOUND."""
        request = pb.StatSnapshotRequest(snapshotter=self.driver, key=key)
        return _snapshot((await self._transport.call(self._stub.Stat, request, f"look up snapshot {key}")).info)

    async def exists(self, key: str) -> bool:
        """Return whether a snapshot is there."""
        try:
            await self.stat(key)
        except SwarmError as error:
            if error.code is Code.NOT_FOUND:
                return False
            raise
        return True

    async def list(self, *filters: str) -> tuple[Snapshot, ...]:
        """Return the snapshots that any of the filters fits, or all."""
        request = pb.ListSnapshotsRequest(snapshotter=self.driver, filters=filters)
        answers = self._transport.stream(self._stub.List, request, "list snapshots")
        return tuple([_snapshot(info) async for answer in answers for info in answer.info])

    async def usage(self, key: str) -> Usage:
        """Return what a snapshot takes on disk; of a writable one it is counted now."""
        request = pb.UsageRequest(snapshotter=self.driver, key=key)
        answer = await self._transport.call(self._stub.Usage, request, f"measure snapshot {key}", SLOW_S)
        return Usage(answer.size, answer.inodes)

    async def set_labels(self, key: str, labels: Mapping[str, str]) -> Snapshot:
        """Set these labels of a snapshot and leave the others; an empty value removes one."""
        request = pb.UpdateSnapshotRequest(
            snapshotter=self.driver,
            info=pb.Info(name=key, labels=labels),
            update_mask=FieldMask(paths=[f"labels.{name}" for name in labels]),
        )
        what = f"change the labels of snapshot {key}"
        return _snapshot((await self._transport.call(self._stub.Update, request, what)).info)

    async def cleanup(self) -> None:
        """Have the driver give back the space of removed snapshots now, where it does that later."""
        request = pb.CleanupRequest(snapshotter=self.driver)
        try:
            await self._transport.call(self._stub.Cleanup, request, "clean up removed snapshots", SLOW_S)
        except SwarmError as error:
            if error.code is not Code.NOT_SUPPORTED:
                raise


def _snapshot(message: pb.Info) -> Snapshot:
    return Snapshot(
        message.name,
        message.parent,
        _KINDS.get(message.kind, SnapshotKind.UNKNOWN),
        seconds(message.created_at),
        seconds(message.updated_at),
        dict(message.labels),
    )
