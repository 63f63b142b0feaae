"""A Raft member with a state machine that can be checked: a list of what was applied."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from manager.raft.log import storage
from manager.raft.log.disk import Disk
from manager.raft.log.frame import SECTOR, Frame, decode_frame, decode_segment_header
from manager.raft.log.storage import LOG_DIR, SNAPSHOT_DIR
from manager.raft.node import NodeConfig, RaftNode
from manager.raft.outlet import Delivery, Waiter
from manager.raft.types import Commit, ConfState, EntryKind, Leadership, Message, Metadata
from swarmpy.errors import SwarmError
from tests.support.disk import FakeDisk

HERE: Final = Path("/member")
WAL: Final = HERE / LOG_DIR
SNAP: Final = HERE / SNAPSHOT_DIR
ME: Final = Metadata("cluster1", 7)
SALT: Final = 0x1234_5678_9ABC_DEF0
SMALL: Final = NodeConfig(segment_bytes=8 * 1024, keep_entries=3)


def new_log(disk: Disk, directory: Path = HERE, config: NodeConfig = SMALL) -> None:
    """Begin a log for member `ME`."""
    conf = ConfState(voters=(ME.member_id,))
    storage.create(disk, directory, ME, conf, salt=SALT, segment_bytes=config.segment_bytes)


class Member:
    """One run of an only member, from opening its directory on; a `manager.raft.outlet.Outlet`.

    `applied` is its state: the proposals that were committed, in order, those of a snapshot included.
    """

    def __init__(self, disk: Disk, directory: Path = HERE, config: NodeConfig = SMALL) -> None:
        self.node = RaftNode.open(disk, directory, ME, config, rng=random.Random(1))
        self.applied: list[bytes] = []
        self.leadership: list[Leadership] = []
        self._outcomes: dict[Waiter, object] = {}
        self._delivered: list[int] = []
        self._index = self.node.applied_index
        reader = self.node.snapshot_reader()
        if reader is not None:
            try:
                self.applied.extend(reader.chunks())
            finally:
                reader.close()

    def start(self) -> Member:
        """Stand for leader and apply all that the log holds."""
        self.node.start(self)
        self._run()
        return self

    def propose(self, *batch: bytes) -> list[int | SwarmError]:
        """Propose in one frame; when it returns, what was not refused is acknowledged: its index is returned."""
        waiters = [object() for _ in batch]
        self.node.propose(list(zip(batch, waiters, strict=True)))
        self._run()
        return [_index_of(self._outcomes.pop(waiter)) for waiter in waiters]

    def tick(self) -> None:
        self.node.tick()
        self._run()

    def snapshot(self) -> None:
        """Write the state as a snapshot, a chunk for each applied proposal, and compact."""
        mark = self.node.mark_at(self.node.applied_index)
        writer = self.node.snapshot_writer(mark)
        for data in self.applied:
            writer.write(data)
        writer.finish()
        self.node.adopt_snapshot(mark)

    def close(self) -> None:
        self.node.close()

    def _run(self) -> None:
        self.node.run()
        while self._delivered:
            self.node.applied(self._delivered.pop(0))
            self.node.run()

    # Outlet

    def send(self, messages: Sequence[Message]) -> None:
        raise AssertionError(f"an only member has nobody to send to: {messages}")

    def send_snapshot(self, message: Message) -> None:
        raise AssertionError(f"an only member has nobody to send to: {message}")

    def deliver(self, delivery: Delivery) -> None:
        for entry in delivery.entries:
            assert entry.index == self._index + 1, "in order, without holes"
            self._index = entry.index
            if entry.kind is EntryKind.NORMAL:
                self.applied.append(entry.data)
        self._outcomes.update(delivery.settled)
        if delivery.leadership is not None:
            self.leadership.append(delivery.leadership)
        if delivery.last_index:
            self._delivered.append(delivery.last_index)


def _index_of(outcome: object) -> int | SwarmError:
    if isinstance(outcome, Commit):
        return outcome.index
    assert isinstance(outcome, SwarmError), outcome
    return outcome


def frames(disk: FakeDisk, directory: Path = WAL) -> list[tuple[Path, int, Frame]]:
    """Return all whole frames of a sound log: file, offset and frame."""
    found: list[tuple[Path, int, Frame]] = []
    for path in disk.files(directory):
        if path.suffix != ".wal":
            continue
        data = memoryview(disk.read(path))
        header = decode_segment_header(bytes(data[:SECTOR]))
        assert not isinstance(header, str), header
        offset = SECTOR
        while isinstance(frame := decode_frame(data, offset, salt=header.salt), Frame):
            found.append((path, offset, replace(frame, payload=memoryview(bytes(frame.payload)))))
            offset += frame.size_bytes
    return found
