"""What this manager knows of who leads, as the rooms that need no more of Raft see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from manager.raft.types import Leadership, Status
from manager.store.store import Store
from manager.store.tables import MANAGERS, NODES
from swarmpy.model.node import ManagerStatus


class Lead:
    """Who leads, and where that manager is. Told of every change, in order with what is applied.

    Args:
        barrier: the log's read barrier.
        status: the state of this member.
    """

    def __init__(self, store: Store, barrier: Callable[[], Awaitable[None]], status: Callable[[], Status]) -> None:
        self._store, self._barrier, self._status = store, barrier, status
        self._leadership = Leadership(is_leader=False, term=0, leader_id=0)
        self._callbacks: set[Callable[[], None]] = set()

    def set_leadership(self, leadership: Leadership) -> None:
        """Be told who leads now."""
        self._leadership = leadership
        for callback in tuple(self._callbacks):
            callback()

    @property
    def is_leader(self) -> bool:
        """Whether this manager leads, and has applied all that was committed before it did."""
        return self._leadership.is_leader

    @property
    def leader_addr(self) -> str:
        """`host:port` of the manager that leads; empty if nobody does, as far as this one knows."""
        leader_id = self._status().leader_id
        return next((m.addr for m in self._managers() if m.raft_id == leader_id), "") if leader_id else ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """`host:port` of all managers, in a fixed order."""
        return tuple(manager.addr for manager in self._managers())

    async def read_barrier(self) -> None:
        """Return once everything that was acknowledged before the call is applied here. UNAVAILABLE: no quorum."""
        await self._barrier()

    @contextmanager
    def when_leader_changes(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` at every change of the leader while the block runs."""
        self._callbacks.add(callback)
        try:
            yield
        finally:
            self._callbacks.discard(callback)

    def _managers(self) -> list[ManagerStatus]:
        nodes = self._store.view().find(NODES, "group", MANAGERS)
        return sorted((n.manager for n in nodes if n.manager is not None), key=lambda m: m.raft_id)
