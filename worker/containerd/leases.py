"""Leases: what is being made is not collected before something refers to it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import leases_pb2 as pb
from worker.containerd.api.leases_pb2_grpc import LeasesStub
from worker.containerd.transport import SLOW_S, Transport, seconds
from worker.containerd.types import NOTHING, Lease, LeaseResource

_EXPIRES: Final = "containerd.io/gc.expire"


class Leases:
    """The leases of one namespace."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = LeasesStub(transport.channel)

    async def create(
        self, lease_id: str, labels: Mapping[str, str] = NOTHING, *, expires_at_s: float | None = None
    ) -> Lease:
        """Make a lease. ALREADY_EXISTS if the id is taken.

        Args:
            expires_at_s: wall seconds at which containerd drops it by itself; None for never.
        """
        given = dict(labels)
        if expires_at_s is not None:
            given[_EXPIRES] = datetime.fromtimestamp(expires_at_s, UTC).isoformat(timespec="seconds")
        request = pb.CreateRequest(id=lease_id, labels=given)
        return _lease((await self._transport.call(self._stub.Create, request, f"create lease {lease_id}")).lease)

    async def ensure(self, lease_id: str, labels: Mapping[str, str] = NOTHING) -> Lease:
        """Make a lease, unless it is there."""
        try:
            return await self.create(lease_id, labels)
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
        return Lease(lease_id, labels)

    async def list(self, *filters: str) -> tuple[Lease, ...]:
        """Return the leases that any of the filters fits, or all."""
        answer = await self._transport.call(self._stub.List, pb.ListRequest(filters=filters), "list leases")
        return tuple(_lease(message) for message in answer.leases)

    async def delete(self, lease_id: str, *, sync: bool = False) -> None:
        """Delete a lease; with `sync`, what it alone has kept is gone when this returns."""
        request = pb.DeleteRequest(id=lease_id, sync=sync)
        await self._transport.call(self._stub.Delete, request, f"delete lease {lease_id}", 10 * SLOW_S)

    async def add(self, lease_id: str, resource: LeaseResource) -> None:
        """Have a lease keep something."""
        request = pb.AddResourceRequest(id=lease_id, resource=_resource(resource))
        what = f"have lease {lease_id} keep {resource.id}"
        await self._transport.call(self._stub.AddResource, request, what)

    async def remove(self, lease_id: str, resource: LeaseResource) -> None:
        """Have a lease keep something no longer."""
        request = pb.DeleteResourceRequest(id=lease_id, resource=_resource(resource))
        what = f"have lease {lease_id} let go of {resource.id}"
        await self._transport.call(self._stub.DeleteResource, request, what)

    async def resources(self, lease_id: str) -> tuple[LeaseResource, ...]:
        """Return what a lease keeps."""
        request = pb.ListResourcesRequest(id=lease_id)
        what = f"list what lease {lease_id} keeps"
        answer = await self._transport.call(self._stub.ListResources, request, what)
        return tuple(LeaseResource(message.type, message.id) for message in answer.resources)


def _resource(resource: LeaseResource) -> pb.Resource:
    return pb.Resource(id=resource.id, type=resource.type)


def _lease(message: pb.Lease) -> Lease:
    return Lease(message.id, dict(message.labels), seconds(message.created_at))
