"""What is written but not applied yet, laid over the applied state."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice
from typing import Any, cast

from manager.store.rows import Rows
from manager.store.state import State
from manager.store.tables import T, Table

Key = tuple[Table[Any], str]


class _Layer:
    """One table's pending rows. `shadow` holds every id written or deleted, with the revision that did it last."""

    __slots__ = ("rows", "shadow")

    def __init__(self, table: Table[Any]) -> None:
        self.rows: Rows[Any] = Rows(table)
        self.shadow: dict[str, int] = {}


class Overlay:
    """A View of applied state plus pending writes. `revision` is that of the last pending transaction."""

    __slots__ = ("_layers", "_state", "revision")

    def __init__(self, state: State) -> None:
        self._state = state
        self._layers: dict[Table[Any], _Layer] = {}
        self.revision = state.revision

    def get(self, table: Table[T], row_id: str) -> T | None:
        layer = self._layers.get(table)
        if layer is not None and row_id in layer.shadow:
            return cast("T | None", layer.rows.get(row_id))
        return self._state.rows(table).get(row_id)

    def all(self, table: Table[T]) -> Collection[T]:
        base = self._state.rows(table).all()
        layer = self._layers.get(table)
        return base if layer is None else _merged(layer, base, cast("Rows[T]", layer.rows).all())

    def find(self, table: Table[T], index: str, key: str) -> Collection[T]:
        base = self._state.rows(table).find(index, key)
        layer = self._layers.get(table)
        return base if layer is None else _merged(layer, base, cast("Rows[T]", layer.rows).find(index, key))

    def count(self, table: Table[T], index: str, key: str) -> int:
        if table not in self._layers:
            return self._state.rows(table).count(index, key)
        return len(self.find(table, index, key))

    def after(self, table: Table[T], row_id: str, limit: int) -> list[T]:
        base = self._state.rows(table)
        layer = self._layers.get(table)
        if layer is None:
            return base.after(row_id, limit)
        pending = cast("Rows[T]", layer.rows)
        below = (each for each in base.ids_after(row_id) if each not in layer.shadow)
        ids: Iterator[str] = merge(below, pending.ids_after(row_id))
        rows = (pending.get(each) or base.get(each) for each in islice(ids, limit))
        return [row for row in rows if row is not None]

    def pending(self, table: Table[Any], row_id: str) -> int | None:
        """Return the revision of the pending write of that row, if there is one."""
        layer = self._layers.get(table)
        return None if layer is None else layer.shadow.get(row_id)

    def write(self, table: Table[T], row_id: str, row: T | None, revision: int) -> None:
        """Lay a row over the state, or with None its deletion."""
        layer = self._layers.get(table)
        if layer is None:
            layer = self._layers[table] = _Layer(table)
        layer.shadow[row_id] = revision
        if row is None:
            layer.rows.remove(row_id)
        else:
            layer.rows.put(row)

    def uncover(self, table: Table[Any], row_id: str) -> None:
        """Drop the pending write of a row."""
        layer = self._layers[table]
        del layer.shadow[row_id]
        layer.rows.remove(row_id)
        if not layer.shadow:
            del self._layers[table]

    def settle(self, table: Table[Any], row_id: str, revision: int) -> None:
        """Drop the pending write of a row that is applied now, unless a later one covers it."""
        if self.pending(table, row_id) == revision:
            self.uncover(table, row_id)

    def reset(self, state: State) -> None:
        """Drop everything pending and lie over `state`."""
        self._state = state
        self._layers.clear()
        self.revision = state.revision


def _merged(layer: _Layer, base: Collection[T], pending: Collection[T]) -> list[T]:
    shadow = layer.shadow
    rows = [row for row in base if row.id not in shadow]
    rows.extend(pending)
    return rows
