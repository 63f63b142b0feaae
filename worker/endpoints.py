"""Endpoints on their way from the manager to this node's data plane, and how far they are applied.

Updates pass through as bytes. A data plane that restarts has its last endpoints on disk; if it missed some, a new
session brings them, for the manager sends what lies after the revision that the session's hello names.

Where this node's tasks are on networks, the kernel's tables follow the same updates. What is reported as applied is
then in force in both; a worker that has just started knows of no endpoints, so it says 0 and is sent all of them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from swarmpy.clock import Clock
from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import DECODER, EndpointsUpdate
from worker.backoff import full_jitter_s
from worker.dataplane.protocol import Applied, Counters, Hello, PortCleared, PortProblem

MOST_WAITING: Final = 256
_RETRY_BASE_S: Final = 0.05
_RETRY_CAP_S: Final = 2.0
_log = structlog.get_logger()

Event = Hello | Applied | PortProblem | PortCleared


class DataPlane(Protocol):
    """What is needed of a connection to the data plane (`worker.dataplane.client.DataPlaneClient`)."""

    hello: Hello | None

    async def send_endpoints(self, payload: bytes) -> None: ...
    async def counters(self) -> Counters: ...
    def events(self) -> AsyncIterator[Event]: ...
    async def close(self) -> None: ...


class KernelTables(Protocol):
    """What is needed of the node's networks (`worker.network.following.Following`) and of its ports (`publishing`).

    `busy` are withdrawn tasks to which the kernel leads connections still.
    """

    applied: int
    busy: frozenset[str]

    def reset(self, on_applied: Callable[[], None]) -> None:
        """Begin anew at revision 0; `on_applied` is called when `applied` has changed by itself."""

    def take(self, update: EndpointsUpdate) -> None:
        """Take over an update; `applied` says when it is in force, perhaps at once."""


class _Head(msgspec.Struct, gc=False):
    """The one field of an `EndpointsUpdate` that is read on the way."""

    revision: int


_HEAD: Final = msgspec.msgpack.Decoder(_Head)


class EndpointsLink:
    """Keeps one connection to the data plane and knows what it has applied."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[DataPlane]],
        clock: Clock,
        rng: random.Random,
        tables: Sequence[KernelTables] = (),
    ) -> None:
        """
        Args:
            connect: opens a connection; raises SwarmError UNAVAILABLE.
            tables: what else follows the endpoints.
        """
        self._connect = connect
        self._clock = clock
        self._rng = rng
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MOST_WAITING)
        self._plane: DataPlane | None = None
        self._expected_revision = 0
        self.hello: Hello | None = None
        self._in_plane: tuple[int, tuple[str, ...]] = (0, ())
        self._tables = tables
        self.applied: tuple[int, tuple[str, ...]] = (0, ())
        self.problems: dict[tuple[str, str, int], str] = {}
        self.on_applied: Callable[[int, tuple[str, ...]], None] = _nobody_listens
        self.on_stale: Callable[[str], None] = _nobody_cares
        for table in tables:
            table.reset(self._compare)

    def forward(self, update: bytes) -> None:
        """Hand on a manager's encoded `EndpointsUpdate`.

        Without a data plane only the kernel's tables follow it: a later session repeats it.

        Raises:
            SwarmError: CORRUPT, the bytes are no update.
        """
        try:
            if not self._tables:
                self._expected_revision = _HEAD.decode(update).revision
            else:
                decoded = DECODER.decode(update)
                self._expected_revision = decoded.revision
                for table in self._tables:
                    table.take(decoded)
                self._compare()
        except msgspec.DecodeError as error:
            raise SwarmError(Code.CORRUPT, f"the manager sent endpoints that cannot be read: {error}") from error
        if self._plane is None:
            return
        try:
            self._waiting.put_nowait(update)
        except asyncio.QueueFull:
            self.on_stale(f"the data plane is {MOST_WAITING} updates behind")

    def session_begins(self) -> None:
        """A new session names `applied` in its hello, and the manager goes on from there."""
        self._expected_revision = self.applied[0]
        while not self._waiting.empty():
            self._waiting.get_nowait()

    async def counters(self) -> Counters | None:
        """Return what the data plane has counted; None while there is none, or it does not answer."""
        if self._plane is None:
            return None
        try:
            return await self._plane.counters()
        except SwarmError as error:
            _log.warning("no counters of the data plane", error=error.message)
            return None

    async def run(self) -> None:
        """Keep connected until cancelled."""
        failures = 0
        while True:
            try:
                plane = await self._connect()
            except SwarmError as error:
                failures += 1
                if failures == 1:
                    _log.warning("no data plane", error=error.message)
                delay_s = full_jitter_s(failures, self._rng, base_s=_RETRY_BASE_S, cap_s=_RETRY_CAP_S)
                await self._clock.sleep(max(0.001, delay_s))
                continue
            failures = 0
            try:
                await self._serve(plane)
            finally:
                self._plane = None
                await plane.close()

    async def _serve(self, plane: DataPlane) -> None:
        assert plane.hello is not None, "a connection is made with its hello"
        self._plane = plane
        self._greeted(plane.hello)
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._send(plane))
            async for event in plane.events():
                self._take(event)
            sender.cancel()

    def _greeted(self, hello: Hello) -> None:
        self.hello = hello
        self._tell(hello.revision, ())
        if hello.revision != self._expected_revision:
            self.on_stale(f"the data plane has endpoints of revision {hello.revision}")

    def _take(self, event: Event) -> None:
        match event:
            case Hello():
                self.hello = event
            case Applied():
                self._tell(event.revision, event.busy)
            case PortProblem():
                self.problems[event.transport, event.address, event.port] = event.message
            case PortCleared():
                self.problems.pop((event.transport, event.address, event.port), None)

    def _tell(self, revision: int, busy: tuple[str, ...]) -> None:
        self._in_plane = (revision, busy)
        self.applied = self._least()
        self.on_applied(*self.applied)

    def _compare(self) -> None:
        """Say how far data plane and tables have come together, if that has changed."""
        applied = self._least()
        if applied != self.applied:
            self.applied = applied
            self.on_applied(*applied)

    def _least(self) -> tuple[int, tuple[str, ...]]:
        revision, busy = self._in_plane
        applied = min([revision, *(table.applied for table in self._tables)])
        led = frozenset().union(*(table.busy for table in self._tables))
        return applied, tuple(sorted(led.union(busy))) if led else busy

    async def _send(self, plane: DataPlane) -> None:
        while True:
            update = await self._waiting.get()
            try:
                await plane.send_endpoints(update)
            except SwarmError:
                return  # the events end too, and the next connection finds what is missing


def _nobody_listens(_revision: int, _busy: tuple[str, ...]) -> None:
    """What `on_applied` does until a session sets it."""


def _nobody_cares(_reason: str) -> None:
    """What `on_stale` does until a session sets it."""
