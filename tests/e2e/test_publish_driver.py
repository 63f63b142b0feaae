"""Published ports that the kernel balances (`swarmpyd --publish-driver nftables`) cost no request either."""

from __future__ import annotations

import asyncio
import os
import re
import urllib.request
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from scripts.cluster import STOP_TASKS, Node
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.spec import UpdateConfig
from swarmpy.model.states import Availability, UpdateOrder
from tests.support.load import Load
from tests.support.swarm import Swarm, accepts, who_answers, whoami, with_env
from worker.engine import node_key
from worker.network.link.ability import why_unsupported
from worker.network.nft import dump
from worker.network.nft.ingress import PREFIX
from worker.network.nft.sock import NetfilterSocket

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(why_unsupported()), reason=why_unsupported() or "the kernel can be told"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("publish_driver"),
]

OPTIONS = (*STOP_TASKS, "--publish-driver", "nftables")
PORT, HTTP_PORT = 8290, 8291
REPLICAS = 4
LEAST_REQUESTS = 100


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(3, spec=ClusterSpec(heartbeat_period_s=2.0), options=OPTIONS) as swarm:
        await swarm.create(whoami("plain", PORT, replicas=REPLICAS))
        await swarm.create(whoami("http", HTTP_PORT, replicas=1, http=True))
        await swarm.running("plain", REPLICAS)
        await swarm.running("http", 1)
        yield swarm
    assert not tables(), "nodes that end take their tables along"


def tables() -> set[str]:
    with NetfilterSocket.open() as sock:
        return {row.name for row in dump.tables(sock) if row.name.startswith(PREFIX)}


def table_of(node: Node) -> str:
    return PREFIX + node_key(node.state_dir)


async def balanced(node: Node) -> int:
    """Return how many clients the data plane of a node has had."""

    def read() -> str:
        with urllib.request.urlopen(f"http://{node.address}:9323/metrics", timeout=5) as answer:
            return str(answer.read(), "utf-8")

    text = await asyncio.to_thread(read)
    rows = re.findall(r'swarmpy_proxy_connections_total\{port="8000",service="\w+",task=""\} (\S+)', text)
    return round(sum(map(float, rows)))


async def led(swarm: Swarm) -> None:
    """Wait until all tasks answer at each node."""

    async def all_answer() -> bool:
        for node in swarm.nodes:
            answers = {(await who_answers(node.address, PORT))["slot"] for _ in range(REPLICAS)}
            if table_of(node) not in tables() or len(answers) < REPLICAS:
                return False
        return True

    await swarm.until(all_answer, what="the kernel leads to all tasks in turn")


async def test_connections_take_turns_in_the_kernel(swarm: Swarm) -> None:
    await led(swarm)
    before = [await balanced(node) for node in swarm.nodes]
    for node in swarm.nodes:
        slots = [(await who_answers(node.address, PORT))["slot"] for _ in range(2 * REPLICAS)]
        assert sorted(slots) == sorted([str(n + 1) for n in range(REPLICAS)] * 2)
    assert [await balanced(node) for node in swarm.nodes] == before, "the data plane saw none of them"
    for node in swarm.nodes:
        await who_answers(node.address, HTTP_PORT)
    assert sum([await balanced(node) for node in swarm.nodes]) == sum(before) + 3, "HTTP is the balancer's"


@pytest.mark.parametrize("order", list(UpdateOrder))
async def test_updates_scaling_and_drained_nodes_fail_no_request(swarm: Swarm, order: UpdateOrder) -> None:
    with Load("new", [f"{node.address}:{PORT}" for node in swarm.nodes]) as load:
        service = (await swarm.client.services.get("plain")).service
        spec = with_env(service.spec, f"VERSION={order.name}")
        spec = msgspec.structs.replace(spec, update=UpdateConfig(parallelism=2, monitor_s=0.2, order=order))
        await swarm.client.services.update(service, spec)
        await swarm.updated("plain")
        for replicas in (6, 2, REPLICAS):
            await swarm.client.services.scale("plain", replicas)
            await swarm.running("plain", replicas)
        node = swarm.nodes[1]
        await swarm.set_availability(node.name, Availability.DRAIN)
        row = await swarm.client.nodes.get(node.name)

        async def empty() -> bool:
            return not [t for t in await swarm.tasks("plain") if t.node_id == row.id and not t.state.is_stopped]

        await swarm.until(empty, what="the drained node has no task")
        await swarm.set_availability(node.name, Availability.ACTIVE)
    assert not load.outcome.failed, load.outcome.failures
    assert load.outcome.requests > LEAST_REQUESTS


async def test_without_a_task_connections_wait_in_the_balancer(swarm: Swarm) -> None:
    await swarm.client.services.scale("plain", 0)
    await swarm.running("plain", 0)
    assert accepts(swarm.nodes[0].address, PORT)
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(who_answers(swarm.nodes[0].address, PORT))
        await swarm.client.services.scale("plain", REPLICAS)
        await swarm.running("plain", REPLICAS)
    assert "slot" in asking.result()
    await led(swarm)


async def test_a_killed_worker_and_a_flushed_table_are_made_good(swarm: Swarm) -> None:
    node = swarm.nodes[2]
    await led(swarm)
    with Load("new", [f"{node.address}:{PORT}"]) as load:
        old = node.pid("worker")
        os.kill(old, 9)

        async def back() -> bool:
            return node.status()["processes"]["worker"]["pid"] not in (None, old)

        await swarm.until(back, what="the worker is back")
        assert table_of(node) in tables(), "the kernel goes on meanwhile"
        await led(swarm)
        remove_table(table_of(node))
        assert "slot" in await who_answers(node.address, PORT)
        await swarm.client.services.scale("plain", REPLICAS + 1)
        await swarm.running("plain", REPLICAS + 1)
        await swarm.client.services.scale("plain", REPLICAS)
        await swarm.running("plain", REPLICAS)
        await led(swarm)
    assert not load.outcome.failed, load.outcome.failures


def remove_table(name: str) -> None:
    from worker.network.nft.host import delete_table

    with NetfilterSocket.open() as sock:
        delete_table(sock, name)
