"""Managers come, go and die: the others go on, and whoever uses the swarm meets no error."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from scripts.cluster import Cluster, Node
from swarmpy.model.states import NodeRole
from tests.support.managers import QUICK, ended, is_shown, managed, member_id, others, roles, running

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("managers")]

SLEEP = ("sleep", "9999")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """Three managers and a worker, node4; each test leaves as many, all well."""
    async with Cluster(managers=3, workers=1, spec=QUICK) as cluster:
        yield cluster


async def test_every_manager_lists_all_of_them(cluster: Cluster) -> None:
    leader = await cluster.leader()
    expected = {node.name: "Leader" if node is leader else "Reachable" for node in cluster.managers}
    for node in cluster.managers:
        assert await roles(node) == expected | {"node4": ""}


async def test_a_killed_leader_is_no_error_for_anybody(cluster: Cluster) -> None:
    await cluster.manager.cli("service", "create", "--name", "web", "--replicas", "4", "--detach", "--process", *SLEEP)
    before = await running(cluster, "web", 4)
    leader = await cluster.leader()
    one, other = others(cluster, leader)
    leader.kill("manager")
    outputs = await asyncio.gather(
        one.cli("service", "create", "--name", "late", "--process", *SLEEP),
        other.cli("service", "create", "--name", "later", "--detach", "--process", *SLEEP),
        one.cli("service", "scale", "--detach", "web=5"),
        other.cli("node", "ls"),
        cluster.workers[0].cli("info"),
    )
    assert [output.err for output in outputs] == [""] * 5
    rows = await managed(cluster, *cluster.managers)
    assert (manager := rows[leader.name].manager) is not None
    assert not manager.leader
    after = await running(cluster, "web", 5)
    assert before.items() <= after.items()  # the tasks of before have not noticed
    await one.cli("service", "rm", "web", "late", "later")


async def test_a_demoted_follower_is_a_worker_and_can_be_promoted_again(cluster: Cluster) -> None:
    leader = await cluster.leader()
    follower, other = others(cluster, leader)
    before = (await managed(cluster, *cluster.managers))[follower.name]
    said = await other.cli("node", "demote", follower.name)
    assert said.out == f"Node {follower.name} demoted in the swarm.\n"
    await ended(follower)
    await managed(cluster, leader, other)
    refused = await follower.cli("node", "ls", check=False)
    assert refused.status == 1
    assert refused.err.startswith("Error: this node is not a swarm manager: run this on a manager (")
    said = await other.cli("node", "promote", follower.name)
    assert said.out == f"Node {follower.name} promoted to a manager in the swarm.\n"
    after = (await managed(cluster, leader, other, follower))[follower.name]
    assert after.id == before.id
    assert member_id(after) > member_id(before)
    assert (await roles(follower))[follower.name] == "Reachable"


async def test_a_demoted_leader_hands_over(cluster: Cluster) -> None:
    leader = await cluster.leader()
    said = await leader.cli("node", "demote", "self")
    assert said.out == "Node self demoted in the swarm.\n"
    await managed(cluster, *others(cluster, leader))
    await ended(leader)
    await cluster.manager.cli("node", "promote", leader.name)
    await managed(cluster, *cluster.managers, leader)


async def test_a_promoted_worker_manages_until_it_leaves(cluster: Cluster) -> None:
    worker = next(node for node in cluster.nodes if node not in cluster.managers)
    managers = tuple(cluster.managers)
    await cluster.manager.cli("node", "promote", worker.name)
    await managed(cluster, *managers, worker)
    await worker.cli("config", "create", "site", str(worker.log_path))
    assert (await managers[1].cli("config", "inspect", "site", "--format", "{{.Spec.Name}}")).out == "site\n"
    said = await worker.cli("swarm", "leave", check=False)
    assert (said.status, said.err) == (
        1,
        "Error: this node is a manager: demote it first with `swarmpy node demote self`, "
        "or use `swarmpy swarm leave --force`\n",
    )
    assert (await worker.cli("swarm", "leave", "--force")).out == "Node left the swarm.\n"
    await ended(worker)
    await managed(cluster, *managers)
    await managers[0].cli("node", "rm", "--force", worker.name)
    await cluster.join([worker], NodeRole.WORKER)
    await managers[1].cli("config", "rm", "site")


async def test_a_demotion_that_would_cost_the_quorum_is_refused(cluster: Cluster) -> None:
    leader = await cluster.leader()
    one, other = others(cluster, leader)
    other.freeze("manager")
    await is_shown(one, other.name, "Unreachable")
    for node in (one, leader):
        said = await one.cli("node", "demote", node.name, check=False)
        assert (said.status, said.err) == (
            1,
            f"Error: without {node.name}, 1 of 2 managers would be reachable, and a quorum needs 2: "
            "bring another manager back first\n",
        )
    other.thaw()
    await managed(cluster, *cluster.managers)


async def test_a_manager_that_was_demoted_and_promoted_while_it_was_away_comes_back(cluster: Cluster) -> None:
    leader = await cluster.leader()
    away, other = others(cluster, leader)
    before = (await managed(cluster, *cluster.managers))[away.name]
    away.freeze()
    await other.cli("node", "demote", away.name)
    await is_shown(other, away.name, "")
    await other.cli("node", "promote", away.name)
    away.thaw()
    after = (await managed(cluster, *cluster.managers))[away.name]
    assert member_id(after) > member_id(before)
    assert (await roles(away))[away.name] == "Reachable"


async def test_a_manager_that_lost_its_disk_comes_back_as_another_member(cluster: Cluster) -> None:
    leader = await cluster.leader()
    lost = others(cluster, leader)[0]
    before = (await managed(cluster, *cluster.managers))[lost.name]
    await lost.close()
    lost.terminate()
    await asyncio.to_thread(lost.stopped)
    shutil.rmtree(lost.state_dir / "manager")
    lost.start()
    await lost.ready()

    rows = await managed(cluster, *cluster.managers, but={lost.name: member_id(before)})
    assert rows[lost.name].id == before.id
    assert member_id(rows[lost.name]) > max(member_id(row) for row in rows.values() if row.name != lost.name)
    assert (await roles(lost))[lost.name] == "Reachable"


async def test_all_managers_at_once_are_restarted(cluster: Cluster) -> None:
    await cluster.manager.cli("service", "create", "--name", "web", "--replicas", "4", "--detach", "--process", *SLEEP)
    before, tasks = await managed(cluster, *cluster.managers), await running(cluster, "web", 4)
    term_before = await _term(cluster.manager)
    for node in cluster.managers:
        node.kill("manager")
    assert (await managed(cluster, *cluster.managers)).keys() == before.keys()
    assert await _term(cluster.manager) > term_before
    assert await running(cluster, "web", 4) == tasks
    await asyncio.gather(*(node.restart() for node in cluster.managers))
    assert (await managed(cluster, *cluster.managers)).keys() == before.keys()
    await running(cluster, "web", 4)
    await cluster.manager.cli("service", "rm", "web")


async def _term(node: Node) -> int:
    status = await node.cli("swarm", "status")
    return next(int(line.split()[1]) for line in status.out.splitlines() if line.startswith("Term:"))
