"""The store: state, overlay, line of transactions and history, joined into one object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, Final, TypeVar, cast

import structlog

from manager.store import codec
from manager.store.line import Entry, Limits, Line, Pending
from manager.store.overlay import Overlay
from manager.store.proposer import Proposer
from manager.store.snapshot import Snapshot, SnapshotReader
from manager.store.state import State
from manager.store.tables import TABLES, Table
from manager.store.transaction import OverlayTransaction, Transaction
from manager.store.view import AppliedView, View
from manager.store.watch import CompactedError, History, Watch
from swarmpy.errors import Code, SwarmError

HISTORY_CHANGES: Final = 50_000

R = TypeVar("R")

_log = structlog.get_logger()


class Store:
    """The replicated state on one manager. Everything here runs on one event loop.

    `run` must be running for `update` to get anywhere; reading, watching, `apply` and `restore` need no task.
    """

    def __init__(
        self, proposer: Proposer, *, history_changes: int = HISTORY_CHANGES, limits: Limits | None = None
    ) -> None:
        """`history_changes` bounds what watches may be behind, in changes (a commit counts as one more)."""
        self._proposer = proposer
        self._state = State()
        self._overlay = Overlay(self._state)
        self._line = Line(limits or Limits())
        self._history = History(history_changes)
        self._requests: dict[str, Pending] = {}
        self._wake = asyncio.Event()
        self._closed = False

    @property
    def revision(self) -> int:
        """The revision of the last applied transaction."""
        return self._state.revision

    @property
    def index(self) -> int:
        """The log index of the last applied entry."""
        return self._state.index

    def view(self) -> View:
        """Return a read of the applied state, valid until the next await."""
        return AppliedView(self._state)

    def watch(self, *tables: Table[Any], since: int | None = None) -> Watch:
        """Watch the commits that touch `tables` (none given: all) after revision `since` (None: from now on).

        Raises:
            CompactedError: the history does not reach back to `since`; the error has the revision to start at.
        """
        start = self._history.last if since is None else since
        if start < self._history.first - 1:
            raise CompactedError(start, self._history.last)
        return Watch(self._history, frozenset(tables or TABLES), start)

    async def update(self, change: Callable[[Transaction], R], *, request_id: str = "") -> R:
        """Run `change` now, on everything applied and in flight, and return its result once that is applied.

        `change` must be synchronous and keep nothing of its transaction. If it raises, nothing is written and the
        error is the caller's. With a `request_id` that was used before, `change` is not run: the first result is
        returned (a stored row or plain data). Cancelling the call does not take the transaction back.

        Raises:
            SwarmError: UNAVAILABLE or NOT_LEADER: the log refused, or lost, this or an earlier transaction;
                whether this one comes into force is unknown (use a request id, and try again).
                RESOURCE_EXHAUSTED: over 200 changes, or 1.5 MB.
        """
        if request_id:
            joined = self._requests.get(request_id)
            if joined is not None:
                return cast("R", await joined.wait())
            known = self._state.requests.get(request_id)
            if known is not None:
                return cast("R", codec.decode_result(known))
        self._check_open()
        tail = self._line.tail
        result, pending = self._run(change, request_id)
        if pending is not None:
            await pending.wait()
        elif tail is not None:
            # It wrote nothing, but what it read may come to nothing still.
            await tail.wait()
        return result

    async def run(self) -> None:
        """Bring queued transactions into the log; never returns. When it ends, waiting updates are UNAVAILABLE."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    await self._wake.wait()
                    self._wake.clear()
                    while (entry := self._line.next_entry(self._state.digest)) is not None:
                        group.create_task(self._propose(entry))
        finally:
            self._closed = True
            self._discard(SwarmError(Code.UNAVAILABLE, "this manager is stopping: try another one"))

    def apply(self, index: int, data: bytes) -> None:
        """Bring a committed entry into force. The log calls it in order of `index`, on every manager alike.

        Raises:
            SwarmError: CORRUPT or NOT_SUPPORTED: the entry cannot be read. The manager must stop, since it
                cannot follow the others any more.
        """
        commits = self._state.apply(index, data)
        own = self._line.applied(data)
        if own is not None and commits is not None:
            self._settle(own)
        elif own is not None or commits:
            self._discard(SwarmError(Code.UNAVAILABLE, "another leader's write came first: try again"))
        for commit in commits or ():
            self._history.publish(commit)
        self._wake.set()

    def snapshot(self) -> Snapshot:
        """Take the applied state as of now: a copy of each table. The Snapshot encodes it slice by slice, anywhere."""
        return Snapshot(self._state)

    async def restore(self, chunks: Iterable[bytes] | AsyncIterable[bytes]) -> None:
        """Replace everything by a snapshot's bytes, in chunks of any size. Watches learn COMPACTED.

        The old state is served until the new one is complete. No entry may be applied meanwhile.

        Raises:
            SwarmError: CORRUPT or NOT_SUPPORTED; the store is left as it was.
        """
        reader = SnapshotReader()
        async for chunk in _each(chunks):
            for _ in reader.feed(chunk):
                await asyncio.sleep(0)
        state = reader.finish()
        self._discard(SwarmError(Code.UNAVAILABLE, "this manager was behind and took over a snapshot: try again"))
        self._state = state
        self._overlay.reset(state)
        self._history.restart(state.revision)

    def _check_open(self) -> None:
        if self._closed:
            raise SwarmError(Code.UNAVAILABLE, "this manager is stopping: try another one")
        if self._line.is_full:
            raise SwarmError(Code.UNAVAILABLE, "too many writes wait for the log already: try again in a moment")

    def _run(self, change: Callable[[Transaction], R], request_id: str) -> tuple[R, Pending | None]:
        transaction = OverlayTransaction(self._overlay)
        try:
            result = change(transaction)
            changes = transaction.finish()
            if not changes and not request_id:
                return result, None
            pending = Pending(
                transaction.revision,
                codec.EncodedTransaction(
                    [codec.encode_change(table, row_id, row) for table, row_id, row in changes],
                    request_id,
                    codec.encode_result(result) if request_id else b"",
                ),
                [(table, row_id) for table, row_id, _ in changes],
                result,
                asyncio.get_running_loop().create_future(),
            )
            self._line.check(pending)
        except BaseException:
            transaction.rollback()
            raise
        self._overlay.revision = transaction.revision
        if request_id:
            self._requests[request_id] = pending
        self._line.join(pending)
        self._wake.set()
        return result, pending

    async def _propose(self, entry: Entry) -> None:
        try:
            await self._proposer.propose(entry.data)
        except SwarmError as error:
            if self._line.has(entry):
                _log.warning("entry_failed", code=error.code.value, error=error.message)
                self._discard(error, entry)
            return
        assert not self._line.has(entry), "the log must apply an entry before propose() returns"

    def _settle(self, entry: Entry) -> None:
        """End the transactions of an entry of ours that is applied, and lift what they laid over the state."""
        for pending in entry.group:
            for table, row_id in pending.keys:
                self._overlay.settle(table, row_id, pending.revision)
            self._requests.pop(pending.transaction.request_id, None)
            pending.end(None)

    def _discard(self, error: SwarmError, failed: Entry | None = None) -> None:
        """Fail everything that is not applied: each transaction is built on those before it.

        An error that is about the `failed` entry alone (the disk is full, say) is not the answer to the others.
        """
        others = error
        if failed is not None and not error.retryable:
            others = SwarmError(Code.UNAVAILABLE, f"another write failed ({error.message}): try again")
        group = () if failed is None else failed.group
        for pending in self._line.clear():
            pending.end(error if pending in group else others)
        self._requests.clear()
        self._overlay.reset(self._state)


async def _each(chunks: Iterable[bytes] | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
