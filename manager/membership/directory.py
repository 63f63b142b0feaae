"""Where the other managers are: told to Raft's transport, from the rows, on every manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from manager.raft.api import Peer
from manager.store.store import Store
from manager.store.tables import MANAGERS, NODES
from manager.store.watch import CompactedError

log = structlog.get_logger(__name__)


class Directory:
    """Keeps the transport's addresses what the rows say.

    Args:
        member_id: this manager, which needs no way to itself.
        known: the others until the first row has come.
        set_peers: takes the whole directory, whenever it changes.
    """

    def __init__(
        self,
        store: Store,
        member_id: int,
        known: Mapping[int, Peer],
        set_peers: Callable[[Mapping[int, Peer]], None],
    ) -> None:
        self._store, self._member_id, self._known, self._set_peers = store, member_id, known, set_peers
        self._told: Mapping[int, Peer] | None = None

    async def run(self) -> None:
        """Follow the rows until cancelled."""
        while True:
            with self._store.watch(NODES) as watch:
                try:
                    while True:
                        self._tell()
                        await watch.next()
                        watch.drain()
                except CompactedError as error:
                    log.info("directory_starts_over", reason=error.message)

    def _tell(self) -> None:
        rows = self._store.view().find(NODES, "group", MANAGERS)
        peers = {n.manager.raft_id: Peer(n.id, n.manager.addr) for n in rows if n.manager is not None}
        peers = peers or dict(self._known)
        peers.pop(self._member_id, None)
        if peers != self._told:
            self._told = peers
            self._set_peers(peers)
