"""Group commit: transactions wait in line, are put into entries, and learn what became of those."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from manager.store.codec import EncodedTransaction, change_bytes, digest_of, encode_entry
from manager.store.overlay import Key
from swarmpy.errors import Code, SwarmError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one entry may hold (one transaction, too), and how much may be under way."""

    changes: int = 200
    size_bytes: int = 1_500_000
    entries_in_flight: int = 8
    transactions_waiting: int = 10_000


@dataclass(eq=False, slots=True)
class Pending:
    """A transaction that ran on the overlay and is not applied yet. `outcome` is None once it is applied."""

    revision: int
    transaction: EncodedTransaction
    keys: list[Key]
    result: Any
    outcome: asyncio.Future[SwarmError | None]
    changes: int = field(init=False)
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        transaction = self.transaction
        self.changes = len(transaction.changes)
        self.size_bytes = len(transaction.result) + sum(map(change_bytes, transaction.changes))

    def end(self, error: SwarmError | None) -> None:
        if not self.outcome.done():
            self.outcome.set_result(error)

    async def wait(self) -> Any:
        """Return the result once the transaction is applied, or raise what befell it."""
        # Several callers may wait for one transaction: one that is cancelled must not take it from the others.
        error = await asyncio.shield(self.outcome)
        if error is not None:
            raise SwarmError(error.code, error.message, retryable=error.retryable) from error
        return self.result


@dataclass(eq=False, slots=True)
class Entry:
    """An entry that was given to the log."""

    data: bytes
    digest: bytes
    group: list[Pending]


class Line:
    """Transactions in their order: those in entries, then those that wait for one.

    Leading-edge: an idle line lets the first transaction go at once, alone; whatever comes while an entry is in
    flight is grouped into the next. A full group need not wait.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in_flight: deque[Entry] = deque()
        self._waiting: deque[Pending] = deque()
        self._waiting_changes = 0
        self._waiting_bytes = 0

    @property
    def tail(self) -> Pending | None:
        """The youngest transaction that is not applied."""
        if self._waiting:
            return self._waiting[-1]
        return self._in_flight[-1].group[-1] if self._in_flight else None

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self._limits.transactions_waiting

    def check(self, pending: Pending) -> None:
        """Refuse a transaction that fits in no entry."""
        limits = self._limits
        if pending.changes > limits.changes:
            problem = f"changes {pending.changes} objects, {limits.changes} is the most: split it up"
        elif pending.size_bytes > limits.size_bytes:
            problem = f"takes {pending.size_bytes} bytes, {limits.size_bytes} is the most: make its objects smaller"
        else:
            return
        raise SwarmError(Code.RESOURCE_EXHAUSTED, f"a transaction {problem}", retryable=False)

    def join(self, pending: Pending) -> None:
        self._waiting.append(pending)
        self._waiting_changes += pending.changes
        self._waiting_bytes += pending.size_bytes

    def next_entry(self, applied_digest: bytes) -> Entry | None:
        """Make the entry that may go into the log now, if there is one."""
        if not self._waiting or len(self._in_flight) >= self._limits.entries_in_flight:
            return None
        limits = self._limits
        full = self._waiting_changes >= limits.changes or self._waiting_bytes >= limits.size_bytes
        if self._in_flight and not full:
            return None
        group = self._take_group()
        parent = self._in_flight[-1].digest if self._in_flight else applied_digest
        data = encode_entry(parent, group[0].revision, [pending.transaction for pending in group])
        entry = Entry(data, digest_of(data), group)
        self._in_flight.append(entry)
        return entry

    def applied(self, data: bytes) -> Entry | None:
        """Return the oldest entry in flight, and drop it here, if `data` is its bytes."""
        if self._in_flight and self._in_flight[0].data == data:
            return self._in_flight.popleft()
        return None

    def has(self, entry: Entry) -> bool:
        return entry in self._in_flight

    def clear(self) -> list[Pending]:
        """Drop everything and return it, oldest first."""
        dropped = [pending for entry in self._in_flight for pending in entry.group]
        dropped.extend(self._waiting)
        self._in_flight.clear()
        self._waiting.clear()
        self._waiting_changes = self._waiting_bytes = 0
        return dropped

    def _take_group(self) -> list[Pending]:
        group: list[Pending] = []
        changes = size_bytes = 0
        while self._waiting:
            head = self._waiting[0]
            changes += head.changes
            size_bytes += head.size_bytes
            if group and (changes > self._limits.changes or size_bytes > self._limits.size_bytes):
                changes -= head.changes
                size_bytes -= head.size_bytes
                break
            group.append(self._waiting.popleft())
        self._waiting_changes -= changes
        self._waiting_bytes -= size_bytes
        return group
