"""The store over its real log: changed objects a second, and how a million tasks come back after a restart.

    python -m scripts.bench store [--objects 100000] [--tasks 1000000] [--rounds 3]

Updates: transactions of 200 objects, several waiting at a time, as control loops write them; each is synced to
disk before it is answered. Restart: a new process opens a log whose snapshot holds the tasks.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from manager.raft.api import StateMachine
from manager.raft.driver import RaftThread, bootstrap
from manager.raft.log.crypt import Sealer
from manager.raft.types import Entry, EntryKind, Metadata, SnapshotMark
from manager.store.snapshot import Snapshot
from manager.store.state import State
from manager.store.store import Store
from manager.store.tables import TASKS
from manager.store.transaction import Transaction
from scripts.bench.report import cell, median, report, table
from swarmpy.clock import SystemClock
from swarmpy.ids import new_id
from swarmpy.model.endpoints import HostPort
from swarmpy.model.states import TaskState
from swarmpy.model.task import Task

UPDATES_TARGET: Final = 20_000.0
RESTORE_TARGET_S: Final = 8.0
RSS_TARGET_MB: Final = 600.0
BATCH: Final = 200
WAITING: Final = 8
SERVICES: Final = 2_000
NODES: Final = 5_000
MEMBER: Final = Metadata("bench", 1)


@asynccontextmanager
async def opened(directory: Path, sealer: Sealer | None = None) -> AsyncIterator[tuple[Store, RaftThread]]:
    """Open the log in `directory` and the store over it, and wait until this member leads."""
    leading = asyncio.Event()

    def apply(entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind is EntryKind.NORMAL:
                store.apply(entry.index, entry.data)

    async def restore(mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        await store.restore(chunks)

    machine = StateMachine(apply=apply, restore=restore, leadership=lambda leadership: leading.set())
    raft = RaftThread(directory, MEMBER, machine, clock=SystemClock(), sealer=sealer)
    store = Store(raft)
    await raft.start()
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(store.run())
            await leading.wait()
            yield store, raft
            running.cancel()
    finally:
        await raft.stop()


def tasks(count: int) -> Iterator[Task]:
    """Make running tasks, as different from each other as real ones."""
    rng = random.Random(1)
    services = [new_id(rng.randbytes) for _ in range(SERVICES)]
    nodes = [new_id(rng.randbytes) for _ in range(NODES)]
    for number in range(count):
        created_at = 1.7e9 + number // BATCH * 0.01
        yield Task(
            id=new_id(rng.randbytes),
            service_id=services[number % SERVICES],
            spec_version=1,
            slot=number // SERVICES + 1,
            node_id=rng.choice(nodes),
            version=number // BATCH + 1,
            created_at=created_at,
            state=TaskState.RUNNING,
            status_at=created_at + rng.random(),
            message="started",
            pid=rng.randrange(2, 1 << 22),
            ready=True,
            ready_since=created_at + 1 + rng.random(),
            host_ports=(HostPort(target=8080, port=rng.randrange(20_000, 32_768)),),
        )


async def updates_per_s(directory: Path, count: int) -> float:
    """Create `count` tasks, then change each once in batches; return the changes a second."""
    bootstrap(directory, MEMBER, salt=1)
    rows = list(tasks(count))
    async with opened(directory) as (store, _):
        for batch in (rows[start : start + BATCH] for start in range(0, count, BATCH)):
            await store.update(lambda tx, batch=batch: [tx.create(TASKS, row) for row in batch] and None)  # type: ignore[misc]  # a lambda's default has no type
        batches = iter([[row.id for row in rows[start : start + BATCH]] for start in range(0, count, BATCH)])

        async def writer() -> None:
            for ids in batches:

                def change(tx: Transaction, ids: list[str] = ids) -> None:
                    for row_id in ids:
                        task = tx.get(TASKS, row_id)
                        assert task is not None, "created above"
                        tx.update(TASKS, msgspec.structs.replace(task, message="changed", status_at=1.8e9))

                await store.update(change)

        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(WAITING):
                group.create_task(writer())
        took_s = time.perf_counter() - began_s
    return count / took_s


async def fill(directory: Path, count: int) -> float:
    """Begin a log with a snapshot of `count` tasks; return how many ms the store stood still for its copy."""
    bootstrap(directory, MEMBER, salt=1)
    state = State()
    for task in tasks(count):
        state.rows(TASKS).put(task)
    state.revision, state.index = count // BATCH, 1
    async with opened(directory) as (store, raft):
        await store.restore(Snapshot(state))
        began_s = time.perf_counter()
        snapshot = store.snapshot()
        copy_ms = (time.perf_counter() - began_s) * 1000
        await raft.snapshot(snapshot.index, snapshot)
    return copy_ms


def memory_mb(field: str) -> float:
    """Return a size of this process, in MB (10**6 bytes)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024 / 1e6


async def restart(directory: Path) -> None:
    """Print how long it takes this process to come back, and its size then. Run in a process of its own."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    async with opened(directory) as (store, _):
        print(
            json.dumps(
                {
                    "seconds": time.perf_counter() - began_s,
                    "cpu_s": time.process_time() - began_cpu_s,
                    "rss_mb": memory_mb("VmRSS"),
                    "peak_mb": memory_mb("VmHWM"),
                    "tasks": len(store.view().all(TASKS)),
                }
            )
        )


def in_new_process(action: str, directory: Path, count: int) -> dict[str, float]:
    """Run a part of this benchmark in a process of its own, so that its memory is its own, too."""
    command = [sys.executable, "-m", "scripts.bench.store", action, str(directory), "--tasks", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(objects: int, count: int, rounds: int) -> None:
    """Measure both and print them."""
    with tempfile.TemporaryDirectory(prefix="bench-store-") as name:
        here = Path(name)
        rates = [asyncio.run(updates_per_s(here / f"updates{n}", objects)) for n in range(rounds)]
        copy_ms = in_new_process("--fill", here / "restart", count)["copy_ms"]
        restarts = [in_new_process("--restart", here / "restart", count) for _ in range(rounds)]
    assert all(found["tasks"] == count for found in restarts), "every task is back"
    seconds = median([found["seconds"] for found in restarts])
    size_mb = median([found["rss_mb"] for found in restarts])
    table(
        ["what", "median", "rounds", "target"],
        [
            ("object updates a second", median(rates), " ".join(map(cell, rates)), UPDATES_TARGET),
            (
                f"restart with {count} tasks, s",
                seconds,
                " ".join(cell(found["seconds"]) for found in restarts),
                RESTORE_TARGET_S,
            ),
            ("its processor time, s", median([found["cpu_s"] for found in restarts]), "", None),
            ("resident then, MB", size_mb, " ".join(cell(found["rss_mb"]) for found in restarts), RSS_TARGET_MB),
            ("highest before, MB", median([found["peak_mb"] for found in restarts]), "", None),
            ("copy for a snapshot, ms", copy_ms, "", None),
        ],
    )
    report("store_updates", median(rates), None, "objects/s")
    report("store_restart", seconds, None, "s", tasks=count)
    report("store_restart_rss", size_mb, None, "MB", tasks=count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fill", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--restart", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.fill:
        print(json.dumps({"copy_ms": asyncio.run(fill(given.fill, given.tasks))}))
    elif given.restart:
        asyncio.run(restart(given.restart))
    else:
        measure(given.objects, given.tasks, given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
