"""The /metrics page over a registry, for a loopback address: one small asyncio listener a process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from swarmpy.addresses import Address

log = structlog.get_logger(__name__)

REQUEST_DEADLINE_S: Final = 5.0
MAX_CONNECTIONS: Final = 64
LAG_INTERVAL_S: Final = 0.5
ACCEPTED_AT_ONCE: Final = 8
"""asyncio accepts as many connections in a turn as the backlog holds, turns before they can be counted here."""


@asynccontextmanager
async def serve_metrics(
    registry: CollectorRegistry, address: Address, refresh: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[None]:
    """Serve `GET /metrics` while the block runs. A port that cannot be had is logged; nothing else depends on it.

    Args:
        refresh: brings in what the collectors cannot ask for themselves, before each answer.
    """

    open_now = 0

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        if open_now >= MAX_CONNECTIONS:
            # Pages are for a collector or two; the process needs its descriptors for other things.
            writer.transport.abort()
            return
        open_now += 1
        try:
            async with asyncio.timeout(REQUEST_DEADLINE_S):
                request = await reader.readuntil(b"\r\n\r\n")
                if refresh is not None:
                    await refresh()
                writer.write(_answer(registry, request))
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("metrics_request_failed", reason=str(error))
        finally:
            open_now -= 1
            writer.close()

    try:
        server = await asyncio.start_server(connection, address.host, address.port, backlog=ACCEPTED_AT_ONCE)
    except OSError as error:
        log.warning("metrics_not_served", address=str(address), reason=error.strerror)
        yield
        return
    async with server:
        yield


def _answer(registry: CollectorRegistry, request: bytes) -> bytes:
    method, _, rest = request.partition(b" ")
    if method != b"GET" or rest.split(b" ", 1)[0].split(b"?", 1)[0] != b"/metrics":
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    body = generate_latest(registry)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {CONTENT_TYPE_LATEST}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


async def measure_loop_lag(gauge: Gauge) -> None:
    """Set `gauge` to how late the event loop's timers are, seconds, the worst of each half second; until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + LAG_INTERVAL_S
        await asyncio.sleep(LAG_INTERVAL_S)
        gauge.set(max(0.0, loop.time() - due_s))
