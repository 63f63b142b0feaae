"""One table in memory: rows by id, with their indexes and a lazy order for pages."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Generic

from manager.store.indexes import KeyIndex, RowIndex, SlotIndex
from manager.store.paging import SortedIds
from manager.store.tables import T, Table


class Rows(Generic[T]):
    """Rows by id. Collections that it returns are views: valid until the next change."""

    __slots__ = ("_by_name", "_indexes", "_order", "_rows", "table")

    def __init__(self, table: Table[T]) -> None:
        self.table = table
        self._rows: dict[str, T] = {}
        self._indexes: list[KeyIndex[T] | SlotIndex[T]] = []
        self._by_name: dict[str, RowIndex[T]] = {}
        self._order = SortedIds(self._rows)
        for by in table.indexes:
            if by.slot is None:
                index = KeyIndex(by)
                self._indexes.append(index)
                self._by_name[by.name] = index
            else:
                grouped = SlotIndex(by, by.slot)
                self._indexes.append(grouped)
                self._by_name[by.name] = grouped
                self._by_name["slot"] = grouped.slots

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row_id: object) -> bool:
        return row_id in self._rows

    def get(self, row_id: str) -> T | None:
        return self._rows.get(row_id)

    def all(self) -> Collection[T]:
        return self._rows.values()

    def copy(self) -> dict[str, T]:
        """Return the rows of this moment by id.

        Of a dict, unlike a list, Python knows that nothing in it can be in a cycle: no collection looks at it.
        """
        return self._rows.copy()

    def find(self, index: str, key: str) -> Collection[T]:
        """Return the rows with that key. KeyError if the table has no such index."""
        return self._by_name[index].find(key)

    def count(self, index: str, key: str) -> int:
        return self._by_name[index].count(key)

    def ids_after(self, row_id: str) -> Iterator[str]:
        """Give the ids greater than `row_id`, in order."""
        return self._order.after(row_id)

    def after(self, row_id: str, limit: int) -> list[T]:
        return [self._rows[each] for each in islice(self.ids_after(row_id), limit)]

    def load(self, rows: Sequence[T]) -> None:
        """Add rows whose ids are new; much faster than `put` for many."""
        for row in rows:
            self._rows[row.id] = row
            self._order.added(row.id)
        for index in self._indexes:
            index.load(rows)

    def put(self, row: T) -> T | None:
        """Add or replace a row and return the one that was there."""
        row_id = row.id
        before = self._rows.get(row_id)
        self._rows[row_id] = row
        if before is None:
            self._order.added(row_id)
            for index in self._indexes:
                index.load((row,))
        else:
            for index in self._indexes:
                index.replace(before, row)
        return before

    def remove(self, row_id: str) -> T | None:
        """Drop a row and return it; None if there is none."""
        before = self._rows.pop(row_id, None)
        if before is not None:
            self._order.removed()
            for index in self._indexes:
                index.remove(before)
        return before
