"""Fakes of the data plane's neighbours, and short ways to write endpoints down."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import (
    AppProtocol,
    Backend,
    HostPort,
    PublishMode,
    ServiceEndpoint,
    ServicePort,
    Transport,
)
from worker.dataplane.proxy.api import CounterRow, ListenKey
from worker.dataplane.sockets import Port, bind_socket


def service(
    name: str,
    *ports: ServicePort,
    service_id: str = "",
    vip: int = 0,
    stack: str = "",
    dnsrr: bool = False,
) -> ServiceEndpoint:
    """Return a service; its id is its name unless given."""
    return ServiceEndpoint(
        service_id=service_id or name, name=name, vip_index=vip, ports=ports, stack=stack, dnsrr=dnsrr
    )


def port(text: str) -> ServicePort:
    """Return the port that `[name=][published:]target[/udp][@host][+http]` says."""
    text, _, http = text.partition("+")
    text, _, mode = text.partition("@")
    text, _, transport = text.partition("/")
    name, _, numbers = text.rpartition("=")
    published, _, target = numbers.rpartition(":")
    return ServicePort(
        target=int(target),
        published=int(published or 0),
        transport=Transport[transport.upper() or "TCP"],
        mode=PublishMode[mode.upper() or "INGRESS"],
        app_protocol=AppProtocol[http.upper() or "TCP"],
        name=name,
    )


def task(task_id: str, service_id: str, *ports: tuple[int, int], slot: int = 1, address: str = "127.0.0.2") -> Backend:
    """Return a backend on node `n-<address>`; `ports` are (target, host port)."""
    return Backend(
        task_id=task_id,
        service_id=service_id,
        slot=slot,
        node_id=f"n-{address}",
        address=address,
        ports=tuple(HostPort(target=target, port=number) for target, number in ports),
    )


T = TypeVar("T")


class FakeBalancer:
    """Remembers what it was told, in order, and closes the sockets that it is given."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.listeners: dict[ListenKey, tuple[socket.socket, str, ServicePort]] = {}
        self.backends: dict[str, tuple[Backend, ...]] = {}
        self.busy_tasks: frozenset[str] = frozenset()
        self.closed = False

    def apply(
        self,
        services: Mapping[str, ServiceEndpoint],
        backends: Mapping[str, tuple[Backend, ...]],
        withdrawn: Collection[str],
    ) -> None:
        assert services.keys() == backends.keys()
        self.calls.append(f"apply {sorted(services)} withdrawn {sorted(withdrawn)}")
        self.backends.update(backends)

    def remove_service(self, service_id: str) -> None:
        self.calls.append(f"remove {service_id}")
        self.backends.pop(service_id, None)

    def busy(self) -> frozenset[str]:
        return self.busy_tasks

    async def listen(self, key: ListenKey, sock: socket.socket, service_id: str, port: ServicePort) -> None:
        assert key not in self.listeners, f"{key} is listened on already"
        self.calls.append(f"listen {key.address}:{key.port} {service_id} {port.target}")
        self.listeners[key] = (sock, service_id, port)

    async def unlisten(self, key: ListenKey) -> None:
        self.calls.append(f"unlisten {key.address}:{key.port}")
        self.listeners.pop(key)[0].close()

    def counters(self) -> list[CounterRow]:
        return [CounterRow(service_id=s, port=0, connections=1) for s in sorted(self.backends)]

    async def drain(self) -> None:
        self.calls.append("drain")

    async def close(self) -> None:
        self.calls.append("close")
        for key in tuple(self.listeners):
            await self.unlisten(key)
        self.closed = True


class FakeNamespaces:
    """Namespaces by path, each known by a number; whatever is opened in one is opened here."""

    def __init__(self) -> None:
        self.there: dict[Path, int] = {}
        self.entered: list[Path] = []
        self.refusing: SwarmError | None = None

    def identity(self, path: Path) -> int | None:
        return self.there.get(path)

    def open_in(self, path: Path, make: Callable[[], T]) -> T:
        self.entered.append(path)
        if self.refusing is not None:
            raise self.refusing
        if path not in self.there:
            raise SwarmError(Code.NOT_FOUND, f"no network namespace is pinned at {path}")
        return make()


class FakeSockets:
    """A provider that binds free ports of 127.0.0.1, whatever is asked, and fails where it is told to."""

    def __init__(self) -> None:
        self.failing: set[Port] = set()
        self.absent: set[str] = set()  # addresses that this machine does not have
        self.calls: list[str] = []
        self._held: dict[Port, socket.socket] = {}

    async def bind(self, port: Port) -> socket.socket:
        await asyncio.sleep(0)
        if port.address in self.absent:
            raise SwarmError(Code.UNAVAILABLE, f"cannot bind {port}: a test says that it is elsewhere")
        if port in self.failing:
            raise SwarmError(Code.ALREADY_EXISTS, f"cannot bind {port}: a test says so")
        self.calls.append(f"bind {port.address}:{port.port}/{port.transport}")
        if port not in self._held:
            self._held[port] = bind_socket(Port(port.transport, "127.0.0.1", 0))
        return self._held[port].dup()

    async def unbind(self, port: Port) -> None:
        if port in self.failing:
            raise SwarmError(Code.UNAVAILABLE, f"cannot unbind {port}: a test says so")
        self.calls.append(f"unbind {port.address}:{port.port}/{port.transport}")
        held = self._held.pop(port, None)
        if held is not None:
            held.close()

    async def watch(self) -> None:
        return

    async def keep(self) -> None:
        self.calls.append("keep")

    def close(self) -> None:
        while self._held:
            self._held.popitem()[1].close()
