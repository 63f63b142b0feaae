"""Members over real sockets with real certificates, in one process: the whole way of a message."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from manager.raft.api import Peer, ReplicatedLog
from manager.raft.config import CoreConfig
from manager.raft.transport.hello import make_hello
from manager.raft.types import ConfChangeKind, ConfState, Metadata, Role
from swarmpy.api.v1 import raft_pb2 as pb
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from swarmpy.rpc.dial import manager_channel, peer_channel
from tests.support.raft_cluster import CLUSTER, CONFIG, ClusterMember, RaftCluster, change, cluster, until


def followers(running: RaftCluster, leader: ClusterMember) -> list[ClusterMember]:
    return [member for member in running.running if member is not leader]


async def everywhere(running: RaftCluster, data: list[bytes]) -> None:
    await until(lambda: all(member.machine.applied == data for member in running.running))


async def test_three_members_agree() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        typed: ReplicatedLog = leader.raft
        data = [b"%d" % number for number in range(300)]
        await asyncio.gather(*(typed.propose(d) for d in data))
        assert leader.machine.applied == data
        await everywhere(running, data)
        status = leader.raft.status()
        assert status.conf == ConfState(voters=(1, 2, 3))
        assert [(peer.member_id, peer.active) for peer in status.peers] == [(1, True), (2, True), (3, True)]
        for member in followers(running, leader):
            assert member.raft.status().leader_id == leader.member_id
            with pytest.raises(SwarmError, match=f"member {leader.member_id} leads") as caught:
                await member.raft.propose(b"x")
            assert caught.value.code is Code.NOT_LEADER
    assert not any(thread.name.startswith("raft") for thread in threading.enumerate())


async def test_a_barrier_on_any_member_sees_what_was_acknowledged() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        for number in range(20):
            await leader.raft.propose(b"%d" % number)
            for member in running.running:
                await member.raft.read_barrier()
                assert len(member.machine.applied) == number + 1
        member = followers(running, leader)[0]
        await asyncio.gather(*(member.raft.read_barrier() for _ in range(500)))


async def test_a_leader_that_dies_is_replaced_before_its_time_out() -> None:
    patient = replace(CONFIG, node=replace(CONFIG.node, core=CoreConfig(election_ticks=1_000_000)))
    async with cluster(3, patient) as running:
        leader = await running.leader()
        await leader.raft.propose(b"before")
        await leader.kill()
        new = await running.leader()
        assert new is not leader
        await new.raft.propose(b"after")
        await everywhere(running, [b"before", b"after"])


async def test_members_that_all_come_back_elect_before_any_time_out() -> None:
    patient = replace(CONFIG, node=replace(CONFIG.node, core=CoreConfig(election_ticks=1_000_000)))
    async with cluster(3, patient) as running:
        await (await running.leader()).raft.propose(b"before")
        await everywhere(running, [b"before"])
        for member in running.running:
            await member.kill()
        for member_id in running.members:
            await running.restart(member_id)
        await (await running.leader()).raft.propose(b"after")
        await everywhere(running, [b"before", b"after"])


async def test_a_member_comes_back_on_another_port() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        await leader.raft.propose(b"a")
        old_address = leader.addr
        await leader.kill()
        new = await running.leader()
        await new.raft.propose(b"b")
        await running.restart(leader.member_id)
        assert leader.addr != old_address
        await everywhere(running, [b"a", b"b"])
        assert not leader.leads


async def test_the_lead_is_handed_over_without_losing_a_proposal() -> None:
    async with cluster(3) as running:
        old = await running.leader()
        proposals = [asyncio.ensure_future(old.raft.propose(b"%d" % number)) for number in range(50)]
        await asyncio.sleep(0)
        await old.raft.transfer()
        await asyncio.gather(*proposals)
        new = await running.leader()
        assert new is not old
        await new.raft.transfer(old.member_id)
        await until(lambda: old.leads)
        await everywhere(running, [b"%d" % number for number in range(50)])


async def test_resigning_and_who_may_ask_for_what() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        member = followers(running, leader)[0]
        with pytest.raises(SwarmError) as caught:
            await member.raft.transfer()
        assert caught.value.code is Code.NOT_LEADER
        with pytest.raises(SwarmError) as caught:
            await member.raft.change_members(change(ConfChangeKind.REMOVE, 1))
        assert caught.value.code is Code.NOT_LEADER
        term = leader.raft.status().term
        await leader.raft.resign()
        await until(lambda: any(m.leads and m.raft.status().term > term for m in running.running))


async def test_a_joiner_that_is_far_behind_gets_a_snapshot() -> None:
    async with cluster(1) as running:
        leader = await running.leader()
        data = [b"%d" % number * 50_000 for number in range(20)]
        for each in data:
            await leader.raft.propose(each)
        mark = await leader.snapshot()
        await leader.raft.propose(b"behind it")
        joiner = await running.add_voter(2)
        assert joiner.machine.restored == [mark.index]
        await everywhere(running, [*data, b"behind it"])
        assert joiner.raft.status().snapshot.index == mark.index
        await joiner.kill()
        await running.restart(2)
        await everywhere(running, [*data, b"behind it"])


async def test_deliveries_wait_while_a_snapshot_is_restored() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        slow = followers(running, leader)[0]
        await slow.kill()
        for number in range(30):
            await leader.raft.propose(b"%d" % number)
        await leader.snapshot()
        await slow.listen()
        running.tell_peers()
        await slow.start()
        slow.machine.gate = asyncio.Event()
        running.tell_peers()
        await until(lambda: slow.raft.status().snapshot.index > 0)
        for number in range(5):
            await leader.raft.propose(b"later %d" % number)
        await until(lambda: slow.raft.status().commit_index >= leader.machine.index)
        assert slow.machine.applied == []
        slow.machine.gate.set()
        await everywhere(running, leader.machine.applied)


async def test_a_member_that_stops_while_it_restores_ends_in_order() -> None:
    async with cluster(2) as running:
        leader = await running.leader()
        slow = await running.add(3, joins=True)
        slow.machine.gate = asyncio.Event()
        for number in range(30):
            await leader.raft.propose(b"%d" % number)
        await leader.snapshot()
        await leader.raft.change_members(change(ConfChangeKind.ADD_LEARNER, 3))
        await until(lambda: slow.raft.status().snapshot.index > 0)
        await slow.kill()


async def test_a_member_that_is_removed_hears_of_it_no_more() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        gone = followers(running, leader)[0]
        conf = await leader.raft.change_members(change(ConfChangeKind.REMOVE, gone.member_id))
        assert gone.member_id not in conf.voters
        await gone.kill()
        await leader.raft.propose(b"x")


async def test_a_leader_that_is_removed_steps_down() -> None:
    async with cluster(3) as running:
        leader = await running.leader()
        await leader.raft.change_members(change(ConfChangeKind.REMOVE, leader.member_id))
        await until(lambda: leader.raft.status().role is not Role.LEADER)
        await until(lambda: any(member.leads for member in followers(running, leader)))


async def stream(running: RaftCluster, channel: grpc.aio.Channel, hello: pb.RaftHello) -> str:
    """Open a stream with this hello; return why it was refused."""
    async with channel:
        call: Any = channel.stream_stream("/swarmpy.api.v1.Raft/Stream")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.write(pb.RaftBatch(hello=hello).SerializeToString())
            await call.read()
    return str(caught.value.details())


async def test_strangers_are_refused() -> None:
    async with cluster(2) as running:
        member = running[1]
        identity, authority = running[2].identity, running.authority
        hello = make_hello(Metadata(CLUSTER, 2), 1, 1)
        worker = authority.identity("node2", NodeRole.WORKER)
        assert "no manager of this cluster" in await stream(running, manager_channel(worker, member.addr), hello)
        other = authority.identity("node9")
        assert "is node node2, not node node9" in await stream(running, manager_channel(other, member.addr), hello)
        unknown = make_hello(Metadata(CLUSTER, 7), 1, 1)
        assert "does not know a member 7" in await stream(running, manager_channel(identity, member.addr), unknown)
        wrong = make_hello(Metadata(CLUSTER, 2), 5, 1)
        assert "looks for member 5" in await stream(running, manager_channel(identity, member.addr), wrong)
        assert "Hostname" in await stream(running, peer_channel(identity, "node9", member.addr), hello), "TLS refuses"


async def test_a_member_at_the_address_of_another_is_not_spoken_to() -> None:
    async with cluster(2) as running:
        leader = await running.leader()
        other = followers(running, leader)[0]
        leader.raft.set_peers({other.member_id: Peer("node9", other.addr)})
        with pytest.raises(SwarmError) as caught:
            await leader.raft.propose(b"x")
        assert caught.value.code is Code.UNAVAILABLE, "without it there is no quorum"
