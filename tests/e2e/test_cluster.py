"""The harness that the other tests rely on: roles, commands, killing, freezing, restarting, and links that are cut."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.cluster import Cluster, Localhost, Namespaces, Node, can_make_namespaces, until
from scripts.cluster.processes import runs
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import NodeState

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("cluster")]

QUICK = ClusterSpec(heartbeat_period_s=0.5)
OWN = {"swarmpyd", "taskhost", "dataplane", "worker"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(workers=1, spec=QUICK) as cluster:
        yield cluster


async def row(cluster: Cluster, node: Node, state: NodeState) -> NodeRow:
    """Return the row of a node once it is in a state."""

    async def ask() -> NodeRow | None:
        rows = [r for r in await cluster.rows() if r.name == node.name and r.state is state]
        return rows[0] if rows else None

    return await until(ask, what=f"{node.name} is {state.name}")


async def test_roles_and_processes(cluster: Cluster) -> None:
    first, second = cluster.nodes
    assert (cluster.managers, cluster.workers) == ([first], [second])
    assert await cluster.leader() is first
    assert set(first.pids()) == {*OWN, "manager"}
    assert set(second.pids()) == OWN
    assert set(second.pids().values()) == set(second.processes())
    with pytest.raises(RuntimeError, match="manager of node2 does not run"):
        second.manager_pid()


async def test_commands(cluster: Cluster) -> None:
    listed = await cluster.manager.cli("node", "ls", "--format", "{{.Hostname}}")
    assert sorted(listed.out.split()) == ["node1", "node2"]
    with pytest.raises(RuntimeError, match="on node2 failed: Error: this node is not a swarm manager"):
        await cluster.workers[0].cli("node", "ls")
    refused = await cluster.workers[0].cli("node", "ls", check=False)
    assert (refused.status, refused.out) == (1, "")


async def test_a_killed_process_is_another_one_afterwards(cluster: Cluster) -> None:
    node = cluster.workers[0]
    killed = node.kill("worker")
    assert not runs(killed)

    async def back() -> bool:
        return node.pids().get("worker", killed) != killed

    await until(back, what="the worker runs again")
    await row(cluster, node, NodeState.READY)


async def test_a_frozen_node_is_down_until_it_thaws(cluster: Cluster) -> None:
    node = cluster.workers[0]
    node.freeze()
    await row(cluster, node, NodeState.DOWN)
    node.thaw()
    await row(cluster, node, NodeState.READY)


async def test_a_restarted_node_is_the_same_one(cluster: Cluster) -> None:
    node = cluster.workers[0]
    before, pids = await row(cluster, node, NodeState.READY), node.pids()
    await node.restart()
    assert (await row(cluster, node, NodeState.READY)).id == before.id
    assert not set(pids.values()) & set(node.pids().values())


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that works below the test's directory."""
    with subprocess.Popen(["sleep", "1000"], cwd=tmp_path) as process:
        yield process
        process.kill()


async def test_what_a_node_leaves_is_told(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    node = Node("alone", Localhost().place(1), tmp_path)
    assert node.stopped() == [f"alone: process {sleeper.pid}: sleep 1000 "]
    assert sleeper.wait(10) == -9
    assert node.stopped() == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make network namespaces")
@pytest.mark.skipif(not can_make_namespaces(), reason="no network namespaces here: install iproute2 and util-linux")
async def test_links_are_cut_and_restored() -> None:
    network = Namespaces()
    async with Cluster(workers=2, spec=QUICK, network=network) as cluster:
        assert [node.address for node in cluster.nodes] == ["10.83.0.1", "10.83.0.2", "10.83.0.3"]
        second, third = cluster.workers
        assert reaches(second, third)
        network.cut(1, 2)
        await row(cluster, second, NodeState.DOWN)
        await row(cluster, third, NodeState.READY)
        assert reaches(second, third)
        network.isolate(2)
        assert not reaches(second, third)
        network.restore_all()
        await row(cluster, second, NodeState.READY)
        assert reaches(second, third)
    assert not any(is_entered(node) for node in cluster.nodes)


def is_entered(node: Node) -> bool:
    """Tell whether a program can be started at the node's place."""
    return subprocess.run([*node.place.enter, "true"], capture_output=True, check=False).returncode == 0


def reaches(node: Node, other: Node) -> bool:
    """Tell whether a connection from one node's place to the other's DNS succeeds."""
    connect = f"import socket; socket.create_connection(('{other.address}', 53), 1).close()"
    done = subprocess.run([*node.place.enter, sys.executable, "-c", connect], capture_output=True, check=False)
    return done.returncode == 0
