"""What a session has to send, in order of importance: statuses, endpoints, heartbeats, and logs with what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from swarmpy.api.v1 import dispatcher_pb2 as pb
from worker import messages
from worker.alarms import Alarm, Alarms
from worker.logs.subscriptions import Chunk
from worker.reports import StatusReports

MOST_CHUNKS: Final = 8


class Outbox:
    """Everything outgoing of one session is state with a mark, but for logs, which wait in a short queue."""

    def __init__(self, reports: StatusReports, alarms: Alarms, *, heartbeat_s: float) -> None:
        """
        Args:
            heartbeat_s: seconds between heartbeats, as the manager wants them.
        """
        self._reports = reports
        self._alarms = alarms
        self._heartbeat_s = heartbeat_s
        self._wake = asyncio.Event()
        self._beat_due = False
        self._closing = False
        self._goodbye = False
        self._applied: tuple[int, tuple[str, ...]] | None = None
        self._chunks: asyncio.Queue[Chunk] = asyncio.Queue(MOST_CHUNKS)
        self._alarm: Alarm | None = None

    def open(self) -> None:
        """Begin to gather: reports of the tasks wake the sender from now on."""
        self._reports.restart()
        self._reports.wake = self._wake.set
        self._wake.set()
        self._alarm = self._alarms.after(self._heartbeat_s, self._beat)

    def close(self) -> None:
        """Stop gathering; statuses that are not acknowledged stay with the reports."""
        self._reports.wake = _nobody_sends
        if self._alarm is not None:
            self._alarm.cancel()

    def applied(self, revision: int, busy: tuple[str, ...]) -> None:
        """Send the data plane's newest watermark."""
        self._applied = (revision, busy)
        self._wake.set()

    def end(self) -> None:
        """Have `drain_to` end the stream from our side once everything else is sent."""
        self._closing = True
        self._wake.set()

    def say_goodbye(self) -> None:
        """End the stream as `end` does, with the word that this node has left the cluster."""
        self._goodbye = True
        self.end()

    async def put_chunk(self, chunk: Chunk) -> None:
        """Send a chunk of logs; waits while the queue is full."""
        await self._chunks.put(chunk)
        self._wake.set()

    async def drain_to(self, write: Callable[[pb.WorkerMessage], Awaitable[None]]) -> None:
        """Write what there is to send, as it comes, until `end` is called."""
        while True:
            message = self._next()
            if message is not None:
                await write(message)
            elif self._closing:
                return
            else:
                await self._wake.wait()
                self._wake.clear()

    def _next(self) -> pb.WorkerMessage | None:
        batch = self._reports.take()
        if batch is not None:
            return messages.status_batch(*batch)
        if self._applied is not None:
            applied, self._applied = self._applied, None
            return messages.endpoints_applied(*applied)
        if self._beat_due:
            self._beat_due = False
            return messages.heartbeat()
        if not self._chunks.empty():
            return messages.log_chunk(self._chunks.get_nowait())
        if self._goodbye:
            self._goodbye = False
            return messages.goodbye()
        return None

    def _beat(self) -> None:
        self._beat_due = True
        self._wake.set()
        self._alarm = self._alarms.after(self._heartbeat_s, self._beat)


def _nobody_sends() -> None:
    """What the reports wake between sessions."""
