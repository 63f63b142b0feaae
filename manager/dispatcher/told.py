"""Rows by id as the data planes are told them, and which of them were not told yet. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from swarmpy.model.base import Model

M = TypeVar("M", bound=Model)


class Told(Generic[M]):
    """One kind of row of an `EndpointsUpdate`."""

    def __init__(self, rows: Mapping[str, M]) -> None:
        self._rows = dict(rows)
        self._pending: set[str] = set()

    @property
    def rows(self) -> Collection[M]:
        return self._rows.values()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def note(self, row_id: str, row: M | None) -> bool:
        """Put a row, or with None withdraw it; tell whether that changes anything."""
        if row == self._rows.get(row_id):
            return False
        if row is None:
            del self._rows[row_id]
        else:
            self._rows[row_id] = row
        self._pending.add(row_id)
        return True

    def take(self) -> tuple[tuple[M, ...], tuple[str, ...]]:
        """Return what is to be told: the rows that were put, and the ids of those withdrawn, in order of id."""
        pending = sorted(self._pending)
        self._pending.clear()
        put = tuple(self._rows[i] for i in pending if i in self._rows)
        return put, tuple(i for i in pending if i not in self._rows)
