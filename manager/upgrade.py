"""A release that is too old for what the cluster stores must not run: it could not read what the others write."""

from __future__ import annotations

import structlog

from manager.store.store import Store
from manager.store.tables import CLUSTERS
from manager.store.watch import CompactedError
from swarmpy.errors import precondition

log = structlog.get_logger(__name__)


class LevelGuard:
    """Fails once the cluster's feature level is above this release's."""

    def __init__(self, store: Store, feature_level: int) -> None:
        self._store, self._feature_level = store, feature_level

    async def run(self) -> None:
        """Watch the cluster's level until cancelled.

        Raises:
            SwarmError: FAILED_PRECONDITION, this release is too old.
        """
        while True:
            with self._store.watch(CLUSTERS) as watch:
                try:
                    while True:
                        self._check()
                        await watch.next()
                except CompactedError as error:
                    log.info("level_guard_starts_over", reason=error.message)

    def _check(self) -> None:
        for cluster in self._store.view().all(CLUSTERS):
            if cluster.feature_level > self._feature_level:
                raise precondition(
                    f"this manager's release has feature level {self._feature_level}, the cluster is at "
                    f"{cluster.feature_level}: install a newer release of swarmpy on this node"
                )
