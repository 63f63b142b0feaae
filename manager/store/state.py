"""The applied state: what every manager holds alike after the same entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final, cast

from manager.store import codec
from manager.store.commit import Change, Commit
from manager.store.requests import Requests
from manager.store.rows import Rows
from manager.store.sharing import Sharing
from manager.store.tables import TABLES, T, Table
from swarmpy.errors import Code, SwarmError

GENESIS: Final = bytes(codec.DIGEST_BYTES)


class State:
    """Tables, revision, request ids, and the digest of the chain of entries that led here.

    Attributes:
        revision: that of the last transaction.
        index: that of the last entry in the log.
        digest: what the next entry must name as its parent.
    """

    __slots__ = ("_sharing", "_tables", "digest", "index", "requests", "revision")

    def __init__(self) -> None:
        self.revision = 0
        self.index = 0
        self.digest = GENESIS
        self.requests = Requests()
        self._sharing = {table: Sharing(table) for table in TABLES}
        self._tables: dict[Table[Any], Rows[Any]] = {table: Rows(table) for table in TABLES}

    def rows(self, table: Table[T]) -> Rows[T]:
        return cast("Rows[T]", self._tables[table])

    def sharing(self, table: Table[Any]) -> Sharing:
        return self._sharing[table]

    def apply(self, index: int, data: bytes) -> list[Commit] | None:
        """Bring an entry into force and return its commits. No clock, no random source, no ids: only `data`.

        None says that the entry was passed over: it was not built on exactly this state, since it came from a
        leader whose earlier entries were lost or overtaken. Every manager passes over the same ones.

        Raises:
            SwarmError: CORRUPT or NOT_SUPPORTED, and nothing of the entry is in force.
        """
        if index <= self.index:
            raise SwarmError(Code.INTERNAL, f"log entry {index} was handed to the store after entry {self.index}")
        if codec.parent_of(data) != self.digest:
            self.index = index
            return None
        body = codec.decode_body(data)
        if body.revision != self.revision + 1:
            raise SwarmError(Code.CORRUPT, f"log entry {index} has revision {body.revision} after {self.revision}")
        # All of it is decoded before any of it is applied, so that a bad entry leaves the state as it was.
        decoded = [[codec.decode_change(change) for change in each.changes] for each in body.transactions]
        self._share(decoded)
        commits = []
        for transaction, changes in zip(body.transactions, decoded, strict=True):
            self.revision += 1
            commits.append(Commit(self.revision, tuple(self._put(*change) for change in changes)))
            if transaction.request_id:
                self.requests.add(transaction.request_id, transaction.result)
        self.index = index
        self.digest = codec.digest_of(data)
        return commits

    def _share(self, decoded: Iterable[Iterable[tuple[Table[Any], str, Any]]]) -> None:
        """Share the values of an entry's rows, a table at a time: for single rows it takes three times as long."""
        rows: defaultdict[Table[Any], list[Any]] = defaultdict(list)
        for changes in decoded:
            for table, _, row in changes:
                if row is not None:
                    rows[table].append(row)
        for table, found in rows.items():
            self._sharing[table].share(found)

    def _put(self, table: Table[Any], row_id: str, row: Any) -> Change[Any]:
        rows = self._tables[table]
        if row is None:
            return Change(table, rows.remove(row_id), None)
        return Change(table, rows.put(row), row)
