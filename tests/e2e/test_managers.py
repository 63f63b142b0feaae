"""Managers come, go and die: the others go on, and whoever uses the swarm meets no error."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scripts.cluster import Cluster, Node, until
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.config import ConfigSpec
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import NodeRole, TaskState

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("managers")]

DEADLINE_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """Three managers and a worker; each test leaves as many, all well."""
    async with Cluster(managers=3, workers=1, spec=ClusterSpec(heartbeat_period_s=1.0)) as cluster:
        yield cluster


async def roles(node: Node) -> dict[str, str]:
    """Return what `node ls` on a node says of the managers."""
    listed = await node.cli("node", "ls", "--format", "{{.Hostname}}={{.ManagerStatus}}")
    return dict(line.split("=") for line in listed.out.splitlines())


async def managed(cluster: Cluster, *nodes: Node) -> dict[str, NodeRow]:
    """Return the rows of exactly these nodes' managers, once one of them leads and all can be reached and vote."""

    async def ask() -> dict[str, NodeRow] | None:
        try:
            rows = {row.name: row for row in await cluster.rows() if row.manager is not None}
        except SwarmError:
            return None
        found = [row.manager for row in rows.values() if row.manager is not None]
        is_so = (
            rows.keys() == {node.name for node in nodes}
            and all(one.reachable and not one.learner for one in found)
            and sum(one.leader for one in found) == 1
        )
        return rows if is_so else None

    cluster.managers[:] = nodes
    return await until(ask, what=f"{[node.name for node in nodes]} manage the cluster", deadline_s=DEADLINE_S)


async def ended(node: Node) -> None:
    """Wait until a node runs no manager, and keeps nothing of it."""

    async def ask() -> bool:
        return "manager" not in node.pids() and not (node.state_dir / "manager").exists()

    await until(ask, what=f"{node.name} is no manager", deadline_s=DEADLINE_S)


def others(cluster: Cluster, node: Node) -> list[Node]:
    return [manager for manager in cluster.managers if manager is not node]


async def running(cluster: Cluster, service: str) -> dict[str, int]:
    """Return the tasks of a service that run, and the pids of their processes."""
    tasks = [task for task in await cluster.client.tasks.list() if task.state is TaskState.RUNNING]
    found = [task for task in tasks if task.service_id == (await cluster.client.services.get(service)).service.id]
    return {task.id: task.pid for task in found}


async def test_every_manager_lists_all_of_them(cluster: Cluster) -> None:
    leader = await cluster.leader()
    expected = {node.name: "Leader" if node is leader else "Reachable" for node in cluster.managers}
    for node in cluster.managers:
        assert await roles(node) == expected | {"node4": ""}


async def test_a_killed_leader_is_no_error_for_anybody(cluster: Cluster) -> None:
    made = await cluster.manager.cli("service", "create", "--name", "web", "--process", "--replicas", "4", "sleep", "9999")
    assert made.status == 0
    before = await running(cluster, "web")
    assert len(before) == 4
    leader = await cluster.leader()
    follower, other = others(cluster, leader)
    leader.kill("manager")
    create = ("service", "create", "--detach", "--process", "sleep", "9999", "--name")
    results = await asyncio.gather(
        follower.cli("service", "create", "--name", "late", "--process", "sleep", "9999"),
        other.cli("config", "create", "site", "-") if False else other.cli("node", "ls"),
        follower.cli("service", "scale", "web=5"),
    )
    assert [output.err for output in results] == ["", "", ""]
    assert len(create) == 6
    rows = await managed(cluster, *cluster.managers)
    manager = rows[leader.name].manager
    assert manager is not None
    assert not manager.leader
    after = await running(cluster, "web")
    assert len(after) == 5
    assert before.items() <= after.items()
    await follower.cli("service", "rm", "web", "late")
