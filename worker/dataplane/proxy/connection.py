"""What every proxied connection does: find a backend, wait for one, count itself, and end once."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass, field
from typing import Final

from swarmpy.clock import Clock
from worker.dataplane.proxy.api import Limits
from worker.dataplane.proxy.deadlines import Deadlines
from worker.dataplane.proxy.end import End
from worker.dataplane.proxy.pool import Member, Passing, Pool
from worker.dataplane.proxy.reactor import BROKEN, WRITABLE, Reactor

OUT_OF_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_HUP: Final = 0x10


@dataclass(slots=True)
class Shared:
    """What all connections of one balancer have in common.

    Attributes:
        connecting: connections whose backend has not accepted yet.
        held: connections that wait for a backend.
        lingering: HTTP clients that were told to go.
        connections: all of them.
        draining: the process is going to stop: HTTP answers say so.
        closing: it accepts no more, and what is idle is closed.
        leaving: while draining, the connections whose end is waited for.
        left: set when the last of them has ended.
        flows: who sends datagrams, of all UDP ports.
        parting: those of them whose backend is withdrawn, and may answer for a moment.
        flowless: set while there are no flows.
    """

    loop: asyncio.AbstractEventLoop
    clock: Clock
    limits: Limits
    reactor: Reactor
    connecting: Deadlines[Connection]
    held: Deadlines[Connection]
    lingering: Deadlines[Connection]
    connections: set[Connection]
    draining: bool = False
    closing: bool = False
    leaving: set[Connection] = field(default_factory=set)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    flows: set[Passing] = field(default_factory=set)
    parting: Deadlines[Passing] = field(default_factory=lambda: Deadlines(Limits().answer_s))
    flowless: asyncio.Event = field(default_factory=asyncio.Event)


class Dial:
    """A socket on its way to a backend."""

    __slots__ = ("connection", "sock")

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.sock = sock
        self.connection = connection

    def on_events(self, events: int) -> None:
        if events & (BROKEN | _HUP):
            self.connection.on_connect_failed()
        elif events & WRITABLE:
            self.connection.on_connected(events)

    def crash(self) -> None:
        self.connection.crash()


class Connection:
    """A client's connection. Subclasses say how bytes move once a backend is there.

    Attributes:
        client: the client's end.
        member: the backend this connection is attached to, while connecting and after.
        preamble: what each backend is sent before the client's first byte.
        upstream: the backend's end, once connected.
        tried: backends that failed since the client's bytes were last delivered to none.
    """

    __slots__ = (
        "_dial",
        "_mark_in_bytes",
        "client",
        "closed",
        "member",
        "pool",
        "preamble",
        "shared",
        "tried",
        "upstream",
        "was_held",
    )

    def __init__(self, shared: Shared, pool: Pool, sock: socket.socket, preamble: bytes = b"") -> None:
        self.shared = shared
        self.pool = pool
        self.preamble = preamble
        self.client = self._make_end(sock)
        self.member: Member | None = None
        self.upstream: End | None = None
        self.tried: tuple[Member, ...] = ()
        self.closed = False
        self.was_held = False
        self._dial: Dial | None = None
        self._mark_in_bytes = 0
        pool.active += 1
        pool.connections += 1
        pool.service.clients.add(self, shared.clock.monotonic())
        shared.connections.add(self)
        shared.reactor.add(sock, self.client)

    def _make_end(self, sock: socket.socket) -> End:
        return End(self.shared.reactor, sock, self)

    def begin(self) -> None:
        """Take up work; called once, after construction."""
        raise NotImplementedError

    # -- finding a backend

    def dial(self) -> None:
        """Connect to the next backend; wait for one if none is left to try."""
        shared, pool = self.shared, self.pool
        while True:
            now_s = shared.clock.monotonic()
            member = pool.rotation.pick(now_s, self.tried)
            if member is None:
                self._hold(now_s)
                return
            sock, code = member.open_socket()
            if sock is not None:
                break
            if code in OUT_OF_DESCRIPTORS:
                pool.refused += 1
                self.on_no_backend()
                return
            self._mark_failed(member, now_s)
        pool.attach(member, self)
        self.member = member
        self._dial = Dial(sock, self)
        shared.connecting.add(self, now_s)
        shared.reactor.add(sock, self._dial)

    def on_connected(self, events: int) -> None:
        """The backend accepted: begin to move bytes."""
        dial = self._dial
        assert dial is not None, "a connect was under way"
        self._dial = None
        self.shared.connecting.discard(self)
        self.tried = ()
        if self.was_held:
            # Only now: a backend that refuses must not start the wait anew.
            self.was_held = False
            self.shared.held.discard(self)
        upstream = self._make_end(dial.sock)
        self.upstream = upstream
        upstream.peer = self.client
        self.client.peer = upstream
        self.shared.reactor.replace(dial.sock, upstream)
        self._start(upstream)
        if not self.closed and self.upstream is upstream:
            upstream.on_events(events)

    def on_connect_failed(self) -> None:
        """The backend refused or took too long: try the next one, no byte was sent yet."""
        member = self.member
        assert member is not None, "a connect was under way"
        self._drop_dial()
        self._mark_failed(member, self.shared.clock.monotonic())
        self.dial()

    def _mark_failed(self, member: Member, now_s: float) -> None:
        member.failed += 1
        self.tried += (member,)
        self.pool.rotation.rest(member, now_s + self.shared.limits.rest_s)

    def _drop_dial(self) -> None:
        dial, self._dial = self._dial, None
        if dial is not None:
            self.shared.connecting.discard(self)
            self.shared.reactor.close(dial.sock)
            self._release()

    def _hold(self, now_s: float) -> None:
        """Wait for a backend: a new one, or one of those that failed once it has rested."""
        held = self.shared.held
        if self not in held:
            if len(held) >= self.shared.limits.max_held:
                self.pool.refused += 1
                self.on_no_backend()
                return
            held.add(self, now_s)
            self.pool.held += 1
            self.was_held = True
        self.pool.waiting[self] = None

    def retry(self) -> None:
        """Try again the backends that failed before, unless the client has left without a word."""
        if self.client.hung_up and not self.client.has_input():
            self.close()
            return
        self.tried = ()
        self.dial()

    def on_hold_expired(self) -> None:
        """No backend came in time."""
        self.pool.waiting.pop(self, None)
        self.shared.held.discard(self)
        self.pool.refused += 1
        if self._dial is not None:
            self._drop_dial()
        self.on_no_backend()

    # -- for subclasses

    def _start(self, upstream: End) -> None:
        """Begin to move bytes between `client` and `upstream`."""
        raise NotImplementedError

    def on_no_backend(self) -> None:
        """There is none, and no more waiting."""
        self.abort()

    def on_withdrawn(self) -> None:
        """The backend is to get no new work: one not reached yet is given up, others go on until they end."""
        if self._dial is not None:
            self._drop_dial()
            self.dial()

    def can_be_told(self) -> bool:
        """Whether the client can be told, with an answer, that the process is going to stop."""
        return False

    def on_closing(self) -> None:
        """The process is stopping; a plain connection may go on until it ends or is cut."""

    # -- counting and ending

    def total_bytes(self) -> int:
        """Return a number that changes whenever bytes move; only good for comparing with an earlier one."""
        upstream = self.upstream
        return 2 * self.client.received_bytes + (upstream.received_bytes if upstream is not None else 0)

    def awaits_answer(self) -> bool:
        """Whether the client is silent because it is the backend's turn; plain bytes do not tell."""
        return False

    def traffic(self) -> tuple[int, int]:
        upstream = self.upstream
        return (
            self.client.received_bytes - self._mark_in_bytes,
            upstream.received_bytes if upstream is not None else 0,
        )

    def _release(self) -> None:
        member, self.member = self.member, None
        if member is not None:
            bytes_in, bytes_out = self.traffic()
            self._mark_in_bytes = self.client.received_bytes
            self.pool.release(member, self, bytes_in=bytes_in, bytes_out=bytes_out)
            self.pool.bytes_in += bytes_in
            self.pool.bytes_out += bytes_out

    def drop_upstream(self, *, reset: bool = False) -> None:
        """Close the backend's end and leave the client without one."""
        self._drop_dial()
        upstream = self.upstream
        if upstream is not None:
            self._release()
            self.upstream = None
            upstream.close(reset=reset)
            if hasattr(self.client, "peer"):
                del self.client.peer
            self.client.blocked = True

    def close(self, *, reset: bool = False) -> None:
        """End the connection on both sides; once is enough."""
        if self.closed:
            return
        self.closed = True
        shared, pool = self.shared, self.pool
        self.drop_upstream(reset=reset)
        if self.was_held:
            shared.held.discard(self)
            pool.waiting.pop(self, None)
        self.client.close(reset=reset)
        shared.connections.remove(self)
        pool.active -= 1
        pool.service.clients.remove(self)
        if shared.draining:
            shared.leaving.discard(self)
            if not shared.leaving:
                shared.left.set()

    def on_reclaimed(self) -> None:
        self.pool.reclaimed += 1
        self.close()

    def abort(self) -> None:
        """End the connection so that both sides see that it was cut."""
        self.close(reset=True)

    def crash(self) -> None:
        self.pool.failed += 1
        self.abort()

    # -- events of the ends

    def on_broken(self, end: End) -> None:
        if not self.closed:
            self.pool.failed += 1
            self.abort()

    def on_end_of_stream(self, end: End) -> None:
        raise NotImplementedError

    def on_flushed(self, end: End) -> None:
        raise NotImplementedError
