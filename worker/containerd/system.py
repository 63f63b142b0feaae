"""containerd itself: its namespaces and plugins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.containerd.api import introspection_pb2, namespaces_pb2
from worker.containerd.api.introspection_pb2_grpc import IntrospectionStub
from worker.containerd.api.namespaces_pb2_grpc import NamespacesStub
from worker.containerd.transport import Transport
from worker.containerd.types import NOTHING, Plugin

_SNAPSHOTTER: Final = "io.containerd.snapshotter.v1"


class Namespaces:
    """All namespaces of a containerd."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = NamespacesStub(transport.channel)

    async def create(self, name: str, labels: Mapping[str, str] = NOTHING) -> None:
        """Make a namespace. ALREADY_EXISTS if it is there."""
        request = namespaces_pb2.CreateNamespaceRequest(namespace=namespaces_pb2.Namespace(name=name, labels=labels))
        await self._transport.call(self._stub.Create, request, f"create namespace {name}")

    async def ensure(self, name: str) -> None:
        """Make a namespace, unless it is there."""
        try:
            await self.create(name)
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise

    async def list(self) -> tuple[str, ...]:
        """Return the names of all namespaces."""
        request = namespaces_pb2.ListNamespacesRequest()
        answer = await self._transport.call(self._stub.List, request, "list namespaces")
        return tuple(namespace.name for namespace in answer.namespaces)

    async def delete(self, name: str) -> None:
        """Delete a namespace. FAILED_PRECONDITION while there is anything in it."""
        request = namespaces_pb2.DeleteNamespaceRequest(name=name)
        await self._transport.call(self._stub.Delete, request, f"delete namespace {name}")


class Introspection:
    """What a containerd consists of."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = IntrospectionStub(transport.channel)

    async def plugins(self, *filters: str) -> tuple[Plugin, ...]:
        """Return the plugins that any of the filters fits, or all."""
        request = introspection_pb2.PluginsRequest(filters=filters)
        answer = await self._transport.call(self._stub.Plugins, request, "list the plugins of containerd")
        return tuple(_plugin(message) for message in answer.plugins)

    async def snapshotters(self) -> Mapping[str, str]:
        """Return the storage drivers, each with why it does not work; empty if it does."""
        return {plugin.id: plugin.error for plugin in await self.plugins(f"type=={_SNAPSHOTTER}")}


def _plugin(message: introspection_pb2.Plugin) -> Plugin:
    error = ""
    if message.HasField("init_err"):
        error = message.init_err.message.strip() or "it did not start"
    return Plugin(message.type, message.id, error, dict(message.exports), tuple(message.capabilities))
