"""The worker's end of the data plane's control socket. Reconnecting is the caller's decision."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from swarmpy.errors import Code, SwarmError
from worker.dataplane.protocol import (
    Applied,
    Configure,
    Counters,
    Endpoints,
    GetCounters,
    Hello,
    PortCleared,
    PortProblem,
    TaskServed,
    ToDataPlane,
    ToWorker,
    encode,
    worker_decoder,
)

Event = Hello | Applied | PortProblem | PortCleared
_READ_BYTES: Final = 256 * 1024


class DataPlaneClient:
    """One connection to the data plane; made by `connect`, ended by `close` or by the other side.

    Exactly one task iterates `events()`; the answers of `counters()` come in through it too.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = worker_decoder()
        self._pending: deque[ToWorker] = deque()
        self._asking: list[asyncio.Future[Counters]] = []
        self.hello: Hello | None = None

    @classmethod
    async def connect(cls, path: Path, *, node_id: str, cluster_id: str, timeout_s: float = 5.0) -> DataPlaneClient:
        """Connect to `path`, say who is calling, and wait for the data plane's Hello (then in `.hello`).

        Raises:
            SwarmError: UNAVAILABLE, no data plane answers at `path` within `timeout_s`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                reader, writer = await asyncio.open_unix_connection(path)
                client = cls(reader, writer)
                try:
                    await client._greet(node_id, cluster_id)
                except BaseException:
                    await client.close()
                    raise
        except OSError as error:  # a timeout too: TimeoutError is an OSError
            raise SwarmError(
                Code.UNAVAILABLE,
                f"no data plane answers at {path} ({str(error) or 'timed out'}); is swarmpyd running?",
            ) from error
        return client

    async def _greet(self, node_id: str, cluster_id: str) -> None:
        await self._send(Configure(node_id=node_id, cluster_id=cluster_id))
        while self.hello is None:
            for message in await self._receive():
                if isinstance(message, Hello) and self.hello is None:
                    self.hello = message
                else:
                    self._pending.append(message)

    async def send_endpoints(self, payload: bytes) -> None:
        """Hand on a manager's encoded `EndpointsUpdate`; returns once the socket has taken it.

        Raises:
            SwarmError: UNAVAILABLE, the connection is gone; connect again and send a complete update.
        """
        await self._send(Endpoints(payload=payload))

    async def counters(self, *, timeout_s: float = 5.0) -> Counters:
        """Return the data plane's counters; `events()` must be under way in another task.

        Raises:
            SwarmError: UNAVAILABLE, the connection ended; DEADLINE_EXCEEDED after `timeout_s`.
        """
        answer: asyncio.Future[Counters] = asyncio.get_running_loop().create_future()
        self._asking.append(answer)
        try:
            async with asyncio.timeout(timeout_s):
                await self._send(GetCounters())
                return await answer
        except TimeoutError as error:
            raise SwarmError(
                Code.DEADLINE_EXCEEDED, f"the data plane gave no counters within {timeout_s:g} s"
            ) from error

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield what the data plane says until the connection ends.

        Raises:
            SwarmError: CORRUPT, the data plane speaks another protocol.
        """
        try:
            while True:
                while self._pending:
                    message = self._pending.popleft()
                    if isinstance(message, Counters):
                        self._answer(message)
                        continue
                    if isinstance(message, TaskServed):
                        continue  # said to who tells of tasks (`worker.dataplane.names`)
                    if isinstance(message, Hello):
                        self.hello = message
                    yield message
                self._pending.extend(await self._receive())
        except SwarmError as error:
            if error.code is not Code.UNAVAILABLE:
                raise
        finally:
            for waiting in self._asking:
                if not waiting.done():
                    waiting.set_exception(_gone(None))
            self._asking.clear()

    def _answer(self, counters: Counters) -> None:
        # Answers come in the order of the questions, also for one that was given up.
        if self._asking:
            waiting = self._asking.pop(0)
            if not waiting.done():
                waiting.set_result(counters)

    async def _receive(self) -> list[ToWorker]:
        try:
            data = await self._reader.read(_READ_BYTES)
        except OSError as error:
            raise _gone(error) from error
        if not data:
            raise _gone(None)
        return list(self._decoder.feed(data))

    async def _send(self, message: ToDataPlane) -> None:
        try:
            self._writer.write(encode(message))
            await self._writer.drain()
        except OSError as error:
            raise _gone(error) from error

    async def close(self) -> None:
        """End the connection; safe to call twice."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return  # it was broken already, which is as closed as it gets


def _gone(error: OSError | None) -> SwarmError:
    return SwarmError(
        Code.UNAVAILABLE,
        f"the data plane closed the connection ({'end of stream' if error is None else error}); connect again",
    )
