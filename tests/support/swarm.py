"""A real cluster for tests: nodes in processes of their own, on loopback addresses of their own.

    async with Swarm(3) as swarm:
        await swarm.create(process("web", "sleep", "1000", replicas=3))
        tasks = await swarm.running("web", 3)

Leaving the block stops every node as an operator does, and fails if a process, cgroup or socket is left.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from swarmpy.client import Client, ListedService, TaskFilter
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.endpoints import AppProtocol
from swarmpy.model.node import Node
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
from tests.support.swarm_node import SwarmNode

ROOT: Final = Path(__file__).resolve().parents[2]
WHOAMI: Final = (sys.executable, str(ROOT / "examples" / "whoami.py"))
TARGET: Final = 8000  # a port that a VIP can have without root
DEADLINE_S: Final = 30.0
LOOK_S: Final = 0.02
HEARTBEAT_S: Final = 1.0
_CLAIM_PORT: Final = 1

T = TypeVar("T")


class Block:
    """Three octets of loopback addresses that no other test of this machine has. `close()` gives them back."""

    def __init__(self) -> None:
        # Chance only keeps parallel runs from trying the same ones: the socket is what claims.
        rng = random.SystemRandom()
        while True:
            self.prefix = f"127.{rng.randint(2, 60)}.{rng.randint(1, 254)}"
            self._claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._claim.bind((f"{self.prefix}.254", 40000 + _CLAIM_PORT))
            except OSError:
                self._claim.close()
            else:
                return

    def address(self, number: int) -> str:
        return f"{self.prefix}.{number}"

    def close(self) -> None:
        self._claim.close()


class Swarm:
    """A cluster whose first node is the manager. The others are workers called node2, node3, ...

    Args:
        state: the manager's state directory, if it is to be in a certain place.
        wrap: a command that each swarmpyd is started by.
    """

    def __init__(
        self, size: int, *, spec: ClusterSpec | None = None, state: Path | None = None, wrap: Sequence[str] = ()
    ) -> None:
        self.block = Block()
        self.spec = spec or ClusterSpec(heartbeat_period_s=HEARTBEAT_S)
        self.nodes = [
            SwarmNode(f"node{n}", self.block.address(n), state=state if n == 1 else None, wrap=wrap)
            for n in range(1, size + 1)
        ]
        self.worker_token = ""

    @property
    def manager(self) -> SwarmNode:
        return self.nodes[0]

    @property
    def client(self) -> Client:
        return self.manager.client

    async def __aenter__(self) -> Self:
        try:
            for node in self.nodes:
                node.start()
            await self._form()
        except BaseException:
            await self._discard()
            raise
        return self

    async def _form(self) -> None:
        await answering(self.manager)
        self.worker_token = (await self.client.node.init(self.spec)).worker_token
        for node in self.nodes[1:]:
            await answering(node)
            await self.join(node)
        for node in self.nodes:
            await self.node_is(node.name, NodeState.READY)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for node in self.nodes:
                await node.close()
            # Together, as they share a machine: a manager that outlives a worker would move its tasks.
            await asyncio.gather(*(asyncio.to_thread(node.stop) for node in self.nodes))
            left = [f"{node.name}: {line}" for node in self.nodes for line in node.leftovers()]
        finally:
            await self._discard()
        assert not left, "\n".join(left)

    async def _discard(self) -> None:
        for node in self.nodes:
            await node.close()
            node.discard()
        self.block.close()

    async def join(self, node: SwarmNode) -> None:
        await node.client.node.join(f"{self.manager.addr}:2377", self.worker_token)

    async def add(self, name: str) -> SwarmNode:
        """Start one more node, which is in no cluster yet."""
        node = SwarmNode(name, self.block.address(len(self.nodes) + 1))
        self.nodes.append(node)
        node.start()
        await answering(node)
        return node

    def node_of(self, task: Task, nodes: Sequence[Node]) -> SwarmNode:
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

    async def node_is(self, name: str, state: NodeState) -> Node:
        async def ask() -> Node | None:
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
        except AssertionError as error:
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


async def answering(node: SwarmNode) -> None:
    """Return once the node's supervisor and worker answer."""

    async def ask() -> bool:
        assert node.daemon is not None
        assert node.daemon.poll() is None, node.log()
        try:
            await node.client.node.info(timeout_s=2.0)
            return bool(node.status()["pid"] == node.daemon.pid)
        except SwarmError:
            return False

    await until(ask, what=f"{node.name} answers", deadline_s=60.0)


async def until(ask: Callable[[], Awaitable[T | None]], *, what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first true answer; fail after a deadline."""
    end_s = time.monotonic() + deadline_s
    while not (answer := await ask()):
        assert time.monotonic() < end_s, f"did not come true in {deadline_s:g} s: {what}"
        await asyncio.sleep(LOOK_S)
    return answer


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
