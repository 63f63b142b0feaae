"""What goes by VIP is not lost in updates, drains and scaling, nor when a process of a node is killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final

import dnslib
import msgspec
import pytest
import pytest_asyncio

from scripts.cluster import Node
from swarmpy.model.spec import NetworkAttachment, UpdateConfig
from swarmpy.model.states import Availability, NodeState, UpdateOrder
from swarmpy.model.task import Task
from tests.support.container_node import lacking
from tests.support.load import Load
from tests.support.overlay_swarm import SERVE, OverlaySwarm, address, counts, service
from tests.support.swarm import TARGET, whoami, with_env
from worker.network.link.namespace import open_in

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
    pytest.mark.asyncio(loop_scope="module"),
]

REPLICAS: Final = 4
LEAST_REQUESTS: Final = 30
SOON_S: Final = 0.5
UDP_PORT: Final = 9999
GONE_WITHIN_S: Final = 20.0


@dataclass(frozen=True)
class Lab:
    """Servers (processes) on a network over three hosts, and a client (a container) on each host."""

    swarm: OverlaySwarm
    network: str
    vip: str
    clients: dict[str, Task]
    before: list[dict[str, int]]

    def client(self, number: int) -> Task:
        """Return the client on a node, by the node's number from 1."""
        return self.clients[self.swarm.nodes[number - 1].name]

    def asks(self, number: int = 1) -> str:
        return self.swarm.get(self.client(number), self.vip, port=TARGET, timeout_s=SOON_S)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab() -> AsyncIterator[Lab]:
    async with OverlaySwarm(3) as swarm:
        before = [counts(node) for node in swarm.nodes]
        network = await swarm.network_of("front")
        spec = whoami("web", 0, replicas=REPLICAS)
        joined = msgspec.structs.replace(spec.task, networks=(NetworkAttachment(target=network),))
        await swarm.create(msgspec.structs.replace(spec, task=joined))
        await swarm.create(service("client", network, replicas=3))
        await swarm.running("web", REPLICAS)
        rows = await swarm.client.nodes.list()
        clients = {swarm.node_of(task, rows).name: task for task in await swarm.running("client", 3)}
        yield Lab(swarm, network, await swarm.vip("web", network), clients, before)


@contextlib.contextmanager
def load(lab: Lab) -> Iterator[None]:
    """Ask by VIP from the clients of two hosts, a connection a request; nothing may fail."""
    loads = []
    with contextlib.ExitStack() as stack:
        for number in (1, 3):
            enter = ("nsenter", f"--net={lab.swarm.pin(lab.client(number))}")
            loads.append(stack.enter_context(Load("new", [f"{lab.vip}:{TARGET}"], enter=enter)))
        yield
    for finished in loads:
        outcome = finished.outcome
        assert not outcome.failed, f"{outcome.failed} of {outcome.requests} failed: {outcome.failures}"
        assert outcome.requests >= LEAST_REQUESTS


@pytest.mark.parametrize("order", UpdateOrder, ids=lambda order: order.name.lower())
async def test_a_rolling_update_fails_no_request(lab: Lab, order: UpdateOrder) -> None:
    found = (await lab.swarm.client.services.get("web")).service
    update = UpdateConfig(parallelism=2, monitor_s=0.2, order=order)
    spec = msgspec.structs.replace(with_env(found.spec, f"VERSION=v{order}"), update=update)
    with load(lab):
        await lab.swarm.client.services.update(found, spec)
        await lab.swarm.updated("web")
        await lab.swarm.running("web", REPLICAS)


async def test_scaling_and_draining_fail_no_request(lab: Lab) -> None:
    node = lab.swarm.nodes[1]
    row = await lab.swarm.client.nodes.get(node.name)

    async def empty() -> bool:
        return not [t for t in await lab.swarm.tasks("web") if t.node_id == row.id and not t.state.is_stopped]

    with load(lab):
        for replicas in (6, 1, REPLICAS):
            await lab.swarm.client.services.scale("web", replicas)
            await lab.swarm.running("web", replicas)
        await lab.swarm.set_availability(node.name, Availability.DRAIN)
        await lab.swarm.until(empty, what="the drained node has no server")
        await lab.swarm.set_availability(node.name, Availability.ACTIVE)
        await lab.swarm.running("web", REPLICAS)
    rows = await lab.swarm.client.nodes.list()
    clients = await lab.swarm.running("client", 3)
    lab.clients.clear()  # one of them has moved
    lab.clients.update({lab.swarm.node_of(task, rows).name: task for task in clients})
    await spread(lab)


async def spread(lab: Lab) -> None:
    """Have a client on every node again."""
    if len(lab.clients) == len(lab.swarm.nodes):
        return
    await lab.swarm.client.services.scale("client", 0)
    await lab.swarm.running("client", 0)
    await lab.swarm.client.services.scale("client", 3)
    rows = await lab.swarm.client.nodes.list()
    lab.clients.update({lab.swarm.node_of(t, rows).name: t for t in await lab.swarm.running("client", 3)})
    assert len(lab.clients) == len(lab.swarm.nodes)


