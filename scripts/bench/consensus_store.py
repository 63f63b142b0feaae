"""The store of three members: changed objects a second, and reads that see all that was acknowledged before them.

    python -m scripts.bench consensus_store [--objects 100000] [--rounds 5] [--readers 64]

The leader is in this process, its two followers are processes of their own; logs are encrypted and synced as a
manager's are. Updates: transactions of 200 objects, several waiting at a time. Reads in process: a barrier, then a row.
Reads over gRPC: `client.configs.get` of a cluster, asked of its leader and of another manager.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec

from manager.store.store import Store
from manager.store.tables import TASKS
from manager.store.transaction import Transaction
from scripts.bench.managers import creating, whole
from scripts.bench.report import Row, cell, median, report, table
from scripts.bench.store import BATCH, WAITING, tasks
from scripts.bench.trio import trio
from scripts.cluster import Cluster
from scripts.cluster.node import Node
from swarmpy.model.task import Task

MANAGERS: Final = 3
UPDATES_TARGET, READS_TARGET, CALLS_TARGET = 30_000.0, 20_000.0, 2_000.0


async def fill(store: Store, count: int) -> list[list[str]]:
    """Create `count` tasks; return their ids in batches."""
    rows = list(tasks(count))
    batches = [rows[start : start + BATCH] for start in range(0, count, BATCH)]
    for batch in batches:

        def change(tx: Transaction, batch: list[Task] = batch) -> None:
            for row in batch:
                tx.create(TASKS, row)

        await store.update(change)
    return [[row.id for row in batch] for batch in batches]


async def updates_per_s(store: Store, batches: list[list[str]]) -> float:
    """Change every task once, a transaction for each batch; return the changes a second."""
    waiting = iter(batches)

    async def write() -> None:
        for ids in waiting:

            def change(tx: Transaction, ids: list[str] = ids) -> None:
                for row_id in ids:
                    task = tx.get(TASKS, row_id)
                    assert task is not None, "created before"
                    tx.update(TASKS, msgspec.structs.replace(task, message="changed", status_at=time.time()))

            await store.update(change)

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(WAITING):
            group.create_task(write())
    return sum(map(len, batches)) / (time.perf_counter() - began_s)


async def per_s(reads: Sequence[Callable[[], Awaitable[object]]], seconds: float) -> float:
    """Let so many readers read, one after the other each; return how often they did in a second."""
    end_s = time.perf_counter() + seconds
    count = 0

    async def work(read: Callable[[], Awaitable[object]]) -> None:
        nonlocal count
        while time.perf_counter() < end_s:
            await read()
            count += 1

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for read in reads:
            group.create_task(work(read))
    return count / (time.perf_counter() - began_s)


async def in_process(objects: int, rounds: int, readers: int, seconds: float) -> tuple[list[float], list[float]]:
    with tempfile.TemporaryDirectory(prefix="bench-trio-") as name:
        async with trio(Path(name)) as (store, raft, _):
            batches = await fill(store, objects)
            row_id = batches[0][0]

            async def read() -> None:
                await raft.read_barrier()
                assert store.view().get(TASKS, row_id) is not None, "created before"

            updates, reads = [], []
            for _ in range(rounds):
                updates.append(await updates_per_s(store, batches))
                reads.append(await per_s([read] * readers, seconds))
            return updates, reads


async def over_grpc(rounds: int, readers: int, seconds: float) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = {"the leader": [], "another manager": []}
    async with Cluster(managers=MANAGERS) as cluster:
        await whole(cluster, cluster.client)
        await creating(cluster.client)("read")
        leader = await cluster.leader()
        other = next(node for node in cluster.managers if node is not leader)
        for _ in range(rounds):
            for who, node in zip(rates, (leader, other), strict=True):
                rates[who].append(await _calls_per_s(node, readers, seconds))
    return rates


async def _calls_per_s(node: Node, readers: int, seconds: float) -> float:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(node.connect()) for _ in range(readers)]
        return await per_s([functools.partial(client.configs.get, "read") for client in clients], seconds)


def measure(objects: int, rounds: int, readers: int, seconds: float) -> None:
    updates, reads = asyncio.run(in_process(objects, rounds, readers, seconds))
    calls = asyncio.run(over_grpc(rounds, readers, seconds))
    rows: list[Row] = [
        ("object updates a second, in process", median(updates), " ".join(map(cell, updates)), UPDATES_TARGET),
        (f"reads a second, in process, {readers} at once", median(reads), " ".join(map(cell, reads)), READS_TARGET),
    ]
    rows += [
        (f"reads a second over gRPC from {who}, {readers} at once", median(r), " ".join(map(cell, r)), CALLS_TARGET)
        for who, r in calls.items()
    ]
    table(["what", "median", "rounds", "target"], rows)
    report("consensus_store_updates", median(updates), None, "objects/s")
    report("consensus_store_reads", median(reads), None, "reads/s", readers=readers)
    report("consensus_grpc_reads", median(calls["the leader"]), None, "reads/s", readers=readers)
    report("consensus_grpc_reads_elsewhere", median(calls["another manager"]), None, "reads/s", readers=readers)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--readers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    given = parser.parse_args()
    measure(given.objects, given.rounds, given.readers, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
