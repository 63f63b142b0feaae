"""Questions about the outside: asked of name servers in turn, for a bounded number of askers, each with a deadline.

Each question has a socket, so a port, and an id of its own; an answer counts only if it comes from the server that
was asked, with that id and that question.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import SwarmError
from worker.dataplane.dns.upstream import Order, Worth, judge
from worker.dataplane.dns.wire import Query

PORT: Final = 53
MOST_IN_FLIGHT: Final = 1024
SAY_AGAIN_S: Final = 60.0
_LARGEST_BYTES: Final = 65535
_ROUNDS: Final = 2
log = structlog.get_logger()

Opener = Callable[[Callable[[], socket.socket]], socket.socket]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one server is waited for, and all of them: less than the 5 s after which resolvers ask again."""

    try_s: float = 1.5
    total_s: float = 4.5


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be asked. `tcp`: how the asker came; `limit_bytes`: the largest answer that it takes."""

    packet: bytes
    query: Query
    tcp: bool
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class Upstream:
    """Whom to ask: addresses, and where sockets are opened for it. `asker` is for the log."""

    servers: Sequence[str]
    open: Opener
    asker: str


class Forwarder:
    """Asks name servers; `run` must be under way.

    Args:
        rng: draws ids; must not be predictable.
        port: where name servers listen.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        rng: random.Random,
        patience: Patience = Patience(),
        port: int = PORT,
        most_in_flight: int = MOST_IN_FLIGHT,
    ) -> None:
        self._clock = clock
        self._rng = rng
        self._patience = patience
        self._port = port
        self._most = most_in_flight
        self._order = Order()
        self._group: asyncio.TaskGroup | None = None
        self._in_flight = 0
        self._said_s: dict[str, float] = {}

    async def run(self) -> None:
        """Allow questions until cancelled; those under way then are given up."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                await asyncio.get_running_loop().create_future()  # never done
            finally:
                self._group = None  # a group that ends takes no more

    def ask(
        self, request: Request, upstream: Upstream, done: Callable[[bytes | None], None]
    ) -> asyncio.Task[None] | None:
        """Have `done` called with the answer, with the asker's id, or with None if no server gives one.

        None is returned, and `done` has been called, if it cannot even be tried.
        """
        if self._group is None or self._in_flight >= self._most or not upstream.servers:
            if not upstream.servers:
                self._say(upstream, "it has no name server that could be asked")
            elif self._group is not None:
                self._say(upstream, f"{self._most} questions are under way already")
            done(None)
            return None
        self._in_flight += 1
        task = self._group.create_task(self._answer(request, upstream, done))
        task.add_done_callback(self._ended)
        return task

    def _ended(self, _task: asyncio.Task[None]) -> None:
        self._in_flight -= 1

    async def _answer(self, request: Request, upstream: Upstream, done: Callable[[bytes | None], None]) -> None:
        answer = await self._ask_all(request, upstream)
        done(None if answer is None else request.packet[:2] + answer[2:])

    async def _ask_all(self, request: Request, upstream: Upstream) -> bytes | None:
        """Ask one server after the other, twice, until one answers; else return what one that failed said."""
        last: bytes | None = None
        reasons: dict[str, str] = {}
        try:
            async with asyncio.timeout(self._patience.total_s):
                for server in self._order.of(upstream.servers, self._clock.monotonic()) * _ROUNDS:
                    try:
                        worth, answer = await self._ask_one(request, upstream, server)
                    except (OSError, SwarmError) as error:  # a timeout, too
                        reasons[server] = str(error) or "no answer"
                        self._order.silent(server, self._clock.monotonic())
                        continue
                    self._order.spoke(server)
                    if worth is not Worth.FAILURE:
                        return answer
                    last = answer
                    reasons[server] = "it refuses or fails"
        except TimeoutError:
            pass  # told below, with the reason of each server
        self._say(upstream, "; ".join(f"{server}: {reason}" for server, reason in reasons.items()) or "no answer")
        return last

    async def _ask_one(self, request: Request, upstream: Upstream, server: str) -> tuple[Worth, bytes]:
        """Ask a server, over TCP if the asker came so or the answer is truncated."""
        packet = self._rng.randbytes(2) + request.packet[2:]
        if request.tcp:
            return await self._by_tcp(packet, request, upstream, server)
        worth, answer = await self._by_udp(packet, request, upstream, server)
        if worth is Worth.TRUNCATED:
            try:
                whole = await self._by_tcp(packet, request, upstream, server)
            except (OSError, SwarmError):
                return worth, answer  # the asker may come over TCP itself
            if whole[0] is Worth.GOOD and len(whole[1]) <= request.limit_bytes:
                return whole
        return worth, answer

    async def _by_udp(self, packet: bytes, request: Request, upstream: Upstream, server: str) -> tuple[Worth, bytes]:
        loop = asyncio.get_running_loop()
        with upstream.open(lambda: _connected(server, self._port, socket.SOCK_DGRAM)) as sock:
            async with asyncio.timeout(self._patience.try_s):
                await loop.sock_sendall(sock, packet)
                while True:
                    answer = await loop.sock_recv(sock, _LARGEST_BYTES)
                    worth = judge(answer, packet, request.query)
                    if worth is not Worth.FOREIGN:
                        return worth, answer

    async def _by_tcp(self, packet: bytes, request: Request, upstream: Upstream, server: str) -> tuple[Worth, bytes]:
        loop = asyncio.get_running_loop()
        with upstream.open(lambda: _connected(server, self._port, socket.SOCK_STREAM)) as sock:
            async with asyncio.timeout(self._patience.try_s):
                await loop.sock_connect(sock, _where(server, self._port))
                await loop.sock_sendall(sock, len(packet).to_bytes(2, "big") + packet)
                size = int.from_bytes(await _exactly(sock, 2), "big")
                answer = await _exactly(sock, size)
        worth = judge(answer, packet, request.query)
        if worth is Worth.FOREIGN:
            raise ConnectionError("it answers another question")
        return worth, answer

    def _say(self, upstream: Upstream, reason: str) -> None:
        """Log why there is no answer, once a minute for each asker."""
        now_s = self._clock.monotonic()
        self._said_s = {asker: said_s for asker, said_s in self._said_s.items() if said_s > now_s - SAY_AGAIN_S}
        if upstream.asker not in self._said_s:
            self._said_s[upstream.asker] = now_s
            log.warning("a name of the outside is not answered", task=upstream.asker, reason=reason)


def _where(server: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Return a server's socket address.

    Raises:
        OSError: its zone is no interface of this machine.
    """
    address = ipaddress.ip_address(server)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address), port
    zone = socket.if_nametoindex(address.scope_id) if address.scope_id else 0
    return server.partition("%")[0], port, 0, zone


def _connected(server: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """Return a new socket; a UDP one takes nothing but what comes from the server."""
    where = _where(server, port)
    family = socket.AF_INET if len(where) == 2 else socket.AF_INET6
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    if kind is socket.SOCK_DGRAM:
        try:
            sock.connect(where)
        except BaseException:
            sock.close()
            raise
    return sock


async def _exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    parts = bytearray()
    while len(parts) < size:
        part = await loop.sock_recv(sock, size - len(parts))
        if not part:
            raise ConnectionError("it closed the connection")
        parts += part
    return bytes(parts)
