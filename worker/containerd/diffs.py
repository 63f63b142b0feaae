"""From layers to file trees and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from worker.containerd.api import diff_pb2 as pb
from worker.containerd.api.diff_pb2_grpc import DiffStub
from worker.containerd.mounts import from_descriptor, to_descriptor, to_messages
from worker.containerd.transport import Transport
from worker.containerd.types import LAYER_GZIP, NOTHING, Descriptor, Mount

_LAYER_S: Final = 1800.0
"""The largest layers on the slowest disks."""


class Diffs:
    """Applies and makes layers."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = DiffStub(transport.channel)

    async def apply(self, layer: Descriptor, mounts: Sequence[Mount]) -> Descriptor:
        """Unpack a layer that is in the content store; return what it is uncompressed: its digest is the diff id."""
        request = pb.ApplyRequest(diff=to_descriptor(layer), mounts=to_messages(mounts))
        answer = await self._transport.call(self._stub.Apply, request, f"unpack layer {layer.digest}", _LAYER_S)
        return from_descriptor(answer.applied)

    async def compare(
        self,
        left: Sequence[Mount],
        right: Sequence[Mount],
        *,
        media_type: str = LAYER_GZIP,
        ref: str = "",
        labels: Mapping[str, str] = NOTHING,
    ) -> Descriptor:
        """Make a layer of what `right` has changed of `left`, in the content store."""
        request = pb.DiffRequest(
            left=to_messages(left), right=to_messages(right), media_type=media_type, ref=ref, labels=labels
        )
        answer = await self._transport.call(self._stub.Diff, request, "make a layer", _LAYER_S)
        return from_descriptor(answer.diff)
