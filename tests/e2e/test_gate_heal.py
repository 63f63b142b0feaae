"""Whatever dies, the cluster mends: tasks, the node's own processes, the manager, whole nodes."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scripts.cluster import Node, until
from scripts.cluster.processes import runs
from swarmpy.client import TaskFilter
from swarmpy.errors import Code, SwarmError
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import Availability, NodeState, TaskState
from swarmpy.model.task import Task
from tests.support.swarm import Swarm, process

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("gate_heal"),
]

SLEEP = ("sleep", "1000")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(3) as swarm:
        yield swarm


@pytest_asyncio.fixture(loop_scope="module")
async def service(swarm: Swarm, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A service of three tasks that run, named after the test; removed afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:60]
    await swarm.create(process(name, *SLEEP, replicas=3))
    await swarm.running(name, 3)
    yield name
    await swarm.remove(name)


def pids(tasks: list[Task]) -> dict[str, int]:
    return {task.id: task.pid for task in tasks}


async def worker_with_tasks(swarm: Swarm, service: str) -> tuple[Node, list[Task]]:
    """Return a node that is no manager, and its tasks of the service."""
    nodes = await swarm.client.nodes.list()
    live = await swarm.live(service)
    for task in live:
        node = swarm.node_of(task, nodes)
        if node is not swarm.manager:
            return node, [other for other in live if other.node_id == task.node_id]
    raise AssertionError("every task is on the manager")


async def test_tasks_spread_over_the_nodes(swarm: Swarm, service: str) -> None:
    live = await swarm.live(service)
    assert len({task.node_id for task in live}) == 3
    assert sorted(task.slot for task in live) == [1, 2, 3]
    assert all(runs(task.pid) for task in live)


async def test_a_killed_task_is_replaced(swarm: Swarm, service: str) -> None:
    victim = (await swarm.live(service))[0]
    os.kill(victim.pid, signal.SIGKILL)

    async def replaced() -> Task | None:
        return next((t for t in await swarm.live(service) if t.slot == victim.slot and t.id != victim.id), None)

    new = await swarm.until(replaced, what="the task is replaced")
    assert runs(new.pid)
    assert new.restarts == 1
    old, _ = await swarm.client.tasks.get(victim.id)
    assert (old.state, old.exit_code) == (TaskState.FAILED, -signal.SIGKILL)
    assert old.error.startswith("killed by signal 9 (SIGKILL)")
    assert len(await swarm.running(service, 3)) == 3


async def test_a_killed_worker_process_adopts_its_tasks(swarm: Swarm, service: str) -> None:
    before = pids(await swarm.running(service, 3))
    for node in swarm.nodes:
        dead = node.kill("worker")

        async def back(node: Node = node, dead: int = dead) -> bool:
            return node.status()["processes"]["worker"]["pid"] not in (None, dead) and await is_connected(node)

        await swarm.until(back, what="the worker is back")
    assert pids(await swarm.running(service, 3)) == before
    assert all(runs(pid) for pid in before.values())
    # It holds them: one that dies is seen.
    victim = (await swarm.live(service))[0]
    os.kill(victim.pid, signal.SIGKILL)

    async def seen() -> bool:
        return victim.id not in pids(await swarm.live(service))

    await swarm.until(seen, what="an adopted task's death is seen")
    await swarm.running(service, 3)


async def is_connected(node: Node) -> bool:
    try:
        return (await node.client.node.info()).state == "connected"
    except SwarmError:
        return False


async def test_a_killed_data_plane_and_task_host_come_back(swarm: Swarm, service: str) -> None:
    before = pids(await swarm.running(service, 3))
    for name in ("dataplane", "taskhost"):
        for node in swarm.nodes:
            dead = node.kill(name)

            async def back(node: Node = node, name: str = name, dead: int = dead) -> bool:
                return node.status()["processes"][name]["pid"] not in (None, dead)

            await swarm.until(back, what=f"{name} is back")
    assert pids(await swarm.running(service, 3)) == before
    victim = (await swarm.live(service))[0]
    os.kill(victim.pid, signal.SIGKILL)

    async def replaced() -> bool:
        live = pids(await swarm.live(service))
        return victim.id not in live and len(live) == 3

    await swarm.until(replaced, what="a task dies and is replaced")


async def test_a_killed_manager_forgets_nothing(swarm: Swarm, service: str) -> None:
    victim = (await swarm.live(service))[0]
    os.kill(victim.pid, signal.SIGKILL)

    async def replaced() -> Task | None:
        return next((t for t in await swarm.live(service) if t.slot == victim.slot and t.id != victim.id), None)

    await swarm.until(replaced, what="the task is replaced")
    chosen = TaskFilter(service_ids=(victim.service_id,))
    before = {t.id: (t.restarts, t.attempts, t.state, t.pid) for t in await swarm.client.tasks.list(chosen)}
    nodes = {node.id: node.name for node in await swarm.client.nodes.list()}

    swarm.manager.kill("manager")

    listed = await until(lambda: asked(swarm, service), what="the manager answers")
    assert listed == 3
    assert {t.id: (t.restarts, t.attempts, t.state, t.pid) for t in await swarm.client.tasks.list(chosen)} == before
    assert {node.id: node.name for node in await swarm.client.nodes.list()} == nodes
    await swarm.create(process("after-the-crash", *SLEEP, replicas=3))
    await swarm.running("after-the-crash", 3)
    await swarm.remove("after-the-crash")
    for name in nodes.values():
        await swarm.node_is(name, NodeState.READY)
    assert {t.id: t.pid for t in await swarm.live(service)} == {
        task_id: pid for task_id, (_, _, state, pid) in before.items() if state is TaskState.RUNNING
    }


async def asked(swarm: Swarm, service: str) -> int | None:
    try:
        return (await swarm.client.services.get(service, timeout_s=2.0)).status.running
    except SwarmError:
        return None


async def test_a_dead_node_is_noticed_and_its_tasks_run_elsewhere(swarm: Swarm, service: str) -> None:
    node, lost = await worker_with_tasks(swarm, service)
    node.vanish()
    down = await swarm.node_is(node.name, NodeState.DOWN)
    assert down.message == "3 heartbeats in a row were missed"
    live = await swarm.running(service, 3)
    assert down.id not in {task.node_id for task in live}
    assert all(runs(task.pid) for task in live)
    old, _ = await swarm.client.tasks.get(lost[0].id)
    assert (old.desired_state, old.desired_reason) == (TaskState.SHUTDOWN, f"node {node.name} is down")

    node.start()
    back = await swarm.node_is(node.name, NodeState.READY)
    assert back.id == down.id

    async def stopped() -> bool:
        return not [t for t in await swarm.tasks(service) if t.node_id == down.id and not t.state.is_stopped]

    await swarm.until(stopped, what="the tasks that died with the node are known to have stopped")
    assert pids(await swarm.running(service, 3)) == pids(live)
    await swarm.client.services.scale(service, 6)
    spread = await swarm.running(service, 6)
    assert down.id in {task.node_id for task in spread}


async def test_drain_pause_and_active(swarm: Swarm, service: str) -> None:
    node, drained = await worker_with_tasks(swarm, service)
    await swarm.set_availability(node.name, Availability.DRAIN)

    async def moved() -> bool:
        live = await swarm.live(service)
        return len(live) == 3 and not {t.id for t in drained} & {t.id for t in live}

    await swarm.until(moved, what="the node's tasks run elsewhere")
    old, _ = await swarm.client.tasks.get(drained[0].id)
    assert old.desired_reason == f"node {node.name} is drained"

    async def stopped() -> bool:
        return not [task for task in drained if runs(task.pid)]

    await swarm.until(stopped, what="what was on the drained node has stopped")

    await swarm.set_availability(node.name, Availability.PAUSE)
    await swarm.client.services.scale(service, 6)
    assert drained[0].node_id not in {t.node_id for t in await swarm.running(service, 6)}

    await swarm.set_availability(node.name, Availability.ACTIVE)
    await swarm.client.services.scale(service, 9)
    assert drained[0].node_id in {t.node_id for t in await swarm.running(service, 9)}

    await swarm.set_availability(node.name, Availability.PAUSE)
    before = pids(await swarm.running(service, 9))
    await swarm.client.services.scale(service, 10)
    after = pids(await swarm.running(service, 10))
    assert before.items() <= after.items(), "pausing stopped a task"
    await swarm.set_availability(node.name, Availability.ACTIVE)


async def test_nodes_leave_are_removed_and_refused(swarm: Swarm, service: str) -> None:
    extra = await swarm.add("extra")
    await swarm.join([extra])
    row = await swarm.node_is("extra", NodeState.READY)
    await swarm.client.services.scale(service, 8)
    assert row.id in {t.node_id for t in await swarm.running(service, 8)}

    with pytest.raises(SwarmError) as refused:
        await swarm.client.nodes.remove("extra")
    assert refused.value.code is Code.FAILED_PRECONDITION
    assert "extra" in refused.value.message

    await extra.client.node.leave()
    # It said goodbye, so what it ran is elsewhere before it is known to be down.
    assert row.id not in {t.node_id for t in await swarm.running(service, 8)}
    assert (await extra.client.node.info()).state == "inactive"
    assert (await swarm.node_is("extra", NodeState.DOWN)).message == "it has left the cluster"
    assert row.id not in {t.node_id for t in await swarm.running(service, 8)}
    await swarm.client.nodes.remove("extra")
    assert row.id not in {n.id for n in await swarm.client.nodes.list()}

    await swarm.join([extra])
    again = await swarm.node_is("extra", NodeState.READY)
    assert again.id != row.id
    await swarm.client.nodes.remove("extra", force=True)

    async def refused_node() -> bool:
        info = await extra.client.node.info()
        return info.state == "disconnected" and "removed" in info.error

    await swarm.until(refused_node, what="the removed node's sessions are refused")
    assert {n.name for n in await swarm.client.nodes.list()} == {"node1", "node2", "node3"}
    await swarm.running(service, 8)


async def test_the_last_manager_leaves_only_by_force(swarm: Swarm) -> None:
    with pytest.raises(SwarmError) as refused:
        await swarm.client.node.leave()
    assert refused.value.code is Code.FAILED_PRECONDITION
    assert "--force" in refused.value.message
    nodes: list[NodeRow] = await swarm.client.nodes.list()
    assert len(nodes) == 3
