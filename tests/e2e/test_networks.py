"""Networks on real managers: made, joined, kept over a change of leader, and removed.

The tasks find no node, so that this needs neither root nor anything of the nodes: addresses are given before.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.cluster import Cluster, until
from swarmpy.client import TaskFilter
from swarmpy.model.task import Task

pytestmark = pytest.mark.e2e

NOWHERE = ("--constraint", "node.labels.nowhere==1", "--process", "--detach")
STACK = """
x-swarmpy: {runtime: process}
services:
  web:
    command: sleep 1000
    networks: {edge: {aliases: [www]}, theirs: }
    deploy: {placement: {constraints: [node.labels.nowhere==1]}}
networks:
  edge: {driver_opts: {mtu: 1400}, ipam: {config: [{subnet: 10.77.0.0/24}]}}
  theirs: {external: true, name: front}
"""


async def inspect(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return a network's document once it has a subnet."""

    async def ask() -> dict[str, Any] | None:
        (document,) = json.loads((await cluster.manager.cli("network", "inspect", name)).out)
        return document if document["IPAM"]["Config"] else None

    return await until(ask, what=f"network {name} has a subnet")


async def addressed(cluster: Cluster, service: str, count: int) -> list[Task]:
    """Return the tasks of a service once `count` of them have addresses."""

    async def ask() -> list[Task] | None:
        found = (await cluster.client.services.get(service)).service
        tasks = await cluster.client.tasks.list(TaskFilter(service_ids=(found.id,)))
        return tasks if found.endpoint.vips and len([t for t in tasks if t.networks]) == count else None

    return await until(ask, what=f"{count} tasks of {service} have addresses")


async def test_networks_and_their_addresses_outlive_a_leader(tmp_path: Path) -> None:
    async with Cluster(managers=3) as cluster:
        made = await cluster.manager.cli("network", "create", "front")
        document = await inspect(cluster, "front")
        assert document["Id"] == made.out.strip()
        assert document["Options"] == {"com.docker.network.driver.overlay.vxlanid_list": "4097"}
        await cluster.manager.cli(
            *("service", "create", "--name", "web", "--replicas", "3", "--network", "name=front,alias=www"),
            *NOWHERE,
            *("sleep", "1000"),
        )
        first = {t.networks[0].address for t in await addressed(cluster, "web", 3)}

        leader = await cluster.leader()
        leader.kill("manager")
        await cluster.client.services.scale("web", 6, timeout_s=30.0)
        tasks = await addressed(cluster, "web", 6)
        service = (await cluster.client.services.get("web")).service
        given = [*(t.networks[0].address for t in tasks), service.endpoint.vips[0].address]
        assert len(set(given)) == 7
        assert first < set(given)
        assert {a.rpartition(".")[0] for a in given} == {"10.0.0"}

        path = tmp_path / "stack.yaml"
        path.write_text(STACK)
        await cluster.manager.cli("stack", "deploy", "--detach", "-c", str(path), "shop")
        (task,) = await addressed(cluster, "shop_web", 1)
        assert [a.address.rpartition(".")[0] for a in task.networks] == ["10.77.0", "10.0.0"]

        refused = await cluster.manager.cli("network", "rm", "front", check=False)
        assert (refused.status, refused.out) == (1, "")
        assert "network front is in use by services shop_web, web: remove them" in refused.err
        removed = await cluster.manager.cli("stack", "rm", "shop")
        assert removed.out == "Removing service shop_web\nRemoving network shop_edge\n"
        await cluster.manager.cli("service", "rm", "web")
        assert (await cluster.manager.cli("network", "rm", "front")).out == "front\n"
        assert (await cluster.client.networks.list()) == []
