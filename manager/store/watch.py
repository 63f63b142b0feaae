"""Watching: one bounded history of commits that every watch reads at its own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Self

from manager.store.commit import Commit
from manager.store.tables import Table
from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError


class CompactedError(SwarmError):
    """A watch fell behind the history that is kept: read the state again and watch from there.

    `revision` is that of the state at the time; a new watch opened together with a view needs no number.
    """

    def __init__(self, since: int, revision: int) -> None:
        self.revision = revision
        super().__init__(
            Code.COMPACTED,
            f"the changes after revision {since} are gone: read the state again and watch from {revision}",
        )


class Watch:
    """The commits that touch some tables, in order. Use it as a context manager, on the store's event loop."""

    def __init__(self, history: History, tables: frozenset[Table[Any]], since: int) -> None:
        self._history = history
        self._tables = tables
        self._read = since
        self._pending = False
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Self:
        self._history.open(self)
        if self._read < self._history.last:
            self.rouse()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._history.close(self)

    async def next(self) -> Commit:
        """Wait for the next commit and return it. If the call is cancelled, no commit is lost.

        Raises:
            CompactedError: this watch was too slow, and from now on it only says so.
        """
        while True:
            commit = self.take()
            if commit is not None:
                return commit
            await self.wait()

    def drain(self) -> list[Commit]:
        """Return the commits that are there already, without waiting. Raises CompactedError as `next` does."""
        commits = []
        while (commit := self.take()) is not None:
            commits.append(commit)
        return commits

    def take(self) -> Commit | None:
        """Return the next commit if it is there already. Raises CompactedError as `next` does."""
        while self._pending:
            if self._read < self._history.first - 1:
                raise CompactedError(max(self._read, 0), self._history.last)
            if self._read >= self._history.last:
                self._pending = False
                return None
            self._read += 1
            commit = self._filtered(self._history[self._read])
            if commit is not None:
                return commit
        return None

    async def wait(self) -> None:
        """Wait until `take` has something to say. One caller at a time."""
        assert self._waiter is None, "only one task may wait for a watch"
        if self._pending:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def published(self, revision: int, tables: set[Table[Any]]) -> None:
        """Be told of a new commit and the tables it touched. While nothing is pending, others are passed over."""
        if self._pending or revision <= self._read:
            return
        if self._tables.isdisjoint(tables):
            self._read = revision
        else:
            self.rouse()

    def lose(self) -> None:
        """Be told that the state was replaced as a whole."""
        self._read = -1
        self.rouse()

    def rouse(self) -> None:
        """Look at the history when next asked, and end a wait."""
        self._pending = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _filtered(self, commit: Commit) -> Commit | None:
        changes = tuple(change for change in commit.changes if change.table in self._tables)
        if not changes:
            return None
        return commit if len(changes) == len(commit.changes) else Commit(commit.revision, changes)


class History:
    """The latest commits, as many as hold at most `limit` changes, and the watches that read them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._commits: deque[Commit] = deque()
        self._changes = 0
        self._watches: dict[Watch, None] = {}
        self.last = 0

    @property
    def first(self) -> int:
        """The revision of the oldest commit that is kept; `last + 1` if none is."""
        return self.last + 1 - len(self._commits)

    def __getitem__(self, revision: int) -> Commit:
        return self._commits[revision - self.first]

    def open(self, watch: Watch) -> None:
        self._watches[watch] = None

    def close(self, watch: Watch) -> None:
        self._watches.pop(watch, None)

    def publish(self, commit: Commit) -> None:
        """Append the commit of the next revision and wake the watches that it concerns."""
        assert commit.revision == self.last + 1, "revisions have no gaps"
        self._commits.append(commit)
        self.last = commit.revision
        self._changes += 1 + len(commit.changes)
        while self._changes > self._limit:
            self._changes -= 1 + len(self._commits.popleft().changes)
        tables = {change.table for change in commit.changes}
        for watch in self._watches:
            watch.published(commit.revision, tables)

    def restart(self, revision: int) -> None:
        """Forget everything: the state was replaced as a whole and is now at `revision`."""
        self._commits.clear()
        self._changes = 0
        self.last = revision
        for watch in self._watches:
            watch.lose()


async def next_or_deadline(watch: Watch, clock: Clock, deadline_s: float | None) -> Commit | None:
    """Return the next commit, or None once `clock.monotonic()` has reached `deadline_s` (None: no deadline).

    A commit that is there wins over a deadline that has passed. Cancelling the call loses no commit.

    Raises:
        CompactedError: the watch was too slow; read the state again.
    """
    if deadline_s is None:
        return await watch.next()
    while True:
        commit = watch.take()
        remaining_s = deadline_s - clock.monotonic()
        if commit is not None or remaining_s <= 0:
            return commit
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(watch.wait()), group.create_task(clock.sleep(remaining_s))]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
