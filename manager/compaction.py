"""Keeps the log short: a snapshot of the store after so many entries. Runs on every manager, leader or not."""

from __future__ import annotations

from typing import Final

import structlog

from manager.raft.api import ReplicatedLog
from manager.store.store import Store
from manager.store.tables import CLUSTERS
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.cluster import ClusterSpec

log = structlog.get_logger(__name__)

CHECK_S: Final = 1.0
RETRY_S: Final = 30.0


class Compaction:
    """Compares the log's length with the cluster's snapshot interval once a second."""

    def __init__(self, store: Store, raft: ReplicatedLog, clock: Clock) -> None:
        self._store = store
        self._raft = raft
        self._clock = clock

    async def run(self) -> None:
        """Take snapshots when they are due, until cancelled. A full disk is logged and tried again later."""
        while True:
            await self._clock.sleep(CHECK_S)
            if self._store.index - self._raft.status().snapshot.index < self._interval():
                continue
            snapshot = self._store.snapshot()
            try:
                mark = await self._raft.snapshot(snapshot.index, snapshot)
            except SwarmError as error:
                if error.code not in (Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION):
                    raise
                log.warning("snapshot_failed", reason=error.message)
                await self._clock.sleep(RETRY_S)
            else:
                log.info("snapshot_taken", index=mark.index)

    def _interval(self) -> int:
        spec = next((c.spec for c in self._store.view().all(CLUSTERS)), ClusterSpec())
        return spec.snapshot_interval
