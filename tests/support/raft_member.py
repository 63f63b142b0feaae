"""A Raft member with a state machine that can be checked: a list of what was applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from manager.raft.log import storage
from manager.raft.log.disk import Disk
from manager.raft.log.frame import SECTOR, Frame, decode_frame, decode_segment_header
from manager.raft.log.storage import LOG_DIR, SNAPSHOT_DIR
from manager.raft.node import NodeConfig, RaftNode
from manager.raft.types import ConfState, Entry, EntryKind, Leadership, Metadata
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
    """One run of a member, from opening its directory on.

    `applied` is its state: the proposals that were committed, in order, those of a snapshot included.
    """

    def __init__(self, disk: Disk, directory: Path = HERE, config: NodeConfig = SMALL) -> None:
        self.node = RaftNode.open(disk, directory, ME, config)
        self.applied: list[bytes] = []
        self.leadership: list[Leadership] = []
        reader = self.node.snapshot_reader()
        if reader is not None:
            try:
                self.applied.extend(reader.chunks())
            finally:
                reader.close()

    def start(self) -> Member:
        """Stand for leader and apply all that the log holds."""
        self.node.start()
        self.node.run(self._hand_out)
        return self

    def propose(self, *batch: bytes) -> list[int | SwarmError]:
        """Propose in one frame; when it returns, what was not refused is acknowledged."""
        results = self.node.propose(batch)
        self.node.run(self._hand_out)
        return results

    def tick(self) -> None:
        self.node.tick()
        self.node.run(self._hand_out)

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

    def _hand_out(self, entries: tuple[Entry, ...], leadership: Leadership | None) -> None:
        for entry in entries:
            assert entry.index == self.node.applied_index + 1, "in order, without holes"
            self.node.applied_index = entry.index
            if entry.kind is EntryKind.NORMAL:
                self.applied.append(entry.data)
        if leadership is not None:
            self.leadership.append(leadership)


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
