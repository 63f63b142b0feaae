"""A store over a log that is a list: it commits at once, or one entry at a time when told."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from manager.store.store import Store
from manager.store.tables import T, Table
from manager.store.transaction import Transaction
from swarmpy.errors import Code, SwarmError


class FakeProposer:
    """A log in memory. With `hold`, entries stay in flight until `commit()` or `fail()`.

    `log` has the committed entries, `sent` the proposed ones. `attach` adds a store (a follower, say) that gets it.
    """

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.log: list[bytes] = []
        self.sent: list[bytes] = []
        self._apply: list[Callable[[int, bytes], None]] = []
        self._held: deque[tuple[bytes, asyncio.Future[None]]] = deque()

    def attach(self, apply: Callable[[int, bytes], None]) -> None:
        """Hand `apply` the whole log so far, and all that is committed from now on."""
        for index, data in enumerate(self.log, 1):
            apply(index, data)
        self._apply.append(apply)

    def replace(self, old: Callable[[int, bytes], None], new: Callable[[int, bytes], None]) -> None:
        """Hand what is committed from now on to `new` in place of `old`."""
        self._apply[self._apply.index(old)] = new

    @property
    def in_flight(self) -> int:
        return len(self._held)

    async def propose(self, data: bytes) -> None:
        self.sent.append(data)
        if not self.hold:
            self.append(data)
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._held.append((data, done))
        await done

    def append(self, data: bytes) -> None:
        """Commit an entry and have it applied everywhere."""
        self.log.append(data)
        for apply in self._apply:
            apply(len(self.log), data)

    def commit(self) -> None:
        """Commit the oldest entry in flight."""
        data, done = self._held.popleft()
        self.append(data)
        if not done.done():
            done.set_result(None)

    def fail(self, error: SwarmError | None = None) -> bytes:
        """Fail the oldest entry in flight and return its bytes, which `append` may commit yet."""
        data, done = self._held.popleft()
        if not done.done():
            done.set_exception(error or SwarmError(Code.UNAVAILABLE, "the log lost its leader: try again"))
        return data

    def release(self) -> None:
        """Commit all that is in flight, and everything at once from now on."""
        self.hold = False
        while self._held:
            self.commit()


@asynccontextmanager
async def running_store(proposer: FakeProposer | None = None) -> AsyncIterator[Store]:
    """Give a store that takes updates, over `proposer` or a FakeProposer that commits at once."""
    log = proposer or FakeProposer()
    store = Store(log)
    log.attach(store.apply)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(store.run())
        try:
            yield store
        finally:
            running.cancel()


async def put(store: Store, table: Table[T], *rows: T) -> list[T]:
    """Create rows, or replace them whatever their version, and return them as stored."""
    stored: list[T] = []
    for start in range(0, len(rows), 200):
        some = rows[start : start + 200]

        def change(tx: Transaction, some: tuple[T, ...] = some) -> list[T]:
            written = []
            for row in some:
                if tx.get(table, row.id) is not None:
                    tx.delete(table, row.id)
                written.append(tx.create(table, row))
            return written

        stored.extend(await store.update(change))
    return stored
