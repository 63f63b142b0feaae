"""A real cluster for tests: the cluster of `scripts.cluster`, and what tests ask of its services.

    async with Swarm(3) as swarm:
        await swarm.create(process("web", "sleep", "1000", replicas=3))
        tasks = await swarm.running("web", 3)

Leaving the block stops every node as an operator does, and fails if a process, cgroup or socket is left.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from scripts.cluster import ROOT, STOP_TASKS, Cluster, Network, Node, until
from swarmpy.client import ListedService, TaskFilter
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.endpoints import AppProtocol
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.spec import (
    ContainerSpec,
    EndpointSpec,
    Healthcheck,
    PortSpec,
    Resources,
    ServiceMode,
    ServiceSpec,
    TaskSpec,
    UpdateConfig,
)
from swarmpy.model.states import Availability, NodeState, Runtime, UpdateState
from swarmpy.model.task import Task

WHOAMI: Final = (sys.executable, str(ROOT / "examples" / "whoami.py"))
TARGET: Final = 8000  # a port that a VIP can have without root
DEADLINE_S: Final = 30.0
HEARTBEAT_S: Final = 1.0

T = TypeVar("T")


class Swarm(Cluster):
    """A cluster whose first node is the manager, with a quick heartbeat and what tests ask of services."""

    def __init__(
        self,
        size: int,
        *,
        spec: ClusterSpec | None = None,
        state_dirs: Mapping[str, Path] = MappingProxyType({}),
        wrap: Sequence[str] = (),
        network: Network | None = None,
        options: Sequence[str] = STOP_TASKS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        spec = spec or ClusterSpec(heartbeat_period_s=HEARTBEAT_S)
        super().__init__(
            workers=size - 1,
            spec=spec,
            state_dirs=state_dirs,
            wrap=wrap,
            network=network,
            options=options,
            environ=environ,
        )

    async def add(self, name: str) -> Node:
        """Start one more node, which is in no cluster yet."""
        node = self.new_node(name=name)
        node.start()
        await node.ready()
        return node

    def node_of(self, task: Task, nodes: Sequence[NodeRow]) -> Node:
        """Return the node that a task is on; `nodes` as the manager lists them."""
        name = next(node.name for node in nodes if node.id == task.node_id)
        return next(node for node in self.nodes if node.name == name)

    async def create(self, spec: ServiceSpec) -> str:
        """Create a service and return its id."""
        return (await self.client.services.create(spec)).service.id

    async def tasks(self, service: str) -> list[Task]:
        """Return all tasks of a service, stopped ones too."""
        listed = await self.client.services.get(service)
        return await self.client.tasks.list(TaskFilter(service_ids=(listed.service.id,)))

    async def live(self, service: str) -> list[Task]:
        """Return the tasks of a service that serve."""
        return [task for task in await self.tasks(service) if task.is_endpoint]

    async def running(self, service: str, replicas: int, *, deadline_s: float = DEADLINE_S) -> list[Task]:
        """Return the service's tasks once exactly `replicas` are to run, do, and are ready."""

        async def ask() -> list[Task] | None:
            tasks = await self.tasks(service)
            live = [task for task in tasks if task.is_endpoint]
            wanted = [task for task in tasks if task.is_wanted]
            return live if len(live) == len(wanted) == replicas else None

        if not replicas:
            await self.until(lambda: self._none_wanted(service), what=f"{service} runs no task")
            return []
        return await self.until(ask, what=f"{replicas} of {service} run", deadline_s=deadline_s)

    async def _none_wanted(self, service: str) -> bool:
        return not [task for task in await self.tasks(service) if not task.state.is_stopped]

    async def remove(self, service: str) -> None:
        """Remove a service and wait until nothing of it is left."""
        service_id = await self.client.services.remove(service)
        chosen = TaskFilter(service_ids=(service_id,))

        async def gone() -> bool:
            return not await self.client.tasks.list(chosen)

        await self.until(gone, what=f"the tasks of {service} are gone")

    async def updated(self, service: str, *, deadline_s: float = 60.0) -> ListedService:
        """Return the service once its update is complete."""

        async def ask() -> ListedService | None:
            listed = await self.client.services.get(service)
            state = listed.service.update_status.state
            assert state not in (UpdateState.PAUSED, UpdateState.ROLLBACK_STARTED), listed.service.update_status
            return listed if state is UpdateState.COMPLETED else None

        return await self.until(ask, what=f"the update of {service} is complete", deadline_s=deadline_s)

    async def node_is(self, name: str, state: NodeState) -> NodeRow:
        async def ask() -> NodeRow | None:
            node = await self.client.nodes.get(name)
            return node if node.state is state else None

        return await self.until(ask, what=f"{name} is {state.name}")

    async def set_availability(self, name: str, availability: Availability) -> None:
        node = await self.client.nodes.get(name)
        await self.client.nodes.update(node, msgspec.structs.replace(node.spec, availability=availability))

    async def until(self, ask: Callable[[], Awaitable[T | None]], *, what: str, deadline_s: float = DEADLINE_S) -> T:
        """Return the first true answer; fail with the cluster's state after a deadline."""
        try:
            return await until(ask, what=what, deadline_s=deadline_s)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{await self._picture()}") from error

    async def _picture(self) -> str:
        try:
            nodes = await self.client.nodes.list()
            tasks = await self.client.tasks.list()
        except SwarmError as error:
            return f"(the manager does not answer: {error})"
        names = {node.id: node.name for node in nodes}
        rows = [f"{n.name} {n.state.name} {n.spec.availability.name} {n.message}" for n in nodes]
        rows += [
            f"{t.service_id[:4]}.{t.slot} v{t.spec_version} on {names.get(t.node_id, t.node_id)} {t.state.name} wanted "
            f"{t.desired_state.name} ready={t.ready} {t.message} {t.error} {t.pending_reason} {t.not_ready_reason}"
            for t in sorted(tasks, key=lambda t: (t.service_id, t.slot, t.created_at))
        ]
        return "\n".join(rows)


