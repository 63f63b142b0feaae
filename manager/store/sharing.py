"""One object for equal values: a million decoded tasks have most of their strings, stamps and ports in common."""

from __future__ import annotations

import sys
from typing import Any, Final

from msgspec.structs import force_setattr

from manager.store.tables import Table

_POOL_SIZE: Final = 65_536


class Sharing:
    """Replaces the fields that one table declares as `shared` in rows that were just decoded.

    Strings are interned by the interpreter, which forgets them with their last user; everything else has a pool
    for each field (values of different types may be equal, as 1 and 1.0, and must not be mixed up).
    """

    __slots__ = ("_pools", "_texts")

    def __init__(self, table: Table[Any]) -> None:
        self._texts = table.shared_texts
        self._pools: tuple[tuple[str, dict[Any, Any]], ...] = tuple((field, {}) for field in table.shared_values)

    def share(self, row: Any) -> None:
        """Share the values of a row that nobody else holds yet. The row stays equal to itself."""
        for field in self._texts:
            if text := getattr(row, field):
                force_setattr(row, field, sys.intern(text))
        for field, pool in self._pools:
            if value := getattr(row, field):
                same = pool.setdefault(value, value)
                if same is not value:
                    force_setattr(row, field, same)
                elif len(pool) > _POOL_SIZE:
                    pool.clear()
