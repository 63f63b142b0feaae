"""Calls about services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Final

import msgspec

from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2
from swarmpy.client.call import PAGE_SIZE, Caller
from swarmpy.client.results import ListedService, ServiceStatus, Written
from swarmpy.client.selection import ServiceFilter
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.model.service import RegistryAuth, Service
from swarmpy.model.spec import ServiceSpec
from swarmpy.model.states import ModeKind, word
from swarmpy.wire.convert import fill, from_proto

if TYPE_CHECKING:
    from swarmpy.api.v1.control_pb2_grpc import ControlAsyncStub  # a name of the stubs only

EVERY_SERVICE: Final = ServiceFilter()

_MODIFY_TRIES: Final = 4


class Services:
    """`client.services`. A `ref` is a full id, a name, or a unique prefix of an id, in this order."""

    def __init__(self, stub: ControlAsyncStub, call: Caller) -> None:
        self._stub = stub
        self._call = call

    async def create(
        self, spec: ServiceSpec, *, auth: RegistryAuth | None = None, timeout_s: float | None = None
    ) -> Written:
        """Create a service.

        Args:
            auth: whom its tasks pull the image as.

        Raises:
            SwarmError: ALREADY_EXISTS, or INVALID_ARGUMENT with every fault of the spec.
        """
        request = pb.CreateServiceRequest(request_id=self._call.request_id())
        fill(request.spec, spec)
        if auth is not None:
            fill(request.auth, auth)
        answer = await self._call(self._stub.CreateService, request, timeout_s)
        return Written(service=from_proto(answer.service, Service), warnings=tuple(answer.warnings))

    async def update(
        self,
        service: Service,
        spec: ServiceSpec,
        *,
        auth: RegistryAuth | None = None,
        timeout_s: float | None = None,
    ) -> Written:
        """Replace the spec of `service`, as it was read.

        Args:
            auth: whom its tasks pull the image as; None keeps what was given before.

        Raises:
            SwarmError: OUT_OF_SEQUENCE if the service changed since it was read.
        """
        request = pb.UpdateServiceRequest(
            request_id=self._call.request_id(), service_id=service.id, version=service.version
        )
        fill(request.spec, spec)
        if auth is not None:
            fill(request.auth, auth)
        return await self._update(request, timeout_s)

    async def rollback(self, service: Service, *, timeout_s: float | None = None) -> Written:
        """Put the spec before the last update back."""
        request = pb.UpdateServiceRequest(
            request_id=self._call.request_id(), service_id=service.id, version=service.version, rollback=True
        )
        return await self._update(request, timeout_s)

    async def _update(self, request: pb.UpdateServiceRequest, timeout_s: float | None) -> Written:
        answer = await self._call(self._stub.UpdateService, request, timeout_s)
        return Written(service=from_proto(answer.service, Service), warnings=tuple(answer.warnings))

    async def modify(
        self, ref: str, change: Callable[[ServiceSpec], ServiceSpec], *, timeout_s: float | None = None
    ) -> Written:
        """Read, change and write a service's spec, again if somebody else wrote in between.

        Only for changes that are right whatever the spec holds otherwise, such as a number of replicas.
        """
        for remaining in reversed(range(_MODIFY_TRIES)):
            listed = await self.get(ref, timeout_s=timeout_s)
            try:
                return await self.update(listed.service, change(listed.service.spec), timeout_s=timeout_s)
            except SwarmError as error:
                if error.code is not Code.OUT_OF_SEQUENCE or remaining == 0:
                    raise
        raise AssertionError("the last try returns or raises")

    async def scale(self, ref: str, replicas: int, *, timeout_s: float | None = None) -> Written:
        """Set the number of replicas (>= 0) of a replicated service."""

        def scaled(spec: ServiceSpec) -> ServiceSpec:
            if spec.mode.kind is not ModeKind.REPLICATED:
                raise precondition(f"service {spec.name} is {word(spec.mode.kind)}, and only replicated ones scale")
            mode = msgspec.structs.replace(spec.mode, replicas=replicas)
            return msgspec.structs.replace(spec, mode=mode)

        return await self.modify(ref, scaled, timeout_s=timeout_s)

    async def get(self, ref: str, *, timeout_s: float | None = None) -> ListedService:
        """Return a service and how many of its tasks run.

        Raises:
            SwarmError: NOT_FOUND, or INVALID_ARGUMENT for a prefix that several ids share.
        """
        answer = await self._call(self._stub.GetService, pb.GetServiceRequest(ref=ref), timeout_s)
        return ListedService(service=from_proto(answer.service, Service), status=_status(answer.status))

    async def list(
        self, selection: ServiceFilter = EVERY_SERVICE, *, timeout_s: float | None = None
    ) -> list[ListedService]:
        """Return the selected services in order of id."""
        return [listed async for listed in self.iterate(selection, timeout_s=timeout_s)]

    async def iterate(
        self, selection: ServiceFilter = EVERY_SERVICE, *, timeout_s: float | None = None
    ) -> AsyncIterator[ListedService]:
        """Yield the selected services in order of id, a page at a time; the deadline is each page's."""
        request = pb.ListServicesRequest(
            filter=pb.ServiceFilter(
                ids=selection.ids,
                names=selection.names,
                labels=selection.labels,
                modes=[types_pb2.ModeKind.ValueType(mode) for mode in selection.modes],
            ),
            page=pb.Page(limit=PAGE_SIZE),
        )
        while True:
            answer = await self._call(self._stub.ListServices, request, timeout_s)
            for listed in answer.services:
                yield ListedService(service=from_proto(listed.service, Service), status=_status(listed.status))
            if not answer.next_page:
                return
            request.page.token = answer.next_page

    async def remove(self, ref: str, *, timeout_s: float | None = None) -> str:
        """Remove a service and return its id; its tasks stop afterwards."""
        request = pb.RemoveServiceRequest(request_id=self._call.request_id(), ref=ref)
        return (await self._call(self._stub.RemoveService, request, timeout_s)).service_id


def _status(message: pb.ServiceStatus) -> ServiceStatus:
    return ServiceStatus(desired=message.desired, running=message.running, ready=message.ready)
