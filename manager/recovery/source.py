"""Where the state comes from: the manager's own snapshot and whole log, or a snapshot file. Changes nothing on disk."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from manager.raft.log.crypt import Sealer
from manager.raft.log.disk import Disk
from manager.raft.log.faults import damaged
from manager.raft.log.replay import replay
from manager.raft.log.snapshot_file import SnapshotReader, snapshot_name
from manager.raft.log.storage import LOG_DIR, SNAPSHOT_DIR
from manager.raft.types import EntryKind, SnapshotMark
from manager.store.snapshot import SnapshotReader as StateReader
from manager.store.state import State
from swarmpy.errors import Code, SwarmError, precondition
from swarmpy.snapshot.format import Header
from swarmpy.snapshot.reader import SnapshotFile


@dataclass(frozen=True)
class Source:
    """A state, and where in which log it stands.

    Attributes:
        index: of the last entry, one without data counted.
        committed: the last entry that was known to be committed.
        saved: the header of the file that it is from, None if it is this manager's own.
    """

    state: State
    index: int
    term: int
    committed: int
    saved: Header | None = None


def read_log(disk: Disk, directory: Path, sealer: Sealer, cluster_id: str) -> Source:
    """Return the state after every entry that is stored in `directory`, known to be committed or not.

    Raises:
        SwarmError: NOT_FOUND, CORRUPT, FAILED_PRECONDITION: there is no log, it is damaged, or its key is missing.
    """
    log = replay(disk, directory / LOG_DIR, sealer)
    if log.metadata.cluster_id != cluster_id:
        raise precondition(f"{directory} belongs to cluster {log.metadata.cluster_id}, not to {cluster_id}")
    state = _read_snapshot(disk, directory / SNAPSHOT_DIR, log.mark, sealer) if log.mark.index else State()
    for entry in log.entries:
        if entry.index > log.mark.index and entry.kind is EntryKind.NORMAL:
            state.apply(entry.index, entry.data)
    last_term = log.entries[-1].term if log.entries else log.mark.term
    return Source(state, log.tail.last_index, max(log.hard_state.term, last_term), log.tail.committed)


def read_file(path: Path, cluster_id: str) -> Source:
    """Return the state of a snapshot file. CORRUPT, FAILED_PRECONDITION: it is none of this cluster's, or damaged."""
    with SnapshotFile(path) as file:
        state, header = _restore(file.chunks()), file.header
    if header.cluster.id != cluster_id:
        raise precondition(f"{path} is a snapshot of cluster {header.cluster.id}, not of {cluster_id}")
    if (state.revision, state.index) != (header.revision, header.index):
        raise SwarmError(
            Code.CORRUPT,
            f"{path} says that it is of revision {header.revision}, and holds revision {state.revision}: "
            "use another snapshot",
        )
    return Source(state, header.index, header.term, header.index, header)


def _read_snapshot(disk: Disk, directory: Path, mark: SnapshotMark, sealer: Sealer) -> State:
    path = directory / snapshot_name(mark)
    try:
        reader = SnapshotReader(disk, path, sealer)
    except FileNotFoundError as error:
        raise damaged(path, 0, "the file is missing") from error
    try:
        return _restore(reader.chunks())
    finally:
        reader.close()


def _restore(chunks: Iterable[bytes]) -> State:
    reader = StateReader()
    for chunk in chunks:
        for _ in reader.feed(chunk):
            pass
    return reader.finish()
