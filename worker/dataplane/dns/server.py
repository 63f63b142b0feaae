"""The DNS server of a data plane: one zone, one port over UDP and TCP, answers kept for each kind of asker."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from worker.dataplane.dns.answers import TCP_BYTES, UDP_BYTES, Responder
from worker.dataplane.dns.tcp import TcpServer
from worker.dataplane.dns.udp import UdpServer
from worker.dataplane.dns.view import NodeView
from worker.dataplane.dns.zone import Zone
from worker.dataplane.sockets import Port, SocketProvider

FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 15.0
UDP_CACHE_BYTES: Final = 8 << 20
TCP_CACHE_BYTES: Final = 1 << 20
log = structlog.get_logger()


class DnsServer:
    """Serves `zone` on `address`, on the first of `ports` that can be had over both transports.

    Args:
        on_bound: called once the port is known (`port`, 0 before).
        on_problem: called with why no port can be had, once; it is tried again.
        on_cleared: called when that is over.
    """

    def __init__(
        self,
        zone: Zone,
        *,
        clock: Clock,
        sockets: SocketProvider,
        address: str,
        ports: Sequence[int],
        on_bound: Callable[[], None],
        on_problem: Callable[[Port, str], None],
        on_cleared: Callable[[Port], None],
    ) -> None:
        self._clock = clock
        self._sockets = sockets
        self._address = address
        self._ports = ports
        self._on_bound = on_bound
        self._on_problem = on_problem
        self._on_cleared = on_cleared
        self._udp_near, self._udp_far = (
            Responder(NodeView(zone, local=local), max_bytes=UDP_BYTES, cache_bytes=UDP_CACHE_BYTES)
            for local in (True, False)
        )
        self._tcp_near, self._tcp_far = (
            Responder(NodeView(zone, local=local), max_bytes=TCP_BYTES, cache_bytes=TCP_CACHE_BYTES)
            for local in (True, False)
        )
        self._responders = (self._udp_near, self._udp_far, self._tcp_near, self._tcp_far)
        self._udp: UdpServer | None = None
        self._tcp = TcpServer(clock=clock, near=self._tcp_near, far=self._tcp_far)
        self.port = 0

    def drop(self, tokens: Iterable[str]) -> None:
        """Forget the answers that depend on these service names."""
        tokens = tuple(tokens)
        for responder in self._responders:
            responder.drop(tokens)

    def clear(self) -> None:
        """Forget every kept answer."""
        for responder in self._responders:
            responder.clear()

    def counters(self) -> dict[str, int]:
        """Return queries by result, cache hits, lost UDP answers, and open TCP connections."""
        total: Counter[str] = Counter()
        for responder in self._responders:
            total.update(responder.counters())
        total["udp_lost"] = self._udp.lost if self._udp else 0
        total["tcp_connections"] = self._tcp.connections
        return dict(total)

    async def run(self) -> None:
        """Bind, as soon as that is possible, and serve until cancelled."""
        delay_s = FIRST_RETRY_S
        first = Port("udp", self._address, self._ports[0])
        while (error := await self._bind()) is not None:
            if delay_s == FIRST_RETRY_S:
                log.error("DNS is not served yet", error=error.message)
                self._on_problem(first, error.message)
            await self._clock.sleep(delay_s)
            delay_s = min(LAST_RETRY_S, delay_s * 2)
        if delay_s > FIRST_RETRY_S:
            self._on_cleared(first)
        log.info("DNS is served", address=self._address, port=self.port)
        self._on_bound()
        await self._tcp.sweep()

    async def _bind(self) -> SwarmError | None:
        """Try the ports; return why the last one failed, or None."""
        failure: SwarmError | None = None
        for number in self._ports:
            try:
                await self._bind_both(number)
            except SwarmError as error:
                failure = error
            else:
                return None
        return failure

    async def _bind_both(self, number: int) -> None:
        async with contextlib.AsyncExitStack() as undo:
            udp_port = Port("udp", self._address, number)
            udp = undo.enter_context(await self._sockets.bind(udp_port))
            undo.push_async_callback(self._sockets.unbind, udp_port)
            number = udp.getsockname()[1]
            tcp = undo.enter_context(await self._sockets.bind(Port("tcp", self._address, number)))
            await self._tcp.start(tcp)
            self._udp = UdpServer(udp, loop=asyncio.get_running_loop(), near=self._udp_near, far=self._udp_far)
            self.port = number
            undo.pop_all()

    async def close(self) -> None:
        """Stop serving; the provider keeps its copies of the sockets."""
        if self._udp is not None:
            self._udp.close()
        await self._tcp.close()
