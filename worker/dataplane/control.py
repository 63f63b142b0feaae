"""The control socket's server: one worker at a time, and nothing queued without bound for a slow one.

What a worker is told are states, not events, so for one that does not read only the newest are kept: it gets
them when it reads again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, cast

import msgspec
import structlog

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import DECODER, EndpointsUpdate
from worker.dataplane.protocol import (
    Applied,
    Configure,
    Counters,
    Endpoints,
    GetCounters,
    Hello,
    PortProblem,
    TaskGone,
    TaskNamespace,
    Tasks,
    TaskServed,
    ToDataPlane,
    ToWorker,
    data_plane_decoder,
    encode,
)

BUSY_INTERVAL_S: Final = 0.02
log = structlog.get_logger()


class Served(Protocol):
    """What a worker may ask of the data plane."""

    def configure(self, message: Configure) -> None: ...

    def apply(self, update: EndpointsUpdate) -> None: ...

    def hello(self) -> Hello: ...

    def applied(self) -> Applied: ...

    def problems(self) -> tuple[PortProblem, ...]: ...

    def counters(self) -> Counters: ...

    def name(self, message: TaskNamespace | Tasks | TaskGone) -> None: ...


class ControlServer:
    """Accepts workers on a UNIX socket; the last one to say who it is replaces the one before.

    So does the last one to tell of tasks' namespaces, for which a worker has a connection of its own: those there
    are outside of a cluster, too.
    """

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._open: set[_Connection] = set()
        self._current: _Connection | None = None
        self._naming: _Connection | None = None
        self._served: Served | None = None

    async def start(self, path: Path, served: Served) -> None:
        """Listen at `path` (mode 0660), taking the place of what a dead process left there."""
        self._served = served
        sock = _listening(path)
        self._server = await asyncio.get_running_loop().create_unix_server(self._accept, sock=sock)

    def tell(self, message: ToWorker) -> None:
        """Send a message to the worker, if there is one; what it cannot take now it hears later."""
        if isinstance(message, TaskServed):
            if self._naming is not None:
                self._naming.answer(message)
        elif self._current is not None:
            self._current.tell(message)

    def busy_changed(self) -> None:
        """Have the worker hear of the new `Applied` soon; many changes come to one message."""
        if self._current is not None:
            self._current.busy_changed()

    def _accept(self) -> _Connection:
        assert self._served is not None, "start() comes first"
        connection = _Connection(self._served, self._arrived, self._names, self._lost)
        self._open.add(connection)
        return connection

    def _arrived(self, connection: _Connection) -> None:
        if self._current is not None and self._current is not connection:
            log.info("a new worker connection replaces the last one")
            self._current.close()
        self._current = connection

    def _names(self, connection: _Connection) -> None:
        if self._naming is not None and self._naming is not connection:
            self._naming.close()
        self._naming = connection

    def _lost(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if self._current is connection:
            self._current = None
        if self._naming is connection:
            self._naming = None

    async def close(self) -> None:
        """Stop accepting and end every connection."""
        for connection in tuple(self._open):
            connection.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class _Connection(asyncio.Protocol):
    def __init__(
        self,
        served: Served,
        arrived: Callable[[_Connection], None],
        names: Callable[[_Connection], None],
        lost: Callable[[_Connection], None],
    ) -> None:
        self._served = served
        self._arrived = arrived
        self._names = names
        self._lost = lost
        self._decoder = data_plane_decoder()
        self._configured = False
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._said: Applied | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in form only

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return  # replaced: what was still on its way is void
        try:
            for message in self._decoder.feed(data):
                self._handle(message)
        except SwarmError as error:
            log.error("the worker's connection is closed", error=error.message)
            self.close()

    def _handle(self, message: ToDataPlane) -> None:
        if isinstance(message, Configure):
            self._arrived(self)
            self._served.configure(message)
            self._configured = True
            self._say_all()
            return
        if isinstance(message, TaskNamespace | Tasks | TaskGone):
            self._names(self)
            self._served.name(message)
            return
        if not self._configured:
            raise SwarmError(
                Code.FAILED_PRECONDITION, "a worker's first message must be Configure; this one sent another"
            )
        match message:
            case Endpoints(payload=payload):
                self._served.apply(_decoded(payload))
                self._say_applied()
            case GetCounters():
                self.tell(self._served.counters())

    def tell(self, message: ToWorker) -> None:
        if self._configured and not self._paused and not self._transport.is_closing():
            self._transport.write(encode(message))

    def answer(self, message: TaskServed) -> None:
        """Answer what this connection has said of a task; one that does not read goes without."""
        if not self._paused and not self._transport.is_closing():
            self._transport.write(encode(message))

    def busy_changed(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(0.0, self._say_busy)

    def _say_busy(self) -> None:
        self._timer = None
        applied = self._served.applied()
        if applied != self._said and not self._paused:
            self._say(applied)
            # A service that drains may report often; the next report waits, this one did not.
            self._timer = asyncio.get_running_loop().call_later(BUSY_INTERVAL_S, self._say_busy)

    def _say_applied(self) -> None:
        self._say(self._served.applied())

    def _say(self, applied: Applied) -> None:
        if self._configured and not self._paused:
            self._said = applied
            self.tell(applied)

    def _say_all(self) -> None:
        self.tell(self._served.hello())
        for problem in self._served.problems():
            self.tell(problem)
        self._say_applied()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._configured:
            self._say_all()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._lost(self)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()  # a worker that does not read must not keep it open


def _decoded(payload: bytes) -> EndpointsUpdate:
    try:
        return DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise SwarmError(
            Code.CORRUPT,
            f"the manager's endpoints update cannot be read ({error}); its version may be newer than this node's",
        ) from error


def _listening(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        path.chmod(0o660)
        sock.listen()
    except OSError as error:
        sock.close()
        raise SwarmError(
            Code.PERMISSION_DENIED, f"cannot listen on {path}: {error}; check the owner of its directory"
        ) from error
    return sock
