"""Readiness of many sockets, as one edge-triggered epoll set inside the event loop.

The loop sees a single descriptor. A socket is registered once, for both directions, and never modified:
stopping to read is simply not reading. DESIGN.md has the figures against one loop handle a socket.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Iterator
from typing import Final, Protocol

import structlog

log = structlog.get_logger()

READABLE: Final = select.EPOLLIN
WRITABLE: Final = select.EPOLLOUT
HUNG_UP: Final = select.EPOLLRDHUP
BROKEN: Final = select.EPOLLERR
_STREAM: Final = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_LISTENER: Final = select.EPOLLIN
_BATCH: Final = 256
_BATCHES: Final = 4
"""Batches in one turn: what arrived during one is taken up without a round through the event loop."""


class Target(Protocol):
    """What a socket's events go to."""

    def on_events(self, events: int) -> None:
        """Act on epoll `events`; never blocks."""

    def crash(self) -> None:
        """Give up the connection, after `on_events` raised."""


class Pumpable(Protocol):
    """Something that had more to read than one turn allows."""

    def pump(self) -> None:
        """Go on reading."""

    def crash(self) -> None:
        """Give up the connection, after `pump` raised."""


class Reactor:
    """Dispatches readiness to targets; owns the epoll descriptor and the one buffer that every read goes into.

    Args:
        loop: the running event loop; any that has `add_reader`.
        buffer_bytes: size of the shared read buffer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, buffer_bytes: int) -> None:
        self._loop = loop
        self._epoll = select.epoll()
        self._targets: dict[int, Target] = {}
        self._again: list[Pumpable] = []
        self._closing: list[socket.socket] = []
        self._dispatching = False
        self.buffer = bytearray(buffer_bytes)
        self.view = memoryview(self.buffer)
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, sock: socket.socket, target: Target) -> None:
        """Send the events of a stream socket to `target`, each edge once."""
        descriptor = sock.fileno()
        self._targets[descriptor] = target
        self._epoll.register(descriptor, _STREAM)

    def add_listener(self, sock: socket.socket, target: Target) -> None:
        """Send the events of a listening socket to `target`, as long as connections are queued."""
        descriptor = sock.fileno()
        self._targets[descriptor] = target
        self._epoll.register(descriptor, _LISTENER)

    def replace(self, sock: socket.socket, target: Target) -> None:
        """Send the events of a socket added before to another target."""
        self._targets[sock.fileno()] = target

    def remove(self, sock: socket.socket) -> None:
        """Forget a socket without closing it."""
        del self._targets[sock.fileno()]
        self._epoll.unregister(sock.fileno())

    def close(self, sock: socket.socket) -> None:
        """Forget and close a socket.

        Within a batch of events the closing waits for its end: else a new connection could get the same
        descriptor, and with it events of the old one.
        """
        self._targets.pop(sock.fileno(), None)
        if self._dispatching:
            self._closing.append(sock)
        else:
            sock.close()

    def again(self, reader: Pumpable) -> None:
        """Call `reader.pump()` after the others had their turn."""
        if not self._again:
            self._loop.call_soon(self._run_again)
        self._again.append(reader)

    def shut_down(self) -> None:
        """Leave the event loop; every target must be gone."""
        assert not self._targets, "sockets are still registered"
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        for _ in range(_BATCHES):
            events = self._epoll.poll(0, _BATCH)
            if not events:
                return
            batch = iter(events)
            self._dispatching = True
            while self._dispatch(batch):
                pass
            self._dispatching = False
            if self._closing:
                for sock in self._closing:
                    sock.close()
                self._closing.clear()

    def _dispatch(self, batch: Iterator[tuple[int, int]]) -> bool:
        """Deliver the rest of `batch`; return True if one target failed and others may follow."""
        targets = self._targets
        target: Target | None = None
        try:
            for descriptor, events in batch:
                target = targets.get(descriptor)
                if target is not None:
                    target.on_events(events)
        except Exception:
            # The boundary between connections: a fault in one must not lose the edges of the others.
            log.exception("a connection failed inside the balancer and was cut")
            assert target is not None
            target.crash()
            return True
        return False

    def _run_again(self) -> None:
        readers, self._again = self._again, []
        for reader in readers:
            try:
                reader.pump()
            except Exception:  # the same boundary
                log.exception("a connection failed inside the balancer and was cut")
                reader.crash()
