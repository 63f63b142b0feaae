"""The name server of one task: sockets in its network namespace, over UDP and TCP, that know by themselves who asks."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from swarmpy.clock import Clock
from worker.dataplane.dns import wire
from worker.dataplane.dns.answers import TCP_BYTES, Responder
from worker.dataplane.dns.forward import Forwarder, Request, Upstream
from worker.dataplane.dns.tcp import TcpServer
from worker.dataplane.dns.udp import BURST
from worker.dataplane.dns.wire import Query, RCode

MOST_FORWARDED: Final = 256
MOST_CONNECTIONS: Final = 32
_READ_BYTES: Final = 4096


class Responders(NamedTuple):
    """What answers askers of one scope."""

    udp: Responder
    tcp: Responder


class _Replies:
    """The responder that a task's connections have now: it changes with the task's networks."""

    def __init__(self, responder: Responder) -> None:
        self.responder = responder

    def reply(self, packet: bytes) -> bytes | Query | None:
        return self.responder.reply(packet)


class TaskServer:
    """Serves a task's sockets, which it owns, until `close`.

    Args:
        upstream: returns whom to ask about the outside; None if that is not for this task.
    """

    def __init__(
        self,
        udp: socket.socket,
        *,
        responders: Responders,
        forwarder: Forwarder,
        upstream: Callable[[], Upstream | None],
        clock: Clock,
    ) -> None:
        self._udp = udp
        self._forwarder = forwarder
        self._upstream = upstream
        self._asked: set[asyncio.Task[None]] = set()
        self._responder = responders.udp
        self._tcp_replies = _Replies(responders.tcp)
        self._tcp = TcpServer(
            clock=clock,
            near=self._tcp_replies,
            far=self._tcp_replies,
            outside=self._outside_by_tcp,
            max_connections=MOST_CONNECTIONS,
        )
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(udp, self._readable)

    async def start(self, tcp: socket.socket) -> None:
        """Serve a listening socket, too."""
        await self._tcp.start(tcp)

    def answer_with(self, responders: Responders) -> None:
        """Answer as to another scope from now on."""
        self._responder, self._tcp_replies.responder = responders

    def expire(self) -> None:
        """Close connections that have been silent for long."""
        self._tcp.expire()

    async def close(self) -> None:
        """Stop answering, and close the sockets: a namespace lasts as long as there are any."""
        self._loop.remove_reader(self._udp)
        self._udp.close()
        asked = tuple(self._asked)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        await self._tcp.close()

    def _readable(self) -> None:
        receive, send, reply = self._udp.recvfrom, self._send, self._responder.reply
        for _ in range(BURST):
            try:
                packet, asker = receive(_READ_BYTES)
            except OSError:  # BlockingIOError: drained; others belong to a datagram sent before
                return
            answer = reply(packet)
            if isinstance(answer, bytes):
                send(answer, asker)
            elif answer is not None:
                self._outside_by_udp(packet, answer, asker)

    def _send(self, answer: bytes, asker: tuple[str, int]) -> None:
        try:
            self._udp.sendto(answer, asker)
        except OSError:  # a full send buffer, an asker that is gone; it asks again
            self._responder.count("lost")

    def _outside_by_udp(self, packet: bytes, query: Query, asker: tuple[str, int]) -> None:
        asked = query.edns.payload_bytes if query.edns else wire.PLAIN_PAYLOAD_BYTES
        request = Request(packet, query, tcp=False, limit_bytes=max(wire.PLAIN_PAYLOAD_BYTES, asked))
        self._forward(request, self._responder, lambda answer: self._send(answer, asker))

    def _outside_by_tcp(self, packet: bytes, query: Query, send: Callable[[bytes], None]) -> None:
        request = Request(packet, query, tcp=True, limit_bytes=TCP_BYTES)
        self._forward(request, self._tcp_replies.responder, send)

    def _forward(self, request: Request, responder: Responder, send: Callable[[bytes], None]) -> None:
        """Have a question answered elsewhere; say so at once if that cannot be."""
        upstream = self._upstream()
        if upstream is None:
            send(responder.refuse(request.packet, request.query, RCode.REFUSED))
            return

        def done(answer: bytes | None) -> None:
            if answer is None:
                answer = responder.refuse(request.packet, request.query, RCode.SERVFAIL)
            else:
                responder.count("forwarded")
            send(answer)

        if len(self._asked) >= MOST_FORWARDED:
            done(None)
            return
        task = self._forwarder.ask(request, upstream, done)
        if task is not None:
            self._asked.add(task)
            task.add_done_callback(self._asked.discard)
