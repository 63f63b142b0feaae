"""Where the data plane's bound sockets come from: the supervisor, or this process itself."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from typing import Any, Final, NamedTuple, Protocol

import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from worker.dataplane.proxy.api import TransportName

BACKLOG: Final = 4096
WATCH_S: Final = 2.0
log = structlog.get_logger()

_REASONS: Final = {
    errno.EADDRINUSE: (Code.ALREADY_EXISTS, "another process holds it; stop that one or choose another port"),
    errno.EACCES: (Code.PERMISSION_DENIED, "ports below 1024 need root or CAP_NET_BIND_SERVICE"),
    errno.EADDRNOTAVAIL: (Code.UNAVAILABLE, "no interface of this machine has that address; check --data-addr"),
}


class Port(NamedTuple):
    """A transport address; `port` 0 asks for a free one."""

    transport: TransportName
    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.transport} port {self.port} on {self.address}"


class SocketProvider(Protocol):
    """Hands out bound sockets (TCP: listening) and keeps its own copy until `unbind`.

    Because of that copy, clients that connect while nobody accepts wait in the backlog, and the same
    request gives the same socket again, in the next process, too.
    """

    async def bind(self, port: Port) -> socket.socket:
        """Return a socket that the caller owns.

        Raises:
            SwarmError: the port cannot be had now; the sentence says why and what to do.
        """

    async def unbind(self, port: Port) -> None:
        """Give the port up. One that is not held is no error."""

    async def watch(self) -> None:
        """See to it that the copies stay where they are kept, until cancelled."""

    async def keep(self) -> None:
        """Do once what `watch` does again and again; before this process ends, for example."""

    def close(self) -> None:
        """Close this process's copies."""


class Supervisor(Protocol):
    """The part of the supervisor's client that is needed here."""

    async def bind(self, transport: str, address: str, port: int) -> socket.socket: ...

    async def unbind(self, transport: str, address: str, port: int) -> None: ...

    async def give(self, transport: str, address: str, port: int, sock: socket.socket) -> None: ...

    async def status(self) -> dict[str, Any]: ...

    def close(self) -> None: ...


class SupervisorSockets:
    """Has the supervisor bind and keep.

    A copy is held here, too: a supervisor that died took its copies along, and gets new ones from here, so
    that they outlive this process after all.
    """

    def __init__(self, client: Supervisor, *, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._supervisor = 0  # its process id when it was given copies last
        self._held: dict[Port, socket.socket] = {}

    async def bind(self, port: Port) -> socket.socket:
        if port not in self._held:
            self._held[port] = await self._client.bind(*port)
        return self._held[port].dup()

    async def unbind(self, port: Port) -> None:
        await self._client.unbind(*port)
        sock = self._held.pop(port, None)
        if sock is not None:
            sock.close()

    async def watch(self) -> None:
        while True:
            await self.keep()
            await self._clock.sleep(WATCH_S)

    async def keep(self) -> None:
        try:
            await self._keep()
        except SwarmError:
            # The connection may have been to a supervisor that is gone; the next call makes a new one.
            try:
                await self._keep()
            except SwarmError as error:
                log.warning("the supervisor does not answer", error=error.message)

    async def _keep(self) -> None:
        pid: int = (await self._client.status())["pid"]
        if pid != self._supervisor:  # the first time, too: it may have changed since the first bind
            await self._give()
        self._supervisor = pid

    async def _give(self) -> None:
        for port, sock in tuple(self._held.items()):
            await self._client.give(*port, sock)
        log.info("the supervisor has copies of all sockets", sockets=len(self._held))

    def close(self) -> None:
        _close_all(self._held)
        self._client.close()


class DirectSockets:
    """Binds here: for tests, and for a data plane that runs without a supervisor."""

    def __init__(self) -> None:
        self._held: dict[Port, socket.socket] = {}

    async def bind(self, port: Port) -> socket.socket:
        if port not in self._held:
            self._held[port] = bind_socket(port)
        return self._held[port].dup()

    async def unbind(self, port: Port) -> None:
        sock = self._held.pop(port, None)
        if sock is not None:
            sock.close()

    async def watch(self) -> None:
        return  # nobody else has copies

    async def keep(self) -> None:
        return

    def close(self) -> None:
        _close_all(self._held)


def _close_all(held: dict[Port, socket.socket]) -> None:
    while held:
        held.popitem()[1].close()


def bind_socket(port: Port) -> socket.socket:
    """Return a new non-blocking socket bound to `port`, listening if it is TCP.

    Raises:
        SwarmError: the system refuses; the sentence says why and what to do.
    """
    family = socket.AF_INET6 if ipaddress.ip_address(port.address).version == 6 else socket.AF_INET
    kind = socket.SOCK_STREAM if port.transport == "tcp" else socket.SOCK_DGRAM
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(socket.socket(family, kind | socket.SOCK_NONBLOCK))
        try:
            if kind == socket.SOCK_STREAM:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((port.address, port.port))
            if kind == socket.SOCK_STREAM:
                sock.listen(BACKLOG)
        except OSError as error:
            code, advice = _REASONS.get(error.errno or 0, (Code.UNAVAILABLE, str(error)))
            raise SwarmError(code, f"cannot bind {port}: {advice}") from error
        undo.pop_all()
    return sock
