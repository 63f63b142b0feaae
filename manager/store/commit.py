"""What a transaction did, as those who watch see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, cast

import msgspec

from manager.store.tables import T, Table


class Change(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """One row that a transaction created (`before` None), replaced, or deleted (`after` None)."""

    table: Table[T]
    before: T | None
    after: T | None

    @property
    def id(self) -> str:
        row = self.after if self.after is not None else self.before
        assert row is not None, "a change has a row before or after"
        return row.id


class Commit(msgspec.Struct, frozen=True, gc=False):
    """One applied transaction: its net changes, each row once. Revisions have no gaps."""

    revision: int
    changes: tuple[Change[Any], ...]

    def of(self, table: Table[T]) -> Iterator[Change[T]]:
        """Give the changes of one table."""
        for change in self.changes:
            if change.table is table:
                yield cast("Change[T]", change)
