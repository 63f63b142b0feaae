"""Becoming a manager: many at once, by the token that says so, and every way to get it wrong."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from scripts.cluster import Cluster, Node
from swarmpy.api.v1 import membership_pb2, membership_pb2_grpc
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.rpc.dial import manager_channel
from swarmpy.rpc.status import to_error
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from tests.support.managers import QUICK, ended, managed, member_id, roles

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("managers_join")]

ALREADY = "this node is already part of a swarm: use `swarmpy swarm leave` to leave it before joining another"
REFUSED_CONFIGURATION = 78


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """A manager and a worker; each test leaves as many, all well."""
    async with Cluster(workers=1, spec=QUICK) as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(cluster: Cluster) -> Node:
    """A node that is in no cluster."""
    node = cluster.new_node(name="stranger")
    node.start()
    await node.ready()
    return node


async def refused(node: Node, *words: str) -> str:
    """Return the sentence that a command is refused with."""
    said = await node.cli(*words, check=False)
    assert said.status == 1
    assert said.out == ""
    return said.err.removeprefix("Error: ").removesuffix("\n")


async def test_what_is_in_a_swarm_cannot_begin_or_join_one(cluster: Cluster) -> None:
    tokens = await cluster.join_tokens()
    for node in cluster.nodes:
        assert await refused(node, "swarm", "init") == ALREADY
        for token in (tokens.manager, tokens.worker):
            assert await refused(node, "swarm", "join", "--token", token, cluster.join_address) == ALREADY


async def test_the_last_manager_stays(cluster: Cluster) -> None:
    said = await refused(cluster.manager, "node", "demote", "self")
    assert said == "node1 is the last manager: promote another node first, so that the swarm's state is kept"
    said = await refused(cluster.manager, "swarm", "leave")
    assert said == (
        "this node is the last manager: leaving erases the whole state of the swarm; "
        "use `swarmpy swarm leave --force` to do so"
    )
    said = await refused(cluster.manager, "node", "rm", "--force", "node1")
    assert said == "node node1 is a manager and cannot be removed: demote it first"


async def test_the_token_decides_the_role(cluster: Cluster, stranger: Node) -> None:
    tokens = await cluster.join_tokens()
    said = await stranger.cli("swarm", "join", "--token", tokens.worker, cluster.join_address)
    assert said.out == "This node joined a swarm as a worker.\n"
    assert "manager" not in stranger.pids()
    await stranger.cli("swarm", "leave")
    await cluster.manager.cli("node", "rm", "--force", "stranger")

    said = await stranger.cli("swarm", "join", "--token", tokens.manager, cluster.join_address)
    assert said.out == "This node joined a swarm as a manager.\n"
    await managed(cluster, cluster.manager, stranger)
    assert (await roles(stranger))["stranger"] == "Reachable"
    # Any manager takes in whoever comes, though only one of them leads.
    late = cluster.new_node(name="late")
    late.start()
    await late.ready()
    said = await late.cli("swarm", "join", "--token", tokens.worker, stranger.address)
    assert said.out == "This node joined a swarm as a worker.\n"
    await stranger.cli("swarm", "leave", "--force")
    await ended(stranger)
    await managed(cluster, cluster.nodes[0])
    await cluster.manager.cli("node", "rm", "--force", "stranger")


async def test_another_swarm_is_another_swarm(cluster: Cluster, stranger: Node) -> None:
    tokens = await cluster.join_tokens()
    await stranger.client.node.init(ClusterSpec())
    assert await refused(stranger, "swarm", "join", "--token", tokens.manager, cluster.join_address) == ALREADY
    late = next(node for node in cluster.nodes if node.name == "late")
    await late.cli("swarm", "leave")
    said = await refused(late, "swarm", "join", "--token", tokens.manager, stranger.address)
    assert said == (
        f"the token is not for the cluster at {stranger.address}:2378: "
        "print that one's with `swarmpy swarm join-token worker`"
    )
    own = identities.load(stranger.state_dir)
    assert own is not None
    assert (await joining(own, cluster.join_address)).code is Code.UNAVAILABLE  # not even a connection


async def test_a_worker_cannot_pass_for_a_manager(cluster: Cluster) -> None:
    own = identities.load(cluster.nodes[1].state_dir)
    assert own is not None
    error = await joining(own, cluster.join_address)
    assert (error.code, error.message) == (
        Code.PERMISSION_DENIED,
        "this call is for managers: run it on a manager",
    )


async def joining(identity: Identity, address: str) -> SwarmError:
    """Return how a manager refuses to take in who has this identity."""
    request = membership_pb2.JoinManagersRequest(request_id="mine", addr="127.0.0.1:1", feature_level=9)
    async with manager_channel(identity, address) as channel:
        stub = membership_pb2_grpc.MembershipStub(channel)
        with pytest.raises(grpc.RpcError) as failure:
            await stub.JoinManagers(request, timeout=5.0)
    return to_error(failure.value)


async def test_two_managers_cannot_have_one_state_directory(cluster: Cluster) -> None:
    node = cluster.manager
    arguments = ("--state-dir", str(node.state_dir), "--addr", node.address, "--data-addr", node.address)
    command = [sys.executable, "-m", "manager", *arguments]
    second = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == REFUSED_CONFIGURATION
    assert f"{node.state_dir}/manager is in use by another process" in second.stderr
    assert (await node.cli("node", "ls")).status == 0


async def test_five_managers_join_at_once() -> None:
    async with Cluster(spec=QUICK) as cluster:
        joiners = [cluster.new_node() for _ in range(5)]
        for node in joiners:
            node.start()
        await asyncio.gather(*(node.ready() for node in joiners))
        token = (await cluster.join_tokens()).manager
        said = await asyncio.gather(
            *(node.cli("swarm", "join", "--token", token, cluster.join_address) for node in joiners)
        )
        assert {output.out for output in said} == {"This node joined a swarm as a manager.\n"}
        rows = await managed(cluster, *cluster.nodes)
        assert sorted(member_id(row) for row in rows.values()) == [1, 2, 3, 4, 5, 6]
