"""Who waits for an address on which network, in order. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

Waiter = tuple[str, bool]
"""The id of a row, and whether it is a task's (else a service's)."""


class Waiting:
    """As many are woken as can be served, so that ten thousand who wait do not all try for one address."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[Waiter, None]] = {}

    @property
    def networks(self) -> Sequence[str]:
        """The networks that somebody waits for."""
        return tuple(self._rows)

    def add(self, network_id: str, row_id: str, *, is_task: bool) -> None:
        self._rows.setdefault(network_id, {})[row_id, is_task] = None

    def pop(self, network_id: str, count: int) -> list[Waiter]:
        """Return the first `count` that wait for a network; they wait no more."""
        rows = self._rows.get(network_id, {})
        first = list(islice(rows, count))
        for waiter in first:
            del rows[waiter]
        if not rows:
            self._rows.pop(network_id, None)
        return first