async def test_datagrams_of_a_flow_go_on_to_another_task(lab: Lab) -> None:
    """A flow stays with the task that it began with, until that is withdrawn: by then it never pauses."""
    tasks = await lab.swarm.running("web", REPLICAS)
    servers = {task.id: opened(lab, task, (address(task, lab.network), UDP_PORT)) for task in tasks}
    with contextlib.ExitStack() as stack:
        for sock in servers.values():
            stack.enter_context(sock)
        client = stack.enter_context(opened(lab, lab.client(1)))

        async def reached() -> set[str]:
            client.sendto(b"x", (lab.vip, UDP_PORT))
            return {task_id for task_id, sock in servers.items() if has_heard(sock)}

        (first,) = await lab.swarm.until(reached, what="a datagram arrives")
        for _ in range(5):
            assert await lab.swarm.until(reached, what="further ones arrive") == {first}
        servers.pop(first).close()
        os.kill(next(task.status.pid for task in tasks if task.id == first), signal.SIGKILL)
        assert await lab.swarm.until(reached, what="they arrive elsewhere")
    await lab.swarm.running("web", REPLICAS)


def opened(lab: Lab, task: Task, bound: tuple[str, int] | None = None) -> socket.socket:
    """Return a socket for datagrams in a task's namespace, at an address if one is given."""

    def make() -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if bound is not None:
            sock.bind(bound)
        return sock

    return open_in(lab.swarm.pin(task), make)


def has_heard(sock: socket.socket) -> bool:
    """Whether anything has arrived, which is then taken."""
    heard = False
    while select.select([sock], [], [], 0.0 if heard else 0.02)[0]:
        sock.recv(100)
        heard = True
    return heard


@pytest.mark.parametrize("process", ["worker", "dataplane", "containerd", "swarmpyd"])
async def test_what_is_killed_comes_back_and_the_network_has_not_noticed(lab: Lab, process: str) -> None:
    node = lab.swarm.nodes[2]
    client = lab.client(3)
    replicas = len(await lab.swarm.live("web"))
    with load(lab):
        await asyncio.to_thread(node.kill, process)
        if process == "swarmpyd":
            node.start()
        await node.ready()
        # What changes now reaches the tables of the tasks that were there before.
        await lab.swarm.client.services.scale("web", replicas + 1)
        tasks = await lab.swarm.running("web", replicas + 1)
        await lab.swarm.until(lambda: is_served(lab, client, tasks), what="the killed node's client asks all servers")
    (same,) = [task for task in await lab.swarm.live("client") if task.node_id == client.node_id]
    assert (same.id, same.status.pid) == (client.id, client.status.pid)
    await lab.swarm.until(lambda: knows(lab, client), what="names are answered")
    await lab.swarm.client.services.scale("web", replicas)
    await lab.swarm.running("web", replicas)


async def is_served(lab: Lab, client: Task, tasks: list[Task]) -> bool:
    """Whether a client reaches exactly these servers, by VIP and each by its address."""
    reached = {lab.swarm.get(client, address(task, lab.network), port=TARGET, timeout_s=SOON_S) for task in tasks}
    answers = {lab.swarm.get(client, lab.vip, port=TARGET, timeout_s=SOON_S) for _ in range(2 * len(tasks))}
    return "" not in answers and answers == reached and len(answers) == len(tasks)


async def knows(lab: Lab, client: Task) -> bool:
    try:
        return lab.swarm.ask(client, "web", timeout_s=SOON_S) == (dnslib.RCODE.NOERROR, {lab.vip})
    except TimeoutError:
        return False


async def test_a_host_that_is_cut_off_is_left_out_and_comes_back(lab: Lab) -> None:
    swarm = lab.swarm
    swarm.hosts.isolate(3)
    try:
        await swarm.node_is("node3", NodeState.DOWN)
        row = await swarm.client.nodes.get("node3")

        async def elsewhere() -> list[Task] | None:
            live = [task for task in await swarm.live("web") if task.node_id != row.id]
            return live if len(live) == REPLICAS else None

        tasks = await swarm.until(elsewhere, what="the servers run elsewhere")
        await swarm.until(lambda: is_served(lab, lab.client(1), tasks), what="the others are asked alone")
    finally:
        swarm.hosts.restore_all()
    await swarm.node_is("node3", NodeState.READY)
    tasks = await swarm.running("web", REPLICAS)
    await swarm.running("client", 3)
    await swarm.until(lambda: is_served(lab, lab.client(1), tasks), what="all are asked again")
    # The host that was away has a client again, which reaches everybody.
    await spread_anew(lab)
    await swarm.until(lambda: is_served(lab, lab.client(3), tasks), what="the host that was cut off asks everybody")


async def spread_anew(lab: Lab) -> None:
    lab.clients.clear()
    await spread(lab)


async def test_at_the_end_nothing_is_left(lab: Lab) -> None:
    """After everything that was killed and cut here."""
    node: Node = lab.swarm.nodes[2]
    await lab.swarm.create(service("late", lab.network, command=SERVE, replicas=6))
    await lab.swarm.running("late", 6)
    removed = [asyncio.ensure_future(lab.swarm.remove(name)) for name in ("late", "web", "client")]
    await asyncio.to_thread(node.kill, "worker")  # while it removes them
    await asyncio.gather(*removed)
    began_s = time.monotonic()
    while not await lab.swarm.as_before(lab.before):
        assert time.monotonic() - began_s < GONE_WITHIN_S, ([counts(node) for node in lab.swarm.nodes], lab.before)
        await asyncio.sleep(0.1)
