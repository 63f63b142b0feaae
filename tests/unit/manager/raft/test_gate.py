"""What comes in from other members ends in order, whatever this one does meanwhile."""

from __future__ import annotations

import asyncio
import errno

import pytest

from manager.raft.gate import Gate
from manager.raft.transport.hello import make_hello
from manager.raft.types import ConfState, Message, MessageKind, Metadata, SnapshotMark
from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from swarmpy.security.names import NodeName
from tests.support.disk import FakeDisk
from tests.support.raft_cluster import CLUSTER, HERE, ClusterMember, cluster, until

MARK = SnapshotMark(1000, 5, ConfState((1, 2)))
MESSAGE = Message(MessageKind.SNAPSHOT, 2, 1, 5, snapshot=MARK)
FILES = HERE / "snap"


async def receive(gate: Gate, begun: asyncio.Event) -> None:
    """Receive a chunk, and wait for a next one that does not come."""
    async with gate.receiving(MESSAGE) as sink:
        assert sink is not None
        await sink.write(b"x" * 100_000)
        begun.set()
        await asyncio.Event().wait()


def disk_of(member: ClusterMember) -> FakeDisk:
    assert isinstance(member.disk, FakeDisk)
    return member.disk


async def test_a_stop_gives_up_what_is_being_received() -> None:
    async with cluster(1) as running:
        member, begun = running[1], asyncio.Event()
        receiving = asyncio.ensure_future(receive(member.raft.gate, begun))
        await begun.wait()
        await member.kill()
        with pytest.raises(SwarmError, match="is stopping") as caught:
            await receiving
        assert caught.value.code is Code.UNAVAILABLE
        assert disk_of(member).open_files == 0
        assert disk_of(member).files(FILES) == []


async def test_one_snapshot_is_received_at_a_time() -> None:
    async with cluster(1) as running:
        gate, begun = running[1].raft.gate, asyncio.Event()
        receiving = asyncio.ensure_future(receive(gate, begun))
        await begun.wait()
        with pytest.raises(SwarmError, match="another snapshot is being received"):
            await receive(gate, asyncio.Event())
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
        await until(lambda: disk_of(running[1]).files(FILES) == [])


async def test_a_disk_that_fails_under_a_received_snapshot_fails_the_log() -> None:
    async with cluster(1) as running:
        member = running[1]
        disk_of(member).fault = lambda _what, path: errno.EIO if path.parent == FILES else None
        with pytest.raises(SwarmError, match="Input/output error"):
            await receive(member.raft.gate, asyncio.Event())
        async with asyncio.timeout(10):
            assert "Input/output error" in (await member.raft.failed()).message


async def test_who_says_hello_next_is_told_where_the_last_one_is() -> None:
    async with cluster(3) as running:
        gate = running[1].raft.gate
        moved = make_hello(Metadata(CLUSTER, 2), 1, 1, addr="10.0.0.9:2377")
        gate.admit(moved, NodeName(CLUSTER, "node2", NodeRole.MANAGER))  # and its answer is being written
        assert gate.places()[2] == "10.0.0.9:2377"
        assert gate.places()[3] == running[3].addr
