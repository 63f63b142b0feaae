"""A process that proposes until it is killed: `python -m tests.support.raft_child DIR ROUND`.

It says on standard output: `state SERIAL...` once it leads (what was applied, in order), then `ack SERIAL` for each
proposal that returned, or `refused CODE` for one that was not taken. Nothing else is written there: the log goes to
standard error, as every process's does, lest a line of it falls between the words of another thread.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from manager.raft.api import StateMachine
from manager.raft.driver import DriverConfig, RaftThread, bootstrap
from manager.raft.log import storage
from manager.raft.log.disk import OsDisk
from manager.raft.node import NodeConfig
from manager.raft.types import Entry, EntryKind, Leadership, Metadata, SnapshotMark
from swarmpy import log as logging
from swarmpy.errors import SwarmError

ME = Metadata("killed", 3)
CONFIG = DriverConfig(tick_s=0.005, node=NodeConfig(segment_bytes=256 * 1024, keep_entries=20))
SNAPSHOT_EVERY = 150


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def payload(serial: int) -> bytes:
    """Return a proposal's data, so made that a wrong byte shows."""
    size = random.Random(serial).choice((1, 50, 400, 5000))
    return f"{serial}:".encode() + random.Random(serial).randbytes(size)


def serial_of(data: bytes) -> int:
    serial = int(data.partition(b":")[0])
    assert data == payload(serial), f"proposal {serial} was changed"
    return serial


class Machine:
    def __init__(self) -> None:
        self.serials: list[int] = []
        self.index = 0
        self.leads = asyncio.Event()

    def apply(self, entries: Sequence[Entry]) -> None:
        self.serials += [serial_of(e.data) for e in entries if e.kind is EntryKind.NORMAL]
        self.index = entries[-1].index

    async def restore(self, mark: SnapshotMark, chunks: AsyncIterator[bytes]) -> None:
        async for chunk in chunks:
            self.serials += [int(word) for word in chunk.split()]
        self.index = mark.index

    def leadership(self, leadership: Leadership) -> None:
        self.leads.set()


async def propose_forever(log: RaftThread, serials: Iterator[int]) -> None:
    for serial in serials:
        try:
            await log.propose(payload(serial))
        except SwarmError as error:
            say(f"refused {error.code}")
            await asyncio.sleep(0.01)
        else:
            say(f"ack {serial}")


async def snapshot_forever(log: RaftThread, machine: Machine) -> None:
    while True:
        if machine.index - log.status().snapshot.index >= SNAPSHOT_EVERY:
            serials = list(machine.serials)
            pieces = [" ".join(map(str, serials[i : i + 100])).encode() for i in range(0, len(serials), 100)]
            try:
                await log.snapshot(machine.index, pieces)
            except SwarmError as error:
                say(f"refused {error.code}")
        await asyncio.sleep(0.005)


async def main(directory: Path, round_number: int) -> None:
    disk = OsDisk()
    if not storage.exists(disk, directory):
        bootstrap(directory, ME, salt=random.Random(round_number).getrandbits(64), config=CONFIG.node)
    machine = Machine()
    callbacks = StateMachine(machine.apply, machine.restore, machine.leadership)
    log = RaftThread(directory, ME, callbacks, config=CONFIG)
    await log.start()
    await machine.leads.wait()
    say("state " + " ".join(map(str, machine.serials)))
    serials = itertools.count(round_number * 1_000_000)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(propose_forever(log, serials))
        group.create_task(snapshot_forever(log, machine))


if __name__ == "__main__":
    logging.configure("raft_child")
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
