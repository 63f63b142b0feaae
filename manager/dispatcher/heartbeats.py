"""Which nodes have fallen silent. Pure: the time is an argument."""

from __future__ import annotations

import heapq
from typing import Final

MISSED_BEATS: Final = 3
MISSED_BEATS_AFTER_TAKEOVER: Final = 6


class Heartbeats:
    """A deadline for each node, in monotonic seconds. Beats are cheap: the heap is put right when it is read."""

    def __init__(self) -> None:
        self._deadlines: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._queued: dict[str, float] = {}  # by node, its one entry of the heap that counts

    def beat(self, node_id: str, now_s: float, period_s: float, *, grace: int = MISSED_BEATS) -> None:
        """Note that `node_id` lives at `now_s` and promised to beat every `period_s` seconds."""
        deadline = self._deadlines[node_id] = now_s + period_s * grace
        queued = self._queued.get(node_id)
        if queued is None or deadline < queued:
            self._push(deadline, node_id)

    def forget(self, node_id: str) -> None:
        self._deadlines.pop(node_id, None)

    def next_deadline_s(self) -> float | None:
        """Return when `expired` may next have something to say; None while no node is watched."""
        return self._heap[0][0] if self._heap else None

    def expired(self, now_s: float) -> list[str]:
        """Return, and forget, the nodes whose deadline has passed."""
        silent = []
        while self._heap and self._heap[0][0] <= now_s:
            queued, node_id = heapq.heappop(self._heap)
            if self._queued.get(node_id) != queued:
                continue
            del self._queued[node_id]
            deadline = self._deadlines.get(node_id)
            if deadline is not None and deadline > now_s:
                self._push(deadline, node_id)
            elif deadline is not None:
                del self._deadlines[node_id]
                silent.append(node_id)
        return silent

    def _push(self, deadline_s: float, node_id: str) -> None:
        self._queued[node_id] = deadline_s
        heapq.heappush(self._heap, (deadline_s, node_id))
