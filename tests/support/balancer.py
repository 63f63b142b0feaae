"""A balancer on real loopback sockets, with small backends and clients that a test scripts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from swarmpy.model.endpoints import AppProtocol, Backend, HostPort, ServicePort
from tests.support.clock import FakeClock
from worker.dataplane.proxy.api import CounterRow, Limits, ListenKey
from worker.dataplane.proxy.balancer import Balancer

TARGET = 80
SERVICE = "web"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peers:
    """Backends that run until the test ends."""

    def __init__(self) -> None:
        self._servers: dict[str, asyncio.Server] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()

    async def start(self, task_id: str, handler: Handler, port: int = 0) -> Backend:
        """Start a server that hands each connection to `handler` and closes it afterwards."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await handler(reader, writer)
            except ConnectionError:
                pass  # the proxy may cut a backend at any time
            finally:
                with contextlib.suppress(ConnectionError):
                    writer.close()
                    await writer.wait_closed()
                self._writers.discard(writer)

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        self._servers[task_id] = server
        return backend(task_id, server.sockets[0].getsockname()[1])

    async def stop(self, task_id: str) -> None:
        """Stop accepting at one backend; its connections go on."""
        server = self._servers.pop(task_id)
        server.close()

    def connections(self) -> int:
        """Return how many connections the backends have open."""
        return len(self._writers)

    async def aclose(self) -> None:
        for task_id in list(self._servers):
            await self.stop(task_id)
        for writer in list(self._writers):
            writer.transport.abort()
        await eventually(lambda: not self._writers)


def backend(task_id: str, port: int, *, slot: int = 1) -> Backend:
    """Return a ready backend of the test's service at a loopback port."""
    return Backend(task_id, SERVICE, slot, "node", "127.0.0.1", (HostPort(TARGET, port),))


def free_port() -> int:
    """Return a loopback port at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Rig:
    """One balancer with one listener of one service.

    Attributes:
        busy_calls: what `busy()` said each time `on_busy_changed` was called.
    """

    def __init__(self, limits: Limits) -> None:
        self.closed = False
        self.clock = FakeClock()
        self.busy_calls: list[frozenset[str]] = []
        self.balancer = Balancer(
            loop=asyncio.get_running_loop(), clock=self.clock, limits=limits, on_busy_changed=self._on_busy
        )
        self.peers = Peers()
        self.key = ListenKey("127.0.0.1", 0)
        self._clients: list[asyncio.StreamWriter] = []

    def _on_busy(self) -> None:
        self.busy_calls.append(self.balancer.busy())

    async def listen(self, protocol: AppProtocol) -> None:
        sock = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.key = ListenKey("127.0.0.1", sock.getsockname()[1])
        await self.balancer.listen(self.key, sock, SERVICE, ServicePort(TARGET, app_protocol=protocol))

    def ready(self, backends: Sequence[Backend], withdrawn: Sequence[str] = ()) -> None:
        """Make `backends` the ready ones."""
        self.balancer.apply({}, {SERVICE: tuple(backends)}, withdrawn)

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect a client; it is closed with the rig if the test does not."""
        reader, writer = await asyncio.open_connection(*self.key[:2], limit=1 << 24)
        self._clients.append(writer)
        return reader, writer

    def row(self, task_id: str = "") -> CounterRow:
        """Return the counters of a backend, or of the clients."""
        return next(row for row in self.balancer.counters() if row.task_id == task_id)

    async def close(self) -> None:
        if not self.closed:
            await self.balancer.close()
        for writer in self._clients:
            await hang_up(writer)
        await self.peers.aclose()

    async def stop_balancer(self) -> None:
        """Close the balancer within the test."""
        self.closed = True
        await self.balancer.close()


@contextlib.asynccontextmanager
async def rig(protocol: AppProtocol = AppProtocol.TCP, limits: Limits | None = None) -> AsyncIterator[Rig]:
    """Run a rig for the length of a `with` block; whatever is open at its end is cut at once."""
    made = Rig(limits or Limits(drain_s=0.0))
    try:
        await made.listen(protocol)
        yield made
    finally:
        await made.close()


async def eventually(condition: Callable[..., bool], *args: object, deadline_s: float = 5.0) -> None:
    """Return once `condition(*args)` holds; fail the test if it does not within real `deadline_s`."""
    async with asyncio.timeout(deadline_s):
        while not condition(*args):  # noqa: ASYNC110  # sockets and counters tell nobody that they changed
            await asyncio.sleep(0.005)


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a connection so that the other side sees a failure."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a client's connection, whatever state it is in."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        try:
            async with asyncio.timeout(2):
                await writer.wait_closed()
        except TimeoutError:  # what it still had to send is taken by nobody
            writer.transport.abort()
