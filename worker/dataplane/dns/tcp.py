"""DNS over TCP: two length bytes and a message, any number of them on a connection (RFC 7766)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

from swarmpy.clock import Clock
from worker.dataplane.dns.udp import is_loopback
from worker.dataplane.dns.wire import Query
from worker.dataplane.sockets import BACKLOG

MAX_CONNECTIONS: Final = 256
IDLE_S: Final = 10.0
SWEEP_S: Final = 1.0
_PIPELINED: Final = 64  # answers made in one go before others get the loop


Send = Callable[[bytes], None]
Outside = Callable[[bytes, Query, Send], None]


class Replies(Protocol):
    """What answers packets (`worker.dataplane.dns.answers.Responder`)."""

    def reply(self, packet: bytes) -> bytes | Query | None: ...


class TcpServer:
    """Accepts DNS connections of listening sockets; `sweep` must run beside it.

    Args:
        outside: looks up what `near` and `far` return as a query, and sends the answer; without it they return none.

    Over `max_connections`, the connection that has been silent longest is closed: a client that holds
    connections open cannot lock others out.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        near: Replies,
        far: Replies,
        outside: Outside | None = None,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._clock = clock
        self._outside = outside
        self._near = near
        self._far = far
        self._max = max_connections
        self._server: asyncio.Server | None = None
        self._own = ""
        self._active: dict[Connection, float] = {}  # in the order of last activity

    async def start(self, sock: socket.socket) -> None:
        """Serve a listening socket, which is owned from here on."""
        self._own = sock.getsockname()[0]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=sock, backlog=BACKLOG)

    def _connection(self) -> Connection:
        return Connection(self._responder, self._seen, self._active.pop, self._outside)

    def _responder(self, host: str) -> Replies:
        return self._near if host == self._own or is_loopback(host) else self._far

    def _seen(self, connection: Connection) -> None:
        self._active.pop(connection, None)
        self._active[connection] = self._clock.monotonic()
        if len(self._active) > self._max:
            oldest = next(iter(self._active))
            del self._active[oldest]
            oldest.cut()

    @property
    def connections(self) -> int:
        return len(self._active)

    async def sweep(self) -> None:
        """Close connections that were silent for `IDLE_S`; runs until cancelled."""
        while True:
            await self._clock.sleep(SWEEP_S)
            self.expire()

    def expire(self) -> None:
        """Close connections that have been silent for `IDLE_S`."""
        oldest_s = self._clock.monotonic() - IDLE_S
        for connection in [c for c, seen_s in self._active.items() if seen_s <= oldest_s]:
            connection.close()

    async def close(self) -> None:
        """Stop accepting, and end every connection."""
        for connection in tuple(self._active):
            connection.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class Connection(asyncio.Protocol):
    """One client: cuts its bytes into messages and answers them in order.

    Args:
        responder: gives the responder for an asker's address.
        seen: called with the connection whenever it says something.
        gone: called with the connection, and None, at its end.
        outside: looks up what is a matter of the outside; its answers may come in another order.
    """

    def __init__(
        self,
        responder: Callable[[str], Replies],
        seen: Callable[[Connection], None],
        gone: Callable[[Connection, None], object],
        outside: Outside | None = None,
    ) -> None:
        self._outside = outside
        self._choose = responder
        self._seen = seen
        self._gone = gone
        self._buffer = bytearray()
        self._paused = False
        self._scheduled: asyncio.Handle | None = None
        self._transport: asyncio.Transport
        self._responder: Replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in form only
        self._responder = self._choose(transport.get_extra_info("peername")[0])
        self._seen(self)

    def data_received(self, data: bytes) -> None:
        self._seen(self)
        self._buffer += data
        self._answer()

    def _answer(self) -> None:
        self._scheduled = None
        for _ in range(_PIPELINED):
            if self._paused or self._transport.is_closing():
                return
            size = int.from_bytes(self._buffer[:2], "big")
            if len(self._buffer) < 2 + size or len(self._buffer) < 2:
                self._transport.resume_reading()
                return
            packet = bytes(self._buffer[2 : 2 + size])
            del self._buffer[: 2 + size]
            answer = self._responder.reply(packet)
            if isinstance(answer, bytes):
                self._send(answer)
            elif answer is not None and self._outside is not None:
                self._outside(packet, answer, self._send)
            else:
                self.close()  # on a stream there is nothing to wait for after nonsense
                return
        # More is waiting: what has been read must be answered before more is read.
        self._transport.pause_reading()
        self._scheduled = asyncio.get_running_loop().call_soon(self._answer)

    def _send(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(len(answer).to_bytes(2, "big") + answer)

    def pause_writing(self) -> None:
        self._paused = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._scheduled is None:
            self._answer()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._scheduled is not None:
            self._scheduled.cancel()
        self._gone(self, None)

    def cut(self) -> None:
        """End the connection now: one that does not read would otherwise stay until it does."""
        self._transport.abort()

    def close(self) -> None:
        """End the connection after what was answered has been sent; one that does not read is cut."""
        if self._paused or self._transport.is_closing():
            self._transport.abort()
        else:
            self._transport.close()
