"""Members with real threads, sockets and certificates in one process."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc.aio

from manager.peers import peer_name
from manager.raft.api import Peer, StateMachine
from manager.raft.driver import DriverConfig, RaftThread, bootstrap
from manager.raft.log.disk import Disk, OsDisk
from manager.raft.node import NodeConfig
from manager.raft.transport.links import Network
from manager.raft.transport.servicer import RaftServicer
from manager.raft.types import (
    ConfChange,
    ConfChangeKind,
    Entry,
    EntryKind,
    Leadership,
    MemberChange,
    Metadata,
    SnapshotMark,
)
from swarmpy.clock import SystemClock
from swarmpy.model.states import NodeRole
from swarmpy.rpc.dial import SERVER
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.tls import server_credentials
from swarmpy.security.identity import Identity
from swarmpy.security.names import NodeName
from swarmpy.security.x509 import Root, issue, new_csr_pem, new_key_pem, new_root
from tests.support.disk import FakeDisk

HERE: Final = Path("/member")
CLUSTER: Final = "cluster1"
DEADLINE_S: Final = 10.0
CONFIG: Final = DriverConfig(tick_s=0.02, node=NodeConfig(segment_bytes=256 * 1024, keep_entries=5))


class Authority:
    """Issues the members' certificates."""

    def __init__(self, now_s: float) -> None:
        self._root: Root = new_root(CLUSTER, now_s=now_s)
        self._now_s = now_s

    def identity(self, node_id: str, role: NodeRole = NodeRole.MANAGER, cluster_id: str = CLUSTER) -> Identity:
        key = new_key_pem()
        name = NodeName(cluster_id, node_id, role)
        cert = issue(self._root, new_csr_pem(key), name, now_s=self._now_s, life_s=86_400)
        return Identity(cluster_id, node_id, role, key, cert, self._root.cert_pem)


