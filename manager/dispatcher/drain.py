"""The draining watermark: how far every data plane has come, and which withdrawn tasks are still in use. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


class Watermark:
    """What the data planes of all live nodes have applied.

    `settled` is the least revision over the nodes that take part; with no node it is `target`, the revision
    that a data plane would be given now: there is nobody who could still send a connection.
    """

    def __init__(self) -> None:
        self._applied: dict[str, int] = {}
        self._nodes_at: Counter[int] = Counter()
        self._busy_of: dict[str, frozenset[str]] = {}
        self._busy: Counter[str] = Counter()

    def report(self, node_id: str, revision: int, busy: Iterable[str]) -> set[str]:
        """Take in a node's report and return the tasks whose being busy may have changed by it."""
        self._move(node_id, revision)
        return self._replace_busy(node_id, frozenset(busy))

    def leave(self, node_id: str) -> set[str]:
        """Take a node out that is DOWN or gone; it holds nobody up any more."""
        self._move(node_id, None)
        return self._replace_busy(node_id, frozenset())

    def settled(self, target: int) -> int:
        """Return the revision up to which every withdrawal is in force everywhere."""
        return min(self._nodes_at, default=target)

    def is_busy(self, task_id: str) -> bool:
        """Tell whether any data plane still has connections to this withdrawn task."""
        return self._busy[task_id] > 0

    def _move(self, node_id: str, revision: int | None) -> None:
        """Count nodes by revision: there are few revisions at a time, however many nodes there are."""
        before = self._applied.pop(node_id, None)
        if before is not None:
            self._nodes_at[before] -= 1
            if not self._nodes_at[before]:
                del self._nodes_at[before]
        if revision is not None:
            self._applied[node_id] = revision
            self._nodes_at[revision] += 1

    def _replace_busy(self, node_id: str, busy: frozenset[str]) -> set[str]:
        before = self._busy_of.pop(node_id, frozenset())
        if busy:
            self._busy_of[node_id] = busy
        for task_id in busy - before:
            self._busy[task_id] += 1
        for task_id in before - busy:
            self._busy[task_id] -= 1
            if not self._busy[task_id]:
                del self._busy[task_id]
        return set(busy ^ before)
