"""Writing: a transaction's checks, its own writes read back, and its undoing."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from manager.store.overlay import Key, Overlay
from manager.store.tables import T, Table
from manager.store.view import View
from swarmpy.errors import Code, SwarmError, not_found


class Transaction(View, Protocol):
    """A View that reads its own writes. `revision` is the one that it will have once it is applied."""

    def create(self, table: Table[T], obj: T) -> T:
        """Add a row and return it with its version. ALREADY_EXISTS: its id, or its key in a unique index."""

    def update(self, table: Table[T], obj: T) -> T:
        """Replace a row and return it with its version.

        OUT_OF_SEQUENCE: `obj.version` is not that of the stored row (a row written in this transaction has
        `revision`). NOT_FOUND: there is no such row.
        """

    def delete(self, table: Table[T], row_id: str) -> None:
        """Remove a row. NOT_FOUND: there is no such row."""


class OverlayTransaction:
    """A Transaction that writes into the overlay at once and remembers how to undo that."""

    __slots__ = ("_done", "_overlay", "_touched", "revision")

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self.revision = overlay.revision + 1
        self._touched: dict[Key, tuple[Any, int | None]] = {}
        self._done = False

    def get(self, table: Table[T], row_id: str) -> T | None:
        return self._overlay.get(table, row_id)

    def all(self, table: Table[T]) -> Collection[T]:
        return self._overlay.all(table)

    def find(self, table: Table[T], index: str, key: str) -> Collection[T]:
        return self._overlay.find(table, index, key)

    def count(self, table: Table[T], index: str, key: str) -> int:
        return self._overlay.count(table, index, key)

    def after(self, table: Table[T], row_id: str, limit: int) -> list[T]:
        return self._overlay.after(table, row_id, limit)

    def create(self, table: Table[T], obj: T) -> T:
        if self._overlay.get(table, obj.id) is not None:
            raise SwarmError(Code.ALREADY_EXISTS, f"a {table.noun} with the id {obj.id} exists already")
        return self._write(table, obj)

    def update(self, table: Table[T], obj: T) -> T:
        stored = self._overlay.get(table, obj.id)
        if stored is None:
            raise not_found(f"{table.noun} {obj.id} does not exist: it may have been removed meanwhile")
        if stored.version != obj.version:
            raise SwarmError(
                Code.OUT_OF_SEQUENCE,
                f"{table.noun} {obj.id} was changed meanwhile (version {stored.version}, the change is of "
                f"version {obj.version}): read it again and repeat the change",
            )
        return self._write(table, obj)

    def delete(self, table: Table[T], row_id: str) -> None:
        if self._overlay.get(table, row_id) is None:
            raise not_found(f"{table.noun} {row_id} does not exist: it may have been removed already")
        self._touch(table, row_id)
        self._overlay.write(table, row_id, None, self.revision)

    def rollback(self) -> None:
        """Leave the overlay as if nothing had been written."""
        self._done = True
        for (table, row_id), (row, revision) in self._touched.items():
            self._undo(table, row_id, row, revision)

    def finish(self) -> list[tuple[Table[Any], str, Any]]:
        """End the transaction and return its net changes: table, id, and the row or None where it was deleted."""
        self._done = True
        changes: list[tuple[Table[Any], str, Any]] = []
        for (table, row_id), (before, revision) in list(self._touched.items()):
            after = self._overlay.get(table, row_id)
            if before is None and after is None:
                del self._touched[(table, row_id)]
                self._undo(table, row_id, before, revision)
            else:
                changes.append((table, row_id, after))
        return changes

    def _write(self, table: Table[T], obj: T) -> T:
        for by in table.indexes:
            if by.unique:
                key = by.key(obj)
                if any(other.id != obj.id for other in self._overlay.find(table, by.name, key)):
                    raise SwarmError(
                        Code.ALREADY_EXISTS,
                        f"a {table.noun} with the {by.name} {key!r} exists already: choose another",
                    )
        self._touch(table, obj.id)
        row: T = msgspec.structs.replace(obj, version=self.revision)  # type: ignore[type-var]  # rows are structs
        self._overlay.write(table, obj.id, row, self.revision)
        return row

    def _touch(self, table: Table[Any], row_id: str) -> None:
        assert not self._done, "a transaction is over once its function has returned"
        if (table, row_id) not in self._touched:
            self._touched[(table, row_id)] = (
                self._overlay.get(table, row_id),
                self._overlay.pending(table, row_id),
            )

    def _undo(self, table: Table[Any], row_id: str, row: Any, revision: int | None) -> None:
        if revision is None:
            self._overlay.uncover(table, row_id)
        else:
            self._overlay.write(table, row_id, row, revision)