class Machine:
    """A list of what was applied."""

    def __init__(self) -> None:
        self.applied: list[bytes] = []
        self.index = 0
        self.leadership: list[Leadership] = []
        self.restored: list[int] = []
        self.changed = asyncio.Event()
        self.gate: asyncio.Event | None = None  # holds a restore up

    def callbacks(self) -> StateMachine:
        return StateMachine(self._apply, self._restore, self._told)

    def _apply(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            assert entry.index == self.index + 1, "in order, without holes"
            self.index = entry.index
            if entry.kind is EntryKind.NORMAL:
                self.applied.append(entry.data)
        self.changed.set()

    async def _restore(self, mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        taken = [chunk async for chunk in chunks]
        if self.gate is not None:
            await self.gate.wait()
        self.applied, self.index = taken, mark.index
        self.restored.append(mark.index)
        self.changed.set()

    def _told(self, leadership: Leadership) -> None:
        self.leadership.append(leadership)
        self.changed.set()


class ClusterMember:
    """One member: its disk stays through its runs."""

    def __init__(self, cluster: RaftCluster, member_id: int, *, joins: bool, disk: Disk | None = None) -> None:
        self._cluster, self.member_id = cluster, member_id
        self.metadata = Metadata(CLUSTER, member_id)
        self.disk: Disk = disk or (OsDisk() if cluster.is_on_disk else FakeDisk())
        self.directory = cluster.directory(member_id)
        self.identity = cluster.authority.identity(f"node{member_id}")
        self.addr = ""
        self.alive = False
        if joins:
            bootstrap(
                self.directory, self.metadata, salt=member_id, joins=True, config=cluster.config.node, disk=self.disk
            )

    @property
    def peer(self) -> Peer:
        return Peer(f"node{self.member_id}", self.addr)

    async def listen(self) -> None:
        """Take a port; the server answers from `start` on."""
        self._server = grpc.aio.server(interceptors=(Boundary(),), options=SERVER)
        port = self._server.add_secure_port("127.0.0.1:0", server_credentials(self.identity))
        self.addr = f"127.0.0.1:{port}"

    async def start(self) -> None:
        if not self.addr:
            await self.listen()
        self.machine = Machine()
        network = Network(lambda: self.identity, addr=self.addr)
        self.raft = RaftThread(
            self.directory,
            self.metadata,
            self.machine.callbacks(),
            config=self._cluster.config,
            disk=self.disk,
            network=network,
            rng=random.Random(self.member_id),
        )
        await self.raft.start()
        RaftServicer(self.raft.gate, peer_name, addr=self.addr).add_to(self._server)
        await self._server.start()
        self.alive = True

    async def kill(self) -> None:
        """Close its sockets without a word, and end its thread."""
        self.alive = False
        await self._server.stop(None)
        await self.raft.stop()
        self.addr = ""

    @property
    def leads(self) -> bool:
        return bool(self.machine.leadership) and self.machine.leadership[-1].is_leader

    async def snapshot(self) -> SnapshotMark:
        return await self.raft.snapshot(self.machine.index, list(self.machine.applied))


class RaftCluster:
    """Members 1 to `count`, all of them voters from the beginning, and whoever joins."""

    def __init__(self, config: DriverConfig = CONFIG, on_disk: Path | None = None) -> None:
        self.config, self._on_disk = config, on_disk
        self.authority = Authority(SystemClock().now())  # TLS looks at the machine's own clock
        self.members: dict[int, ClusterMember] = {}

    @property
    def is_on_disk(self) -> bool:
        return self._on_disk is not None

    def directory(self, member_id: int) -> Path:
        return self._on_disk / str(member_id) if self._on_disk is not None else HERE

    def __getitem__(self, member_id: int) -> ClusterMember:
        return self.members[member_id]

    @property
    def running(self) -> list[ClusterMember]:
        return [member for member in self.members.values() if member.alive]

    def tell_peers(self) -> None:
        """Tell every member where the others are."""
        for member in self.running:
            member.raft.set_peers({m.member_id: m.peer for m in self.members.values() if m is not member and m.addr})

    async def add(self, member_id: int, *, joins: bool, disk: Disk | None = None) -> ClusterMember:
        """Begin a member, and let all know of it."""
        member = self.members[member_id] = ClusterMember(self, member_id, joins=joins, disk=disk)
        await member.start()
        self.tell_peers()
        return member

    async def restart(self, member_id: int) -> ClusterMember:
        """Start a member again, on another port."""
        member = self.members[member_id]
        await member.start()
        self.tell_peers()
        return member

    async def move(self, *member_ids: int) -> None:
        """Start members again on other ports, at the same time; nobody is told, and they know the others' old ones."""
        known = {member.member_id: member.peer for member in self.members.values()}
        moving = [self.members[member_id] for member_id in member_ids]
        for member in moving:
            await member.kill()
        for member in moving:
            await member.listen()
        for member in moving:
            await member.start()
            member.raft.set_peers({other_id: peer for other_id, peer in known.items() if other_id != member.member_id})

    async def leader(self) -> ClusterMember:
        """Wait until one member leads and has applied all that was committed."""
        await until(lambda: any(member.leads for member in self.running))
        return max((m for m in self.running if m.leads), key=lambda m: m.machine.leadership[-1].term)

    async def add_voter(self, member_id: int) -> ClusterMember:
        """Let a member join: as a learner, then as a voter."""
        member = await self.add(member_id, joins=True)
        leader = await self.leader()
        await leader.raft.change_members(change(ConfChangeKind.ADD_LEARNER, member_id))
        await until(lambda: member.machine.index >= leader.machine.index)
        await leader.raft.change_members(change(ConfChangeKind.ADD_VOTER, member_id))
        return member


def change(kind: ConfChangeKind, *member_ids: int) -> ConfChange:
    return ConfChange(tuple(MemberChange(kind, member_id) for member_id in member_ids))


async def pause() -> None:
    """Give other threads a while before something is tried again."""
    await asyncio.sleep(0.05)


async def until(condition: Callable[[], bool], pause_s: float = 0.002) -> None:
    """Wait until `condition` holds, or fail."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is looked at belongs to other threads
            await asyncio.sleep(pause_s)


@asynccontextmanager
async def cluster(count: int, config: DriverConfig = CONFIG, on_disk: Path | None = None) -> AsyncIterator[RaftCluster]:
    """Run a cluster of so many voters."""
    running = RaftCluster(config, on_disk)
    try:
        first = running.members[1] = ClusterMember(running, 1, joins=False)
        bootstrap(first.directory, first.metadata, salt=1, config=config.node, disk=first.disk)
        await first.start()
        for member_id in range(2, count + 1):
            await running.add_voter(member_id)
        yield running
    finally:
        for member in running.running:
            await member.kill()
