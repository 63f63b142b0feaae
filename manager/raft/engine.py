"""The Raft thread: takes proposals and orders from the main loop, runs the node, hands back what came of them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from manager.raft.handoff import Handoff
from manager.raft.log.faults import LogFailedError
from manager.raft.node import RaftNode
from manager.raft.types import Commit, Entry, Leadership, Status
from swarmpy.clock import Clock
from swarmpy.errors import SwarmError

_log: Final = structlog.get_logger()
Waiter: TypeAlias = "asyncio.Future[Any]"  # belongs to the main loop; this thread only carries it


@dataclass(frozen=True, slots=True)
class Proposal:
    """Data to be appended; `waiter` gets its Commit or a SwarmError."""

    data: bytes
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Order:
    """Something to be done with the node between proposals; `waiter` gets the result."""

    action: Callable[[RaftNode], object]
    waiter: Waiter


@dataclass(frozen=True, slots=True)
class Stop:
    """End the thread after what came before."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the main loop does next: apply, settle each waiter with its value (or SwarmError), tell leadership."""

    entries: tuple[Entry, ...]
    settled: tuple[tuple[Waiter, object], ...]
    leadership: Leadership | None
    status: Status


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing the thread says; `error` is None after an orderly stop."""

    error: Exception | None


Inbound: TypeAlias = Proposal | Order | Stop
Outbound: TypeAlias = Delivery | Ended


class Engine:
    """Runs one node on its own loop until it is stopped or fails.

    Proposals are taken at once when the node is idle; those that come while a frame is being synced share the next
    frame, up to `max_frame_bytes`. The sync is made on this thread: nobody else needs its loop meanwhile, and a
    thread of its own would cost two more switches.
    """

    def __init__(
        self, node: RaftNode, to_main: Handoff[Outbound], *, clock: Clock, tick_s: float, max_frame_bytes: int
    ) -> None:
        self._node, self._to_main = node, to_main
        self._clock, self._tick_s, self._max_frame_bytes = clock, tick_s, max_frame_bytes
        self._loop = asyncio.new_event_loop()
        self.inbox: Final[Handoff[Inbound]] = Handoff(self._loop, self._receive)
        self._waiting: deque[tuple[Commit, Waiter]] = deque()
        self._done: asyncio.Future[None] = self._loop.create_future()

    def run(self) -> None:
        """Serve until the end; the target of the thread. `close` is for after it."""
        error: Exception | None = None
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as failure:  # noqa: BLE001 - the thread's boundary: carried to the main loop whole
            error = failure
        finally:
            self._node.close()
        try:
            self._to_main.post(Ended(error))
        except RuntimeError:
            _log.error("raft thread ended after the main loop", error=str(error) if error else None)

    def close(self) -> None:
        """Close the loop. Left to the main loop, which may post until it has heard that the thread ended."""
        self._loop.close()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._act(self._node.start)
                ticker = group.create_task(self._tick())
                await self._done
                ticker.cancel()
            self._node.seal()
        except ExceptionGroup as failures:  # a TaskGroup wraps the one error there is
            raise failures.exceptions[0] from None

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._tick_s)
            self._act(self._node.tick)

    def _act(self, action: Callable[[], None]) -> None:
        action()
        self._node.run(self._hand_out)

    def _receive(self) -> None:
        """Take a frame's worth of what waits; the rest comes after a turn of the loop."""
        if self._done.done():
            return
        try:
            self._round()
        except Exception as error:  # noqa: BLE001 - a callback has nobody above it: `_serve` raises it
            self._done.set_exception(error)
        else:
            self.inbox.again()

    def _round(self) -> None:
        proposals: list[Proposal] = []
        size_bytes = 0
        while size_bytes < self._max_frame_bytes and (item := self.inbox.pop()) is not None:
            if isinstance(item, Proposal):
                proposals.append(item)
                size_bytes += len(item.data)
                continue
            self._propose(proposals)
            proposals, size_bytes = [], 0
            if isinstance(item, Stop):
                self._done.set_result(None)
                return
            self._obey(item)
        self._propose(proposals)

    def _propose(self, proposals: list[Proposal]) -> None:
        if not proposals:
            return
        refused: list[tuple[Waiter, object]] = []
        for proposal, result in zip(proposals, self._node.propose([p.data for p in proposals]), strict=True):
            if isinstance(result, SwarmError):
                refused.append((proposal.waiter, result))
            else:
                self._waiting.append((Commit(result, self._node.term), proposal.waiter))
        if refused:
            self._post((), tuple(refused), None)
        self._node.run(self._hand_out)

    def _obey(self, order: Order) -> None:
        """Carry out an order; a failure of the log ends the thread, other errors are the asker's."""
        try:
            result: object = order.action(self._node)
        except LogFailedError:
            raise
        except SwarmError as error:
            result = error
        self._post((), ((order.waiter, result),), None)

    def _hand_out(self, entries: tuple[Entry, ...], leadership: Leadership | None) -> None:
        settled: list[tuple[Waiter, object]] = []
        while self._waiting and self._waiting[0][0].index <= entries[-1].index:
            commit, waiter = self._waiting.popleft()
            settled.append((waiter, commit))
        self._post(entries, tuple(settled), leadership)

    def _post(
        self, entries: tuple[Entry, ...], settled: tuple[tuple[Waiter, object], ...], leadership: Leadership | None
    ) -> None:
        self._to_main.post(Delivery(entries, settled, leadership, self._node.status()))
