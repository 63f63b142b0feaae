"""Managers come back at other addresses, and the others, the workers and the command line find them there."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scripts.cluster import Cluster, Node, until
from swarmpy.addresses import CONTROL_PORT
from swarmpy.model.states import NodeRole, NodeState
from tests.support.managers import QUICK, managed, others, running
from tests.support.swarm import WHOAMI

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("managers-move")]

FRESH = itertools.count(100)  # places that no node of the cluster has


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """Three managers and a worker, node4; each test leaves as many, all well."""
    async with Cluster(managers=3, workers=1, spec=QUICK) as cluster:
        yield cluster


async def move(cluster: Cluster, *nodes: Node) -> None:
    """Stop nodes, then start all of them at addresses that nobody knows."""
    for node in nodes:
        node.terminate()
    for node in nodes:
        assert await asyncio.to_thread(node.stopped) == []
    for node in nodes:
        node.place = cluster.network.place(next(FRESH))
        node.start()
    await asyncio.gather(*(node.ready() for node in nodes))


async def found(cluster: Cluster) -> None:
    """Wait until all managers agree, every node is there, and the rows say where the managers are."""
    expected = {node.name: f"{node.address}:{CONTROL_PORT}" for node in cluster.managers}

    async def ask() -> bool:
        rows = await managed(cluster, *cluster.managers)
        said = {name: row.manager.addr for name, row in rows.items() if row.manager is not None}
        return said == expected and all(row.state is NodeState.READY for row in await cluster.rows())

    await until(ask, what=f"the managers are at {expected}", deadline_s=60.0)


async def test_a_follower_and_then_the_leader_come_back_elsewhere(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await move(cluster, others(cluster, leader)[0])
    await found(cluster)
    await move(cluster, await cluster.leader())
    await found(cluster)


async def test_two_of_three_come_back_elsewhere_at_once(cluster: Cluster) -> None:
    leader = await cluster.leader()
    await move(cluster, leader, others(cluster, leader)[0])
    await found(cluster)


async def test_all_come_back_elsewhere_one_after_the_other_and_all_is_well_without_the_last(cluster: Cluster) -> None:
    for node in cluster.managers:
        await move(cluster, node)
        await found(cluster)
    last = cluster.managers[-1]
    last.terminate()
    assert await asyncio.to_thread(last.stopped) == []
    said = await cluster.manager.cli("service", "create", "--name", "web", "--detach", "--process", "sleep", "999")
    assert said.err == ""
    await cluster.manager.cli("service", "rm", "web")
    last.start()
    await last.ready()
    await found(cluster)


async def test_a_task_that_listens_where_its_node_was_is_replaced(cluster: Cluster) -> None:
    worker = cluster.workers[0]
    where = ("--constraint", f"node.hostname=={worker.name}", "--publish", "18080:8000")
    await cluster.manager.cli("service", "create", "--name", "web", *where, "--process", *WHOAMI)
    before = await running(cluster, "web", 1)
    worker.kill("swarmpyd")  # the tasks live on, as they do when it is stopped without --stop-tasks
    worker.place = cluster.network.place(next(FRESH))
    worker.start()
    await worker.ready()

    async def answers() -> bool:
        after = await running(cluster, "web", 1)
        return not before.keys() & after.keys() and "web" in await get(cluster.manager.address, 18080)

    await until(answers, what="another task answers", deadline_s=60.0)
    await cluster.manager.cli("service", "rm", "web")


async def get(host: str, port: int) -> str:
    """Return what an HTTP server answers; empty if it does not."""
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
    except OSError:
        return ""
    return answer.decode()


async def test_another_manager_takes_the_place_of_one_that_moved(cluster: Cluster) -> None:
    moved = cluster.managers[0]
    place = moved.place
    await move(cluster, moved)
    late = cluster.new_node(name="late")
    late.place = place
    late.start()
    await cluster.join([late], NodeRole.MANAGER)
    await found(cluster)
    await cluster.manager.cli("node", "demote", "late")
    await managed(cluster, *(node for node in cluster.managers if node is not late))


async def test_all_at_once_need_one_at_an_address_that_the_others_know(cluster: Cluster) -> None:
    first, *rest = cluster.managers
    place = first.place
    await move(cluster, first, *rest)
    said = await first.cli("--timeout", "2", "node", "ls", check=False)
    assert said.status == 1
    first.terminate()
    assert await asyncio.to_thread(first.stopped) == []
    first.place = place
    first.start()
    await first.ready()
    await found(cluster)


async def test_an_only_manager_finds_itself_and_takes_others_in_where_it_is() -> None:
    async with Cluster(managers=1, spec=QUICK) as alone:
        await move(alone, alone.manager)
        await found(alone)
        second = alone.new_node()
        second.start()
        await alone.join([second], NodeRole.MANAGER)
        await found(alone)
