"""How long writes stand still while a snapshot of a large store is taken.

    python -m scripts.bench snapshot_pause [--tasks 1000000] [--rounds 5]

One member, its log on disk, encrypted. A writer changes one task after the other, and each change is synced before it
is answered. A round's figure is the longest that a change took while a snapshot was copied, encoded, written and
adopted; beside it stands the longest in as many
seconds without one.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from manager import heap
from manager.raft.driver import RaftThread, bootstrap
from manager.store.snapshot import Snapshot
from manager.store.state import State
from manager.store.store import Store
from manager.store.tables import TASKS
from manager.store.transaction import Transaction
from scripts.bench.report import Row, cell, median, report, table
from scripts.bench.store import BATCH, MEMBER, opened, tasks
from scripts.bench.trio import sealer_of

TARGET_MS: Final = 50.0
REST_S: Final = 1.0


@dataclass(frozen=True)
class Round:
    """The snapshot's seconds, its copy's ms, and the longest change meanwhile and without one, in ms."""

    took_s: float
    copy_ms: float
    longest_ms: float
    quiet_ms: float


class Changes:
    """Changes one task after the other; `longest_ms` is of those that ended since `restart`."""

    def __init__(self, store: Store, ids: list[str]) -> None:
        self._store, self._ids = store, ids
        self.longest_ms = 0.0

    def restart(self) -> None:
        self.longest_ms = 0.0

    async def run(self) -> None:
        while True:
            for row_id in self._ids:

                def change(tx: Transaction, row_id: str = row_id) -> None:
                    task = tx.get(TASKS, row_id)
                    assert task is not None, "it was stored"
                    tx.update(TASKS, msgspec.structs.replace(task, status_at=time.time()))

                began_s = time.perf_counter()
                await self._store.update(change)
                self.longest_ms = max(self.longest_ms, (time.perf_counter() - began_s) * 1000)


async def one_round(store: Store, raft: RaftThread, changes: Changes) -> Round:
    await asyncio.sleep(REST_S)
    changes.restart()
    began_s = time.perf_counter()
    snapshot = store.snapshot()
    copied_s = time.perf_counter()
    await raft.snapshot(snapshot.index, snapshot)
    took_s = time.perf_counter() - began_s
    await asyncio.sleep(0.1)  # the change that was under way counts, too
    longest_ms = changes.longest_ms
    changes.restart()
    await asyncio.sleep(took_s)
    return Round(took_s, (copied_s - began_s) * 1000, longest_ms, changes.longest_ms)


async def rounds_of(directory: Path, count: int, rounds: int) -> list[Round]:
    sealer = sealer_of(directory)
    bootstrap(directory, MEMBER, salt=1, sealer=sealer)
    state = State()
    for task in tasks(count):
        state.rows(TASKS).put(task)
    state.revision, state.index = count // BATCH, 1
    async with opened(directory, sealer) as (store, raft):
        await store.restore(Snapshot(state))
        del state
        ids = list(store.view().all(TASKS))[:: max(1, count // 1000)]
        heap.set_aside()
        changes = Changes(store, [task.id for task in ids])
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(changes.run())
            found = [await one_round(store, raft, changes) for _ in range(rounds)]
            writing.cancel()
        return found


def measure(count: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-snapshot-") as name:
        found = asyncio.run(rounds_of(Path(name) / "raft", count, rounds))
    longest = [one.longest_ms for one in found]
    rows: list[Row] = [
        ("longest change during the snapshot, ms", max(longest), " ".join(map(cell, longest)), TARGET_MS),
        ("longest change without, ms", max(r.quiet_ms for r in found), " ".join(cell(r.quiet_ms) for r in found), None),
        ("copy, ms", median([r.copy_ms for r in found]), " ".join(cell(r.copy_ms) for r in found), None),
        ("whole snapshot, s", median([r.took_s for r in found]), " ".join(cell(r.took_s) for r in found), None),
    ]
    table([f"{count} tasks", "figure", "rounds", "target"], rows)
    report("snapshot_pause", max(longest), None, "ms", tasks=count, median=round(median(longest), 2))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    measure(given.tasks, given.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
