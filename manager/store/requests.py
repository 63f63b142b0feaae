"""The results of requests that carried an id, so that a retry after an unknown outcome is harmless."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

KEPT: Final = 10_000
"""How many results are kept. All managers must agree, so a change needs a new format of entries.

Counted in requests, not in revisions: control loops write thousands of revisions a second, and must not push out
what a client may still ask for again.
"""


class Requests:
    """Encoded results by request id, oldest first."""

    __slots__ = ("_results",)

    def __init__(self) -> None:
        self._results: OrderedDict[str, bytes] = OrderedDict()

    def get(self, request_id: str) -> bytes | None:
        return self._results.get(request_id)

    def add(self, request_id: str, result: bytes) -> None:
        """Keep a result, and forget the oldest beyond the limit."""
        self._results[request_id] = result
        self._results.move_to_end(request_id)
        while len(self._results) > KEPT:
            self._results.popitem(last=False)

    def dump(self) -> list[tuple[str, bytes]]:
        """Return everything, oldest first."""
        return list(self._results.items())

    def load(self, entries: Iterable[tuple[str, bytes]]) -> None:
        """Add what `dump` gave."""
        self._results.update(entries)
