"""Reading: what a view is, and the view of what is applied."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from manager.store.state import State
from manager.store.tables import T, Table


class View(Protocol):
    """A consistent read. It and every collection it returns are valid until the next await."""

    @property
    def revision(self) -> int:
        """The revision of the last transaction that is seen here."""

    def get(self, table: Table[T], row_id: str) -> T | None: ...

    def all(self, table: Table[T]) -> Collection[T]:
        """Return every row, in no promised order."""

    def find(self, table: Table[T], index: str, key: str) -> Collection[T]:
        """Return the rows that an index has under `key`, in no promised order. KeyError: no such index."""

    def count(self, table: Table[T], index: str, key: str) -> int: ...

    def after(self, table: Table[T], row_id: str, limit: int) -> list[T]:
        """Return at most `limit` rows with ids greater than `row_id`, in order of id."""


class AppliedView:
    """A View of the applied state."""

    __slots__ = ("_state",)

    def __init__(self, state: State) -> None:
        self._state = state

    @property
    def revision(self) -> int:
        return self._state.revision

    def get(self, table: Table[T], row_id: str) -> T | None:
        return self._state.rows(table).get(row_id)

    def all(self, table: Table[T]) -> Collection[T]:
        return self._state.rows(table).all()

    def find(self, table: Table[T], index: str, key: str) -> Collection[T]:
        return self._state.rows(table).find(index, key)

    def count(self, table: Table[T], index: str, key: str) -> int:
        return self._state.rows(table).count(index, key)

    def after(self, table: Table[T], row_id: str, limit: int) -> list[T]:
        return self._state.rows(table).after(row_id, limit)
