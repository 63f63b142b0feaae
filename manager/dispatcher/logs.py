"""Log subscriptions: a request fans out to the workers that hold the tasks, and their lines come back here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from manager.dispatcher.dispatcher import Dispatcher
from manager.dispatcher.session import WorkerSession
from swarmpy.api.v1 import control_pb2
from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.errors import SwarmError
from swarmpy.ids import RandomBytes, new_id

QUEUED_CHUNKS: Final = 64
STALLED_READER_S: Final = 2.0


class Subscription:
    """One reader of the output of tasks on any number of nodes."""

    def __init__(self, subscription_id: str, request: control_pb2.LogsRequest, dispatcher: Dispatcher) -> None:
        self.id = subscription_id
        self._wanted = request
        self._dispatcher = dispatcher
        self._chunks: asyncio.Queue[tuple[str, pb.LogChunk]] = asyncio.Queue(QUEUED_CHUNKS)
        self._cut_off: deque[str] = deque()  # one sentence for each node that a full queue has cut off
        # The sessions that were asked and are not done, by node: a node's next session knows nothing of the request.
        self._pending: dict[str, WorkerSession] = {}

    def add(self, tasks_of_node: Mapping[str, Collection[str]]) -> list[str]:
        """Ask each node for the output of its tasks; return a sentence for each node that cannot be asked."""
        problems = []
        for node_id, task_ids in tasks_of_node.items():
            session = self._dispatcher.session_of(node_id)
            if session is None:
                problems.append(f"node {node_id} is not connected: the logs of its {len(task_ids)} task(s) are missing")
                continue
            try:
                session.subscribe(self._request(task_ids))
            except SwarmError as error:
                problems.append(error.message)
            else:
                self._pending[node_id] = session
        return problems

    async def next(self) -> tuple[str, pb.LogChunk] | None:
        """Return the next chunk and its node, or None once every node is done."""
        while self._pending or not self._chunks.empty():
            if self._chunks.empty() and self._cut_off:
                break
            node_id, chunk = await self._chunks.get()
            if chunk.done:
                self._pending.pop(node_id, None)
            if chunk.lines or chunk.problem:
                return node_id, chunk
        return ("", pb.LogChunk(problem=self._cut_off.popleft())) if self._cut_off else None

    async def take(self, node_id: str, chunk: pb.LogChunk) -> None:
        """Take in a worker's chunk; a reader that takes nothing for 2 s is cut off from this node.

        While this waits, nothing else that the worker says is read, so it must not last as long as the silence
        that makes a node DOWN, and it must not happen again with each chunk that is on its way already.
        """
        if node_id not in self._pending:
            return
        try:
            async with asyncio.timeout(STALLED_READER_S):
                await self._chunks.put((node_id, chunk))
        except TimeoutError:
            self._pending.pop(node_id).unsubscribe(self.id)
            self._cut_off.append(f"the output of node {node_id} was not read fast enough: its logs end here")

    def session_left(self, session: WorkerSession) -> None:
        """End what was awaited of a session that is over."""
        if self._pending.get(session.node_id) is not session:
            return
        problem = f"node {session.node_id} was disconnected: its logs end here"
        if self._chunks.full():
            del self._pending[session.node_id]
            self._cut_off.append(problem)
        else:
            self._chunks.put_nowait((session.node_id, pb.LogChunk(done=True, problem=problem)))

    def cancel(self) -> None:
        """Tell all that are awaited that nothing more is wanted."""
        for session in self._pending.values():
            session.unsubscribe(self.id)
        self._pending.clear()

    def _request(self, task_ids: Collection[str]) -> pb.LogSubscription:
        wanted = self._wanted
        return pb.LogSubscription(
            id=self.id,
            task_ids=sorted(task_ids),
            follow=wanted.follow,
            tail=wanted.tail if wanted.HasField("tail") else None,
            since=wanted.since,
            until=wanted.until,
        )


class LogBroker:
    """Knows which reader each subscription id belongs to."""

    def __init__(self, dispatcher: Dispatcher, random_bytes: RandomBytes) -> None:
        self._dispatcher = dispatcher
        self._random_bytes = random_bytes
        self._readers: dict[str, Subscription] = {}

    @asynccontextmanager
    async def subscribe(self, request: control_pb2.LogsRequest) -> AsyncIterator[Subscription]:
        """Open a subscription with no nodes yet; the workers are told to stop when the block ends."""
        subscription = Subscription(new_id(self._random_bytes), request, self._dispatcher)
        self._readers[subscription.id] = subscription
        try:
            yield subscription
        finally:
            del self._readers[subscription.id]
            subscription.cancel()

    async def take(self, node_id: str, chunk: pb.LogChunk) -> None:
        """Hand a worker's chunk to its reader, if it still reads."""
        subscription = self._readers.get(chunk.subscription_id)
        if subscription is not None:
            await subscription.take(node_id, chunk)

    def session_left(self, session: WorkerSession) -> None:
        """Tell every reader that a session is over."""
        for subscription in self._readers.values():
            subscription.session_left(session)
