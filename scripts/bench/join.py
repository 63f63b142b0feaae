"""How long a manager takes to join a cluster with a long log, and what that costs those who write meanwhile.

    python -m scripts.bench join [--rounds 5] [--entries 100000]

One manager whose log holds so many entries, all of them newer than its snapshot: configs that were made and removed
again. A round is from `swarm join` to the new manager having its vote and serving, with a client that makes small
configs through the first one all the while. The new one is demoted and taken away before the next.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from manager.raft.api import StateMachine
from manager.raft.driver import RaftThread
from manager.raft.types import Entry, EntryKind, Leadership, Metadata, SnapshotMark
from manager.store.line import Limits
from manager.store.store import Store
from manager.store.tables import CONFIGS
from manager.store.transaction import Transaction
from scripts.bench.managers import PATIENCE_S, creating, percentile, row_of, set_role, writing
from scripts.bench.report import Row, cell, median, report, table
from scripts.bench.trio import sealer_of
from scripts.cluster import Cluster, until
from scripts.cluster.node import Node
from swarmpy.client import Client
from swarmpy.ids import new_id
from swarmpy.model.config import Config, ConfigSpec
from swarmpy.model.states import NodeRole, NodeState
from swarmpy.security import identity as identities

TARGET_S: Final = 3.0
WRITE_TARGET_MS: Final = 100.0
DOCKER_S: Final = 10.0
FOUNDER: Final = 1
PAIRS_AT_ONCE: Final = 64
NO_SNAPSHOTS: Final = 10_000_000


@dataclass(frozen=True)
class Round:
    """Seconds until it serves and votes, and the writes meanwhile: their median and longest, ms, and their number."""

    took_s: float
    write_ms: float
    longest_ms: float
    writes: int


async def prolong(node: Node, entries: int) -> None:
    """Append entries to the log of the only manager, which is stopped: an entry for each transaction."""
    identity, directory = identities.load(node.state_dir), node.state_dir / "manager" / "raft"
    assert identity is not None, "it made the cluster"
    leading = asyncio.Event()

    def apply(applied: Sequence[Entry]) -> None:
        for entry in applied:
            if entry.kind is EntryKind.NORMAL:
                store.apply(entry.index, entry.data)

    async def restore(mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        await store.restore(chunks)

    def told(leadership: Leadership) -> None:
        leading.set()

    metadata, machine = Metadata(identity.cluster_id, FOUNDER), StateMachine(apply, restore, told)
    raft = RaftThread(directory, metadata, machine, sealer=sealer_of(directory))
    store = Store(raft, limits=Limits(changes=1, entries_in_flight=PAIRS_AT_ONCE))
    await raft.start()
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(store.run())
            await leading.wait()
            await make_pairs(store, entries // 2)
            running.cancel()
    finally:
        await raft.stop()


async def make_pairs(store: Store, count: int) -> None:
    """Make configs, and remove each again."""
    rng = random.Random(1)
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            config = Config(id=new_id(rng.randbytes), spec=ConfigSpec(name=f"past-{number}", data=b"x"))
            await store.update(functools.partial(_create, config=config))
            await store.update(functools.partial(_delete, config=config))

    async with asyncio.TaskGroup() as group:
        for _ in range(PAIRS_AT_ONCE):
            group.create_task(work())


def _create(tx: Transaction, config: Config) -> None:
    tx.create(CONFIGS, config)


def _delete(tx: Transaction, config: Config) -> None:
    tx.delete(CONFIGS, config.id)


async def join_once(cluster: Cluster, client: Client) -> Round:
    """Let a new node join as a manager; it is gone again in the end."""
    node = cluster.new_node()
    node.start()
    await node.ready()
    token = (await cluster.join_tokens()).manager
    async with writing(creating(client)) as writer:
        before, began_s = len(writer.writes), time.perf_counter()
        await node.client.node.join(cluster.join_address, token, timeout_s=PATIENCE_S)

        async def votes() -> bool:
            manager = (await row_of(client, node)).manager
            return manager is not None and not manager.learner

        await until(votes, what=f"{node.name} has a vote", deadline_s=PATIENCE_S)
        took_s = time.perf_counter() - began_s
        await writer.write_more(20)
        times_ms = [took * 1000 for _, took in writer.writes[before:]]
    await set_role(client, node, NodeRole.WORKER)
    await take_away(cluster, client, node)
    return Round(took_s, median(times_ms), max(times_ms), len(times_ms))


async def take_away(cluster: Cluster, client: Client, node: Node) -> None:
    """Stop a node and forget it: the next one has its name."""
    row = await row_of(client, node)
    await node.close()
    node.terminate()
    await asyncio.to_thread(node.stopped)
    cluster.nodes.remove(node)
    shutil.rmtree(node.state_dir)
    await client.nodes.remove(row.id, force=True)


async def rounds_of(rounds: int, entries: int) -> tuple[list[Round], int]:
    async with Cluster() as cluster:
        first = cluster.manager
        cluster_row = (await first.client.cluster.get()).cluster
        spec = msgspec.structs.replace(cluster_row.spec, snapshot_interval=NO_SNAPSHOTS)
        await first.client.cluster.update(cluster_row, spec)
        await first.close()
        first.terminate()
        await asyncio.to_thread(first.stopped)
        await prolong(first, entries)
        first.start()
        await first.ready()

        async def serves() -> bool:
            return (await row_of(first.client, first)).state is NodeState.READY

        await until(serves, what="the manager is back", deadline_s=PATIENCE_S)
        consensus = await first.client.cluster.consensus()
        held = consensus.last_index - consensus.first_index + 1
        return [await join_once(cluster, first.client) for _ in range(rounds)], held


def measure(rounds: int, entries: int) -> None:
    found, held = asyncio.run(rounds_of(rounds, entries))
    took, longest = [one.took_s for one in found], [one.longest_ms for one in found]
    rows: list[Row] = [
        ("join to vote and service, s", median(took), " ".join(map(cell, took)), TARGET_S),
        ("longest write meanwhile, ms", max(longest), " ".join(map(cell, longest)), WRITE_TARGET_MS),
        ("median write meanwhile, ms", median([r.write_ms for r in found]), "", None),
        ("Docker Swarm, 6,000 pairs in its log, s (stored: 6-14)", DOCKER_S, "", None),
    ]
    table([f"{held} entries in the log", "figure", "rounds", "target"], rows)
    report("join", median(took), DOCKER_S, "s", entries=held, longest_write_ms=round(percentile(longest, 100), 1))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--entries", type=int, default=100_000)
    given = parser.parse_args()
    measure(given.rounds, given.entries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
