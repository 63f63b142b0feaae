"""The Raft thread: takes what comes from main loop and other members, runs the node, hands on what comes of it.

All that happens to the node comes through one inbox, in order, a frame's worth at a time. What comes while a frame is
being made waits there and shares the next one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import structlog

from manager.raft.handoff import Handoff
from manager.raft.items import Arrived, Ask, Ended, Handed, Heard, Item, Order, Outbound, Proposal, Stop, Wiring
from manager.raft.log.faults import LogFailedError
from manager.raft.node import RaftNode
from manager.raft.outlet import Delivery, Waiter
from manager.raft.succession import JITTER_S, stand_pauses_s
from manager.raft.transport.links import Network
from manager.raft.transport.switchboard import Answer, Switchboard
from manager.raft.types import NOBODY, EntryKind, Message, Metadata
from swarmpy.clock import Clock
from swarmpy.errors import SwarmError

_log: Final = structlog.get_logger()
MESSAGE_BYTES: Final = 64
STREAMS_END_S: Final = 1.0


class Engine:
    """Runs one node on its own loop until it is stopped or fails; its node's `Outlet`.

    Proposals and messages are taken at once when the node is idle. The sync is made on this thread: nobody else needs
    its loop meanwhile, and a thread of its own would cost two more switches. What a leader sends ahead of its sync
    gets one turn of the loop before it, in which the streams write.
    """

    def __init__(
        self,
        node: RaftNode,
        metadata: Metadata,
        to_main: Handoff[Outbound],
        answers: Handoff[Answer],
        *,
        network: Network | None,
        clock: Clock,
        rng: random.Random,
        file_thread: Executor,
        tick_s: float,
        max_frame_bytes: int,
    ) -> None:
        self._node, self._to_main = node, to_main
        self._clock, self._rng, self._tick_s, self._max_frame_bytes = clock, rng, tick_s, max_frame_bytes
        self._loop = asyncio.new_event_loop()
        self.inbox: Final[Handoff[Item]] = Handoff(self._loop, self._receive)
        self._streams = Switchboard(
            metadata, network, self, answers, spawn=self._spawn, file_thread=file_thread, clock=clock, rng=rng
        )
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop_standing: Callable[[], object] = lambda: None
        self._is_busy = True  # until the node is started: what comes before waits
        self._has_sent = self._is_stopping = False
        self._applied = node.applied_index
        self.status = node.status()

    # The thread

    def run(self) -> None:
        """Serve until the end; the target of the thread. `close` is for after it."""
        failure = _failure_of(lambda: self._loop.run_until_complete(self._serve()))
        closing = _failure_of(self._node.close)
        error = failure or closing
        try:
            self._to_main.post(Ended(error))
        except RuntimeError:
            _log.error("raft thread ended after the main loop", error=str(error) if error else None)

    def close(self) -> None:
        """Close the loop. Left to the main loop, which may post until it has heard that the thread ended."""
        self._loop.close()

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as self._group:
                self._spawn(self._tick())
                self._guarded(self._start)
                try:
                    await self._done
                finally:
                    for task in self._tasks:
                        task.cancel()
            self._node.seal()
        except ExceptionGroup as failures:  # a TaskGroup wraps the one error there is
            raise failures.exceptions[0] from None
        finally:
            await _let_streams_end()

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(self._tick_s)
            self.inbox.put(Ask(RaftNode.tick))
            self.status = self._node.status()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task.cancel

    # Rounds

    @property
    def has_work(self) -> bool:
        """Whether this thread is at work, or has something to take; for the main loop."""
        return self._is_busy or len(self.inbox) > 0

    def applied(self, index: int) -> None:
        """Learn, on the main loop, that everything up to `index` is applied."""
        self._applied = index
        if self._node.is_behind:  # looked at after the index was set, and the other way round below
            self.inbox.post(Ask(lambda node: None))

    def _start(self) -> None:
        self._node.start(self)
        self._pump()

    def _receive(self) -> None:
        """Take a frame's worth of what waits; the rest comes after a turn of the loop."""
        if self._is_busy or self._done.done():
            return
        self._is_busy = True
        self._guarded(self._round)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a callback has nobody above it: `_serve` raises it
            if not self._done.done():
                self._done.set_exception(error)

    def _round(self) -> None:
        proposals: list[tuple[bytes, Waiter]] = []
        size_bytes = 0
        while size_bytes < self._max_frame_bytes and (item := self.inbox.pop()) is not None:
            if isinstance(item, Proposal):
                proposals.append((item.data, item.waiter))
                size_bytes += len(item.data)
                continue
            if proposals:
                self._node.propose(proposals)
                proposals = []
            if isinstance(item, Stop):
                self._is_stopping = True
                self._pump()
                self._done.set_result(None)
                return
            size_bytes += self._take(item)
        if proposals:
            self._node.propose(proposals)
        self._pump()

    def _take(self, item: Ask | Order | Arrived | Heard | Wiring) -> int:
        """Do what an item says; return the size of the data that it brought, in bytes."""
        if isinstance(item, Arrived):
            self._node.step(self._streams.take(item.inbound, item.data))
            return len(item.data)
        if isinstance(item, Heard):
            self._node.step(item.messages)
            return len(item.messages) * MESSAGE_BYTES
        if isinstance(item, Ask):
            item.action(self._node)
        elif isinstance(item, Wiring):
            item.action(self._streams)
        else:
            self._obey(item)
        return 0

    def _obey(self, order: Order) -> None:
        """Carry out an order; a failure of the log ends the thread, other errors are the asker's."""
        self._learn_applied()
        try:
            result: object = order.action(self._node)
        except LogFailedError:
            raise
        except SwarmError as error:
            result = error
        self.deliver(Delivery(settled=((order.waiter, result),)))

    def _pump(self) -> None:
        """Carry out what is ready, with a turn of the loop between the halves where something was sent ahead."""
        self._learn_applied()
        while self._node.prepare():
            will_sync = self._node.will_sync
            if self._has_sent and will_sync and not self._is_stopping:
                self._loop.call_soon(self._guarded, self._second_half)
                return
            self._has_sent = False
            self._node.carry_out()
            if self._inbox_first(will_sync):
                break
        self._learn_applied()
        self._is_busy = self._has_sent = False
        self.inbox.again()

    def _inbox_first(self, has_synced: bool) -> bool:
        """Tell whether what waits in the inbox comes before the rest of what is ready: behind a mere hand-out it does.

        A member that takes in a long log has thousands of hand-outs ready, each as long as the main loop lets it wait
        for Python's lock; others' writes may wait for its answers meanwhile.
        """
        return not has_synced and len(self.inbox) > 0 and not self._is_stopping

    def _second_half(self) -> None:
        self._has_sent = False
        self._node.carry_out()
        self._pump()

    def _learn_applied(self) -> None:
        if self._applied > self._node.applied_index:
            self._node.applied(self._applied)

    # The node's outlet

    def send(self, messages: Sequence[Message]) -> None:
        """See `Outlet.send`."""
        self._has_sent = self._streams.send(messages) or self._has_sent

    def send_snapshot(self, message: Message) -> None:
        """See `Outlet.send_snapshot`."""
        reader = self._node.snapshot_reader()
        assert reader is not None, "the core names the snapshot that is stored"
        self._streams.send_snapshot(message, reader)

    def deliver(self, delivery: Delivery) -> None:
        """See `Outlet.deliver`. A snapshot is opened now: a newer one may come before the main loop gets to it."""
        # A tick tells the rest. Who has changed the members must find them changed.
        has_changed = any(entry.kind is EntryKind.CONF_CHANGE for entry in delivery.entries)
        if has_changed or delivery.leadership is not None or not delivery.entries:
            self.status = self._node.status()
        self._to_main.post(Handed(delivery, self._node.snapshot_reader() if delivery.restore is not None else None))

    # What the streams tell

    def arrived(self, messages: Sequence[Message]) -> None:
        """See `Listener.arrived`."""
        self.inbox.put(Heard(messages))

    def dropped(self, member_id: int) -> None:
        """See `Listener.dropped`."""
        self.inbox.put(Ask(lambda node: node.unreachable(member_id)))

    def snapshot_sent(self, member_id: int, *, ok: bool) -> None:
        """See `Events.snapshot_sent`."""
        self.inbox.put(Ask(lambda node: node.snapshot_sent(member_id, ok=ok)))

    def found(self, member_id: int) -> None:
        """See `Listener.found`. While nobody leads, whom it takes for a majority may just have come: see at once."""
        self.inbox.put(Ask(self._look_for_leader))

    def _look_for_leader(self, node: RaftNode) -> None:
        if node.leader_id == NOBODY and (rank := node.rank(NOBODY)) is not None:
            self._begin_to_stand(rank)

    def lost(self, member_id: int) -> None:
        """See `Listener.lost`. If it was the leader's stream, its time-out is not waited for."""
        self.inbox.put(Ask(lambda node: self._lose(node, member_id)))

    def _lose(self, node: RaftNode, member_id: int) -> None:
        node.unreachable(member_id)
        if node.leader_id != member_id:
            return
        rank = node.rank(member_id)
        node.leader_lost()
        if rank is not None:
            _log.info("raft leader lost", leader=member_id, rank=rank)
            self._begin_to_stand(rank)

    def _begin_to_stand(self, rank: int) -> None:
        self._stop_standing()
        self._stop_standing = self._spawn(self._stand(rank))

    async def _stand(self, rank: int) -> None:
        """Stand for leader until somebody leads; those before us by rank first."""
        for pause_s in stand_pauses_s(rank):
            await self._clock.sleep(pause_s + self._rng.uniform(0, JITTER_S))
            if self._node.leader_id != NOBODY:
                return
            self.inbox.put(Ask(RaftNode.campaign))


def _failure_of(step: Callable[[], None]) -> Exception | None:
    try:
        step()
    except Exception as failure:  # noqa: BLE001 - the thread's boundary: carried to the main loop whole
        return failure
    return None


async def _let_streams_end() -> None:
    """Wait for what gRPC still has to say of the streams that were just cancelled: it says it to this loop."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    if rest:
        await asyncio.wait(rest, timeout=STREAMS_END_S)