def accepts(host: str, port: int) -> bool:
    """Tell whether somebody listens there: quicker than the machine's table, which may be long."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((host, port)) == 0


def process(
    name: str,
    *command: str,
    replicas: int = 1,
    ports: tuple[PortSpec, ...] = (),
    env: tuple[str, ...] = (),
    update: UpdateConfig | None = None,
    readiness: Healthcheck | None = None,
    limits: Resources | None = None,
) -> ServiceSpec:
    """Return the spec of a service of plain processes."""
    container = ContainerSpec(command=command, env=env, readiness=readiness)
    task = TaskSpec(runtime=Runtime.PROCESS, container=container, limits=limits or Resources())
    return ServiceSpec(
        name=name,
        task=task,
        mode=ServiceMode(replicas=replicas),
        update=update or UpdateConfig(),
        endpoint=EndpointSpec(ports=ports),
    )


def whoami(
    name: str, published: int, *, replicas: int, http: bool = False, update: UpdateConfig | None = None
) -> ServiceSpec:
    """Return the spec of the example server, ready once it answers, published on every node."""
    protocol = AppProtocol.HTTP if http else AppProtocol.TCP
    ready = Healthcheck(test=("HTTP", f":{TARGET}/healthz"), interval_s=0.2, timeout_s=5.0)
    port = PortSpec(target=TARGET, published=published, app_protocol=protocol)
    return process(name, *WHOAMI, replicas=replicas, ports=(port,), update=update, readiness=ready)


def with_env(spec: ServiceSpec, *env: str) -> ServiceSpec:
    """Return the spec with another environment, which makes another version of the service."""
    container = msgspec.structs.replace(spec.task.container, env=env)
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, container=container))


async def who_answers(host: str, port: int) -> dict[str, str]:
    """Ask a whoami server once, on a connection of its own, and return what it says of itself."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
    head, _, body = answer.decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 "), answer
    return dict(line.split(": ", 1) for line in body.splitlines())
