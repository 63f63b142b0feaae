"""What was committed but is not applied yet: bounded, so that a slow state machine slows its member, not its memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from manager.raft.types import Entry
from swarmpy.errors import Code, SwarmError


class Backlog:
    """Counts what was handed out and is not applied.

    Args:
        limit_bytes: data of entries that may be so; one batch is always let through.
        applied: index of the last entry applied so far.
    """

    def __init__(self, limit_bytes: int, applied: int) -> None:
        self._limit_bytes = limit_bytes
        self._out: deque[tuple[int, int]] = deque()  # last index and bytes of each batch
        self._out_bytes = 0
        self.applied_index = applied

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be taken in, or handed out, before something is applied."""
        return self._out_bytes >= self._limit_bytes

    def refusal(self) -> SwarmError:
        """Return what proposals are refused with while it is full."""
        return SwarmError(
            Code.RESOURCE_EXHAUSTED,
            f"{self._out_bytes} bytes of committed changes wait to be applied on this manager: try again in a moment",
            retryable=True,
        )

    def handed_out(self, entries: Sequence[Entry]) -> None:
        """Count a batch."""
        size_bytes = sum(len(entry.data) for entry in entries)
        if size_bytes:
            self._out.append((entries[-1].index, size_bytes))
            self._out_bytes += size_bytes

    def applied(self, index: int) -> None:
        """Learn that everything up to `index` is applied."""
        self.applied_index = max(self.applied_index, index)
        while self._out and self._out[0][0] <= index:
            self._out_bytes -= self._out.popleft()[1]
