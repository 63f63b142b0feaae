"""The use cases of the control API, each through the servicer that translates it, on a store of straw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import pytest

from manager.api.consensus import ConsensusReport
from manager.api.servicer import ControlServicer
from manager.store.store import Store
from manager.store.tables import CLUSTERS
from swarmpy.api.v1 import control_pb2 as pb
from swarmpy.api.v1 import types_pb2 as types
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import Cluster, JoinTokens, RootCA
from swarmpy.model.node import Node
from swarmpy.model.service import RegistryAuth, Service
from swarmpy.model.spec import ContainerSpec, EndpointSpec, PortSpec, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Runtime
from swarmpy.wire.convert import fill, from_proto, to_proto
from tests.support.clock import FakeClock
from tests.support.cluster import random_source
from tests.support.store import put, running_store


@dataclass
class Api:
    """A servicer, called as gRPC calls it, with a fresh request id for each change."""

    store: Store
    servicer: ControlServicer
    calls: int = 0

    async def create(
        self, spec: ServiceSpec, request_id: str | None = None, *, auth: RegistryAuth | None = None
    ) -> Service:
        message = cast(types.ServiceSpec, to_proto(spec))
        request = pb.CreateServiceRequest(request_id=self._id(request_id), spec=message)
        if auth is not None:
            fill(request.auth, auth)
        return from_proto((await self.servicer.CreateService(request, None)).service, Service)

    async def update(
        self, service: Service, spec: ServiceSpec, *, version: int | None = None, auth: RegistryAuth | None = None
    ) -> Service:
        request = pb.UpdateServiceRequest(
            request_id=self._id(None),
            service_id=service.id,
            version=service.version if version is None else version,
            spec=cast(types.ServiceSpec, to_proto(spec)),
        )
        if auth is not None:
            fill(request.auth, auth)
        return from_proto((await self.servicer.UpdateService(request, None)).service, Service)

    async def roll_back(self, service: Service) -> Service:
        request = pb.UpdateServiceRequest(
            request_id=self._id(None), service_id=service.id, version=service.version, rollback=True
        )
        return from_proto((await self.servicer.UpdateService(request, None)).service, Service)

    async def remove(self, ref: str, request_id: str | None = None) -> str:
        request = pb.RemoveServiceRequest(request_id=self._id(request_id), ref=ref)
        return (await self.servicer.RemoveService(request, None)).service_id

    def _id(self, given: str | None) -> str:
        self.calls += 1
        return f"r{self.calls}" if given is None else given


def web(
    name: str = "web", *, replicas: int = 2, ports: tuple[PortSpec, ...] = (), command: str = "serve"
) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        task=TaskSpec(runtime=Runtime.PROCESS, container=ContainerSpec(command=(command,))),
        mode=ServiceMode(replicas=replicas),
        endpoint=EndpointSpec(ports=ports),
    )


JOIN_AT = "127.0.0.1:2377"


def why_needed(node: Node) -> str | None:
    """One manager cannot be done without."""
    return f"{node.name} is the last manager" if node.name == "last" else None


def no_logs() -> Any:
    raise AssertionError("nobody asks for logs here")


@asynccontextmanager
async def api() -> AsyncIterator[Api]:
    cluster = Cluster(
        id="c",
        root_ca=RootCA(cert_pem="cert", key_pem="key", digest="0" * 50),
        join_tokens=JoinTokens(worker="w", manager="m"),
    )
    async with running_store() as store:
        await put(store, CLUSTERS, cluster)
        report = ConsensusReport(store, "m1", no_logs)
        yield Api(store, ControlServicer(store, FakeClock(), random_source(), no_logs, JOIN_AT, report, why_needed))


async def refused(call: Awaitable[object]) -> SwarmError:
    with pytest.raises(SwarmError) as raised:
        await call
    return raised.value
