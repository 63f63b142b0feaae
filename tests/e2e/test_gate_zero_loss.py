"""Updates, scaling and drained nodes cost no request.

Two services of the example server are under load all the while: on each node's published port, with a new connection
for every request, and over kept connections where the port is published with protocol=http. A service published as
plain TCP is asked with new connections only: there nobody but the server knows where a request ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import msgspec
import pytest
import pytest_asyncio

from scripts.cluster import Node
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.spec import UpdateConfig
from swarmpy.model.states import Availability, UpdateOrder
from tests.support.load import Load, Outcome
from tests.support.swarm import Swarm, who_answers, whoami, with_env

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("gate_zero_loss"),
]

REPLICAS = 4
PORTS = {"http": 8080, "plain": 8081}
KINDS = ("http new", "http keep", "plain new")
LEAST_REQUESTS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(3, spec=ClusterSpec(heartbeat_period_s=2.0)) as swarm:
        for name, port in PORTS.items():
            await swarm.create(whoami(name, port, replicas=REPLICAS, http=name == "http"))
        for name in PORTS:
            await swarm.running(name, REPLICAS)
        yield swarm


@contextlib.contextmanager
def load(swarm: Swarm, *kinds: str) -> Iterator[dict[str, Outcome]]:
    """Load both services; afterwards nothing may have failed. Yields what will hold the outcomes."""
    outcomes: dict[str, Outcome] = {}
    with contextlib.ExitStack() as stack:
        loads = {}
        for label in kinds or KINDS:
            service, mode = label.split()
            targets = [f"{node.address}:{PORTS[service]}" for node in swarm.nodes]
            loads[label] = stack.enter_context(Load(mode, targets))
        yield outcomes
    for label, finished in loads.items():
        outcomes[label] = finished.outcome
        print(label, finished.outcome)
    for label, outcome in outcomes.items():
        assert not outcome.failed, f"{label}: {outcome.failed} of {outcome.requests} failed: {outcome.failures}"
        assert outcome.requests >= LEAST_REQUESTS


async def roll(swarm: Swarm, name: str, update: UpdateConfig) -> str:
    """Have all tasks of a service replaced; return the version that the new ones answer with."""
    service = (await swarm.client.services.get(name)).service
    version = f"v{service.spec_version + 1}"
    spec = msgspec.structs.replace(with_env(service.spec, f"VERSION={version}"), update=update)
    await swarm.client.services.update(service, spec)
    return version


@pytest.mark.parametrize(
    "update",
    [
        UpdateConfig(parallelism=1, monitor_s=0.2),
        UpdateConfig(parallelism=2, monitor_s=0.2),
        UpdateConfig(parallelism=1, monitor_s=0.2, order=UpdateOrder.START_FIRST),
    ],
    ids=["stop-first-1", "stop-first-2", "start-first-1"],
)
async def test_a_rolling_update_fails_no_request(swarm: Swarm, update: UpdateConfig) -> None:
    with load(swarm) as outcomes:
        wanted = {name: await roll(swarm, name, update) for name in PORTS}
        for name in PORTS:
            await swarm.updated(name)
            await swarm.running(name, REPLICAS)
    for label, outcome in outcomes.items():
        assert wanted[label.split()[0]] in outcome.versions, label
        assert len(outcome.versions) == 2, label


async def test_scaling_fails_no_request(swarm: Swarm) -> None:
    with load(swarm):
        for replicas in (6, 2, 5, REPLICAS):
            for name in PORTS:
                await swarm.client.services.scale(name, replicas)
            for name in PORTS:
                await swarm.running(name, replicas)


async def test_draining_a_node_fails_no_request(swarm: Swarm) -> None:
    node = swarm.nodes[1]
    row = await swarm.client.nodes.get(node.name)
    with load(swarm):
        for _ in range(2):
            await swarm.set_availability(node.name, Availability.DRAIN)

            async def empty() -> bool:
                tasks = [task for name in PORTS for task in await swarm.tasks(name)]
                return not [t for t in tasks if t.node_id == row.id and not t.state.is_stopped]

            await swarm.until(empty, what="the drained node has no task")
            await swarm.set_availability(node.name, Availability.ACTIVE)
            for name in PORTS:
                await swarm.client.services.scale(name, REPLICAS + 2)
                await swarm.running(name, REPLICAS + 2)
                await swarm.client.services.scale(name, REPLICAS)
                await swarm.running(name, REPLICAS)


async def test_what_carries_no_connection_may_be_killed(swarm: Swarm) -> None:
    before = {task.id: task.pid for name in PORTS for task in await swarm.running(name, REPLICAS)}
    with load(swarm):
        for node in swarm.nodes:
            await replaced(swarm, node, "worker", node.kill)
            await replaced(swarm, node, "taskhost", node.kill)
            node.kill("swarmpyd")
            node.start()
            await node.ready()
        await replaced(swarm, swarm.manager, "manager", swarm.manager.kill)
        after = {task.id: task.pid for name in PORTS for task in await swarm.running(name, REPLICAS)}
    assert after == before


async def test_a_data_plane_that_is_replaced_refuses_no_connection(swarm: Swarm) -> None:
    """Kept connections are closed between two requests then, as any HTTP server may do."""
    with load(swarm, "http new", "plain new"):
        for node in swarm.nodes * 3:
            await replaced(swarm, node, "dataplane", node.replace)
            for port in PORTS.values():
                assert "slot" in await who_answers(node.address, port)


async def replaced(swarm: Swarm, node: Node, process: str, end: Callable[[str], object]) -> None:
    """End a process of a node, and return once another one has taken its place and the node is in touch."""
    old = node.pid(process)
    end(process)

    async def ask() -> bool:
        try:
            state = (await node.client.node.info(timeout_s=2.0)).state
            return node.status()["processes"][process]["pid"] not in (None, old) and state == "connected"
        except SwarmError:
            return False

    await swarm.until(ask, what=f"{process} of {node.name} is back")


async def test_an_update_outlives_the_manager(swarm: Swarm) -> None:
    with load(swarm) as outcomes:
        update = UpdateConfig(parallelism=1, monitor_s=0.5)
        wanted = {name: await roll(swarm, name, update) for name in PORTS}
        await replaced(swarm, swarm.manager, "manager", swarm.manager.kill)
        for name in PORTS:
            await swarm.updated(name)
            await swarm.running(name, REPLICAS)
    for label, outcome in outcomes.items():
        assert wanted[label.split()[0]] in outcome.versions, label
