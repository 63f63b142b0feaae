"""What tests ask of a cluster of several managers, and wait for."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from scripts.cluster import Cluster, Node, until
from swarmpy.client import TaskFilter
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import ManagerStatus
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import TaskState

DEADLINE_S: Final = 60.0
QUICK: Final = ClusterSpec(heartbeat_period_s=1.0)
NOTHING: Final[Mapping[str, int]] = MappingProxyType({})


def others(cluster: Cluster, node: Node) -> list[Node]:
    """Return the other managers, in the order of their names."""
    return sorted((manager for manager in cluster.managers if manager is not node), key=lambda one: one.name)


def member_id(row: NodeRow) -> int:
    """Return which member of the group a node's manager is."""
    assert row.manager is not None, f"{row.name} is no manager"
    return row.manager.raft_id


async def roles(node: Node) -> dict[str, str]:
    """Return what `node ls` on a node says of the nodes as managers."""
    listed = await node.cli("node", "ls", "--format", "{{.Hostname}}={{.ManagerStatus}}")
    return dict(line.split("=") for line in listed.out.splitlines())


async def is_shown(node: Node, name: str, status: str) -> None:
    """Wait until `node ls` on a node says this of the manager `name`."""

    async def ask() -> bool:
        return (await roles(node))[name] == status

    await until(ask, what=f"{name} is shown as {status or 'a worker'!r}", deadline_s=DEADLINE_S)


async def managed(cluster: Cluster, *nodes: Node, but: Mapping[str, int] = NOTHING) -> dict[str, NodeRow]:
    """Return the rows of exactly these nodes once they are the managers: all there, all voting, one leading.

    Args:
        but: by the name of a node, the member that it must not be any more.
    """

    async def ask() -> dict[str, NodeRow] | None:
        try:
            rows = {row.name: row for row in await cluster.rows() if row.manager is not None}
        except SwarmError:
            return None
        found = {name: row.manager for name, row in rows.items() if row.manager is not None}
        is_old = any(found[name].raft_id == old for name, old in but.items() if name in found)
        return None if is_old or found.keys() != names or not _are_well(found) else rows

    names = {node.name for node in nodes}
    cluster.managers[:] = sorted(nodes, key=lambda node: node.name)
    return await until(ask, what=f"{sorted(names)} manage the cluster", deadline_s=DEADLINE_S)


def _are_well(managers: Mapping[str, ManagerStatus]) -> bool:
    there = all(one.reachable and not one.learner for one in managers.values())
    return there and sum(one.leader for one in managers.values()) == 1


async def ended(node: Node) -> None:
    """Wait until a node runs no manager, and keeps nothing of it."""

    async def ask() -> bool:
        return "manager" not in node.pids() and not (node.state_dir / "manager").exists()

    await until(ask, what=f"{node.name} is no manager any more", deadline_s=DEADLINE_S)


async def running(cluster: Cluster, service: str, replicas: int) -> dict[str, int]:
    """Return the tasks of a service, by id, and the pids of their processes, once so many run."""
    listed = await cluster.client.services.get(service)

    async def ask() -> dict[str, int] | None:
        try:
            tasks = await cluster.client.tasks.list(TaskFilter(service_ids=(listed.service.id,)))
        except SwarmError:
            return None
        found = {task.id: task.pid for task in tasks if task.state is TaskState.RUNNING and task.is_wanted}
        return found if len(found) == replicas else None

    return await until(ask, what=f"{replicas} of {service} run", deadline_s=DEADLINE_S)
