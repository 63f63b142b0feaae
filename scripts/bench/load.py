"""A closed-loop load of HTTP requests that counts what fails, and how."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

from scripts.cluster import until

PATIENCE_S: Final = 10.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """Requests to several places in turn.

    With `keep` a client keeps its connection until the server says `Connection: close`; a request on a kept
    connection that fails counts as failed like any other: nothing is repeated.
    """

    def __init__(self, places: Sequence[tuple[str, int]], *, keep: bool) -> None:
        self._places = places
        self._keep = keep
        self.requests = 0
        self.failures: Counter[str] = Counter()

    @property
    def failed(self) -> int:
        return self.failures.total()

    @contextlib.asynccontextmanager
    async def running(self, clients: int) -> AsyncIterator[None]:
        """Send while inside; a request under way at the end is waited for."""
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(number, stop))
            try:
                yield
            finally:
                stop.set()

    async def answered(self, count: int) -> None:
        """Wait until so many more requests are answered."""
        goal = self.requests + count

        async def reached() -> bool:
            return self.requests >= goal

        await until(reached, what=f"{count} more requests are sent", deadline_s=PATIENCE_S * 3)

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        connection: Connection | None = None
        while not stop.is_set():
            place = self._places[number % len(self._places)]
            number += 1
            self.requests += 1
            try:
                async with asyncio.timeout(PATIENCE_S):
                    connection = connection or await asyncio.open_connection(*place)
                    kept = await self._request(connection)
            except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError) as error:
                self.failures[f"{type(error).__name__}: {error}"] += 1
                kept = False
            if connection is not None and not kept:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _request(self, connection: Connection) -> bool:
        """Send one request and read its answer; return whether the connection may be used again."""
        reader, writer = connection
        end = b"" if self._keep else b"Connection: close\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: bench\r\n" + end + b"\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if not head.startswith(b"http/1.1 200"):
            raise ValueError(head.split(b"\r\n", 1)[0].decode("latin-1"))
        length = int(head.split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
        await reader.readexactly(length)
        return self._keep and b"connection: close" not in head
