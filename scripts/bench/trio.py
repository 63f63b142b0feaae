"""Three members with their stores, one in this process and two in processes of their own, as managers have them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import grpc.aio

from manager.peers import peer_name
from manager.raft.api import Peer, StateMachine
from manager.raft.config import CoreConfig
from manager.raft.driver import DriverConfig, RaftThread
from manager.raft.log import storage
from manager.raft.log.crypt import AesGcm
from manager.raft.log.disk import OsDisk
from manager.raft.log.key_file import key_file, load_or_make_key
from manager.raft.node import NodeConfig
from manager.raft.transport.links import Network
from manager.raft.transport.servicer import RaftServicer
from manager.raft.types import ConfState, Entry, EntryKind, Leadership, Metadata, SnapshotMark
from manager.store.store import Store
from swarmpy import log as logging
from swarmpy.clock import SystemClock
from swarmpy.model.states import NodeRole
from swarmpy.rpc.dial import SERVER
from swarmpy.rpc.server import Boundary
from swarmpy.rpc.tls import server_credentials
from swarmpy.security import identity as identities
from swarmpy.security.identity import Identity
from swarmpy.security.names import NodeName
from swarmpy.security.x509 import issue, new_csr_pem, new_key_pem, new_root

CLUSTER: Final = "bench"
VOTERS: Final = (1, 2, 3)
LEADER: Final = 1
DAY_S: Final = 86_400.0
PATIENT: Final = DriverConfig(node=NodeConfig(core=CoreConfig(election_ticks=40)))
"""For those who are to follow."""


def address_of(root: Path, member_id: int) -> str:
    return (root / f"{member_id}.addr").read_text()


def prepare(root: Path) -> None:
    """Write certificates, addresses and empty logs of three voters below `root`."""
    now_s = SystemClock().now()
    authority = new_root(CLUSTER, now_s=now_s)
    for member_id in VOTERS:
        key = new_key_pem()
        name = NodeName(CLUSTER, f"node{member_id}", NodeRole.MANAGER)
        certificate = issue(authority, new_csr_pem(key), name, now_s=now_s, life_s=DAY_S)
        here = root / str(member_id)
        here.mkdir()
        identities.save(here, Identity(CLUSTER, name.node_id, NodeRole.MANAGER, key, certificate, authority.cert_pem))
        sealer = sealer_of(here / "raft")
        metadata, conf = Metadata(CLUSTER, member_id), ConfState(voters=VOTERS)
        storage.create(OsDisk(), here / "raft", metadata, conf, salt=member_id, sealer=sealer)
        with socket.create_server(("127.0.0.1", 0)) as free:
            (root / f"{member_id}.addr").write_text(f"127.0.0.1:{free.getsockname()[1]}")


def sealer_of(directory: Path) -> AesGcm:
    """Return what encrypts the log in `directory`, as a manager's is; its key is made if there is none."""
    path = key_file(directory)
    return AesGcm((load_or_make_key(path, os.urandom),), os.urandom, path)


@asynccontextmanager
async def member(root: Path, member_id: int, config: DriverConfig) -> AsyncIterator[tuple[Store, RaftThread]]:
    """Run one member as a manager does; the one that is to lead leads when this is entered."""
    logging.configure(f"member {member_id}", level="error")
    here, leading = root / str(member_id), asyncio.Event()
    identity = identities.load(here)
    assert identity is not None, "prepare() was called"

    def apply(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL:
                store.apply(entry.index, entry.data)

    async def restore(mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        await store.restore(chunks)

    def told(leadership: Leadership) -> None:
        if leadership.is_leader:
            leading.set()

    machine = StateMachine(apply, restore, told)
    network, metadata = Network(lambda: identity), Metadata(CLUSTER, member_id)
    raft = RaftThread(
        here / "raft",
        metadata,
        machine,
        config=config,
        network=network,
        rng=random.Random(),
        sealer=sealer_of(here / "raft"),
    )
    store = Store(raft)
    await raft.start()
    server = grpc.aio.server(interceptors=(Boundary(),), options=SERVER)
    try:
        RaftServicer(raft.gate, peer_name).add_to(server)
        server.add_secure_port(address_of(root, member_id), server_credentials(identity))
        await server.start()
        raft.set_peers({n: Peer(f"node{n}", address_of(root, n)) for n in VOTERS if n != member_id})
        async with asyncio.TaskGroup() as group:
            running = group.create_task(store.run())
            if member_id == LEADER:
                await leading.wait()
            yield store, raft
            running.cancel()
    finally:
        await server.stop(None)
        await raft.stop()


@contextlib.contextmanager
def followers(root: Path) -> Iterator[list[int]]:
    """Run the other members in processes of their own; yields their pids."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for member_id in VOTERS:
            if member_id != LEADER:
                command = [sys.executable, "-m", "scripts.bench.trio", str(root), str(member_id)]
                started.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        yield [process.pid for process in started]
    finally:
        for process in started:
            assert process.stdin is not None, "it is a pipe"
            process.stdin.close()  # by which it knows that it is to end
            process.wait()


@asynccontextmanager
async def trio(root: Path) -> AsyncIterator[tuple[Store, RaftThread, list[int]]]:
    """Run all three; yields the leader's store and log, and the pids of the others."""
    prepare(root)
    with followers(root) as pids:
        async with member(root, LEADER, DriverConfig()) as (store, raft):
            yield store, raft, pids


async def _follow(root: Path, member_id: int) -> None:
    async with member(root, member_id, PATIENT):
        await asyncio.to_thread(sys.stdin.read)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("member", type=int)
    given = parser.parse_args()
    asyncio.run(_follow(given.root, given.member))
    return 0


if __name__ == "__main__":
    sys.exit(main())
