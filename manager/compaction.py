"""Keeps the log short: a snapshot of the store after so many entries, or so many bytes of them.

Runs on every manager, leader or not. Bytes count because an entry holds up to 200 changes: it is they that a restarted
manager has to apply again before it answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import structlog

from manager.raft.types import SnapshotMark, Status
from manager.store.store import Store
from manager.store.tables import CLUSTERS
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec

log = structlog.get_logger(__name__)

CHECK_S: Final = 1.0
RETRY_S: Final = 30.0
LONG_LOG_BYTES: Final = 16 * 1024 * 1024


class Log(Protocol):
    """The replicated log as compaction sees it."""

    def status(self) -> Status: ...

    async def snapshot(self, index: int, chunks: Iterable[bytes]) -> SnapshotMark: ...


class Compaction:
    """Compares the log's length with the cluster's snapshot interval once a second.

    A log as large as the last snapshot may always be kept, so that a large store is not written over and over.
    """

    def __init__(self, store: Store, raft: Log, clock: Clock, applied_bytes: Callable[[], int] = lambda: 0) -> None:
        """`applied_bytes` returns the size of all entries that were applied since this process began."""
        self._store = store
        self._raft = raft
        self._clock = clock
        self._applied_bytes = applied_bytes
        self._bytes_before = 0
        self._snapshot_bytes = 0

    async def run(self) -> None:
        """Take snapshots when they are due, until cancelled. A full disk is logged and tried again later."""
        while True:
            await self._clock.sleep(CHECK_S)
            if not self._is_due():
                continue
            snapshot, applied_bytes = self._store.snapshot(), self._applied_bytes()
            try:
                mark = await self._raft.snapshot(snapshot.index, self._counted(snapshot))
            except SwarmError as error:
                if error.code not in (Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION):
                    raise
                log.warning("snapshot_failed", reason=error.message)
                await self._clock.sleep(RETRY_S)
            else:
                self._bytes_before = applied_bytes
                log.info("snapshot_taken", index=mark.index, size_bytes=self._snapshot_bytes)

    def _is_due(self) -> bool:
        entries = self._store.index - self._raft.status().snapshot.index
        size_bytes = self._applied_bytes() - self._bytes_before
        long_log = size_bytes >= max(LONG_LOG_BYTES, self._snapshot_bytes)
        return entries >= self._interval() or (entries > 0 and long_log)

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        self._snapshot_bytes = 0
        for chunk in chunks:
            self._snapshot_bytes += len(chunk)
            yield chunk

    def _interval(self) -> int:
        spec = next((c.spec for c in self._store.view().all(CLUSTERS)), ClusterSpec())
        return spec.snapshot_interval
