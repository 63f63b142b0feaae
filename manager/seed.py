"""The first thing that the first leader does: store what `swarm init` left for it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import structlog

from manager.store.store import Store
from manager.store.tables import CLUSTERS, NODES
from manager.store.transaction import Transaction
from swarmpy.errors import Code, SwarmError
from swarmpy.model.seed import ClusterSeed

log = structlog.get_logger(__name__)


class Sowing:
    """Stores the seed's rows if the store has no cluster yet, then deletes the file."""

    def __init__(self, store: Store, path: Path) -> None:
        self._store = store
        self._path = path

    async def run(self) -> None:
        """Sow, once.

        Raises:
            SwarmError: CORRUPT or NOT_FOUND, there is neither a cluster in the store nor a seed to make it from.
        """
        if not self._store.view().all(CLUSTERS):
            seed = _read(self._path)

            def change(tx: Transaction) -> None:
                if not tx.all(CLUSTERS):
                    tx.create(CLUSTERS, seed.cluster)
                    tx.create(NODES, seed.node)

            await self._store.update(change)
            log.info("cluster_created", cluster=seed.cluster.id)
        self._path.unlink(missing_ok=True)


def _read(path: Path) -> ClusterSeed:
    try:
        return msgspec.msgpack.decode(path.read_bytes(), type=ClusterSeed)
    except FileNotFoundError as error:
        raise SwarmError(
            Code.NOT_FOUND, f"the store holds no cluster and {path} is missing: leave the swarm and init again"
        ) from error
    except msgspec.DecodeError as error:
        raise SwarmError(Code.CORRUPT, f"{path} is damaged ({error}): leave the swarm and init again") from error
