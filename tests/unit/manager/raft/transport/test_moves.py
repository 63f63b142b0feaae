"""Members that come back elsewhere are found there, by what they and the others say; over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest

from manager.raft.transport.hello import make_hello
from manager.raft.types import Metadata, Role
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import SwarmError
from swarmpy.rpc.dial import peer_channel
from tests.support.raft_cluster import CLUSTER, ClusterMember, RaftCluster, cluster, pause, until


async def agreed(running: RaftCluster, data: bytes) -> None:
    """Have `data` accepted and applied everywhere, whoever leads."""
    async with asyncio.timeout(20.0):
        while True:
            leader = await running.leader()
            try:
                await leader.raft.propose(data)
            except SwarmError:
                await pause()  # another leads by now
            else:
                break
    await until(lambda: all(data in member.machine.applied for member in running.running))


def hears_of_all(member: ClusterMember) -> bool:
    status = member.raft.status()
    return status.role is Role.LEADER and all(peer.active and peer.silent_ticks < 5 for peer in status.peers)


async def leads(running: RaftCluster, wanted: ClusterMember) -> None:
    """Have a member lead, and wait until it hears of all the others."""
    async with asyncio.timeout(20.0):
        while not wanted.leads:
            leader = await running.leader()
            try:
                await leader.raft.transfer(wanted.member_id)
            except SwarmError:
                await pause()
    await until(lambda: hears_of_all(wanted))


@pytest.mark.parametrize("is_leader", [True, False], ids=["the leader", "a follower"])
async def test_one_that_moved_is_found(is_leader: bool) -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        moved = leader if is_leader else next(m for m in running.running if m is not leader)
        before = moved.addr
        await running.move(moved.member_id)
        assert moved.addr != before
        await agreed(running, b"a")
        await leads(running, moved)
        await agreed(running, b"b")


async def test_two_that_moved_at_once_find_each_other_by_the_third() -> None:
    async with cluster(3) as running:
        await agreed(running, b"a")
        await running.move(1, 2)
        await agreed(running, b"b")
        await leads(running, running[1])
        await leads(running, running[2])
        await running[3].kill()
        await agreed(running, b"c")


async def test_all_move_one_after_the_other() -> None:
    async with cluster(3) as running:
        for member_id in running.members:
            await running.move(member_id)
            await agreed(running, b"%d" % member_id)
            await leads(running, running[member_id])


async def test_a_word_that_is_out_of_date_does_no_harm() -> None:
    async with cluster(2) as running:
        leader = await running.leader()
        other = next(member for member in running.running if member is not leader)
        hello = make_hello(Metadata(CLUSTER, other.member_id), leader.member_id, 1, addr="127.0.0.1:1")
        async with peer_channel(other.identity, leader.peer.node_id, leader.addr) as channel:
            await opened(channel, hello)
            await agreed(running, b"a")


async def opened(channel: grpc.aio.Channel, hello: pb.RaftHello) -> None:
    """Open a stream as a member would; it ends with the channel."""
    call: Any = channel.stream_stream("/swarmpy.api.v1.Raft/Stream")()
    await call.write(pb.RaftBatch(hello=hello).SerializeToString())
    await call.read()
