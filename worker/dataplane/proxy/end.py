"""One socket of a proxied connection: moves what it receives to its peer, no faster than that takes it."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Final, Protocol

from worker.dataplane.proxy.reactor import BROKEN, HUNG_UP, READABLE, WRITABLE, Reactor

_ORDINARY: Final = READABLE | WRITABLE
_FAILED: Final = -1
_ROUNDS: Final = 8
"""Full buffers moved in one turn before other sockets get theirs."""
RESET: Final = struct.pack("ii", 1, 0)


class Owner(Protocol):
    """The connection that an end belongs to: told of the rare events."""

    def on_end_of_stream(self, end: End) -> None:
        """`end` will receive no more."""

    def on_flushed(self, end: End) -> None:
        """Nothing is pending to `end` any more."""

    def on_broken(self, end: End) -> None:
        """The socket of `end` failed."""

    def crash(self) -> None:
        """Give the connection up."""


class End:
    """A connected, non-blocking stream socket.

    Attributes:
        peer: the other end; unset until there is one. An end without a peer must be `blocked`.
        blocked: nothing is read: there is no peer yet, it is slow, or the stream has ended.
        readable: an edge arrived while blocked, so there may be something to read.
        failed: a write failed, so the stream cannot end in order any more.
        hung_up: the end of the stream is in sight, so reading goes on until it is met.
        at_eof: the end of the stream was met.
        pending: bytes to this socket that it did not take yet.
        received_bytes: read from this socket so far.
    """

    __slots__ = (
        "_buffer",
        "_buffer_bytes",
        "_reactor",
        "_recv_into",
        "_send",
        "_view",
        "at_eof",
        "blocked",
        "failed",
        "hung_up",
        "owner",
        "peer",
        "pending",
        "readable",
        "received_bytes",
        "sock",
    )

    peer: End

    def __init__(self, reactor: Reactor, sock: socket.socket, owner: Owner) -> None:
        self._reactor = reactor
        self._buffer = reactor.buffer
        self._buffer_bytes = len(reactor.buffer)
        self._view = reactor.view
        self._recv_into = sock.recv_into
        self._send = sock.send
        self.sock = sock
        self.owner = owner
        self.blocked = True
        self.readable = False
        self.failed = False
        self.hung_up = False
        self.at_eof = False
        self.pending = b""
        self.received_bytes = 0

    def on_events(self, events: int) -> None:
        if events != _ORDINARY or self.blocked or self.pending or self.hung_up:
            self.on_any_events(events)
            return
        # What nearly every event is: `_move`, without a call for it (DESIGN.md has the gain).
        try:
            size = self._recv_into(self._buffer)
        except OSError as error:
            self._on_nothing_read(error)
            return
        if not size:
            self.end_reading()
            return
        self.received_bytes += size
        try:
            sent = self.peer._send(self._view[:size])
        except OSError as error:
            sent = self.peer._on_nothing_sent(error)
        if (sent != size or size == self._buffer_bytes) and self._settle(sent, size):
            self.pump()

    def on_any_events(self, events: int) -> None:
        """Act on `events` whatever they are, and whatever state this end is in."""
        if events & (HUNG_UP | BROKEN):
            self.hung_up = True
        if self.pending and events & WRITABLE:
            self.flush()
        if self.blocked:
            self.readable = True
            if events & BROKEN and not self.waits_for_peer():
                self.owner.on_broken(self)
        elif events & (READABLE | BROKEN):
            self.pump()

    def crash(self) -> None:
        self.owner.crash()

    def pump(self) -> None:
        """Move what has arrived to the peer, until there is no more, the peer is full, or others wait."""
        if self.blocked:
            return
        for _ in range(_ROUNDS):
            if not self._move():
                return
        self._reactor.again(self)

    def _move(self) -> bool:
        """Move one buffer to the peer; return whether there may be more to read now."""
        size = self.receive()
        if not size:
            return False
        try:
            sent = self.peer._send(self._view[:size])
        except OSError as error:
            sent = self.peer._on_nothing_sent(error)
        return self._settle(sent, size)

    def receive(self) -> int:
        """Read into the shared buffer; return the number of bytes, 0 if there are none now or never again."""
        try:
            size = self._recv_into(self._buffer)
        except OSError as error:
            self._on_nothing_read(error)
            return 0
        if not size:
            self.end_reading()
        self.received_bytes += size
        return size

    def _settle(self, sent: int, size: int) -> bool:
        """Keep what the peer did not take of `size` bytes; return whether there may be more to read now."""
        if sent == size:
            # A short read emptied the socket: the next byte or the end brings a new edge.
            return size == self._buffer_bytes or self.hung_up
        if sent != _FAILED:
            self.peer.pending = bytes(self._view[sent:size])
            self.blocked = self.readable = True
        return False

    def _on_nothing_read(self, error: OSError) -> None:
        if not isinstance(error, BlockingIOError):
            self.fail_reading()

    def _on_nothing_sent(self, error: OSError) -> int:
        """Return 0 if the socket is only full; else give it up and return `_FAILED`."""
        if isinstance(error, BlockingIOError):
            return 0
        self.fail_writing()
        return _FAILED

    def end_reading(self) -> None:
        """The stream has ended: in order, unless the socket had failed before."""
        self.at_eof = self.blocked = True
        if self.failed:
            self.owner.on_broken(self)
        else:
            self.owner.on_end_of_stream(self)

    def fail_reading(self) -> None:
        """The stream has ended in a failure."""
        self.at_eof = self.blocked = True
        self.owner.on_broken(self)

    def fail_writing(self) -> None:
        """The socket takes no more: deliver what it said before (an early answer), then call it broken.

        The failure is told to one system call only; the reads after it see what looks like an orderly end.
        """
        self.failed = self.hung_up = True
        self.pending = b""
        source = self.peer
        source.at_eof = source.blocked = True
        if self.at_eof:
            self.owner.on_broken(self)
        else:
            self.pump()

    def write(self, data: memoryview | bytes) -> bool:
        """Send `data`, keep what the socket does not take; return False if some is pending or it failed."""
        if self.pending:
            self.pending += data
            return False
        try:
            sent = self._send(data)
        except OSError as error:
            sent = self._on_nothing_sent(error)
        if sent == len(data):
            return True
        if sent != _FAILED:
            self.pending = bytes(data[sent:])
        return False

    def flush(self) -> None:
        """Send what is pending; once it is gone, let the peer read again."""
        try:
            sent = self._send(self.pending)
        except BlockingIOError:
            return
        except OSError:
            self.fail_writing()
            return
        self.pending = self.pending[sent:]
        if self.pending:
            return
        self.owner.on_flushed(self)

    def waits_for_peer(self) -> bool:
        """Whether reading goes on once a slow peer has taken what is pending to it."""
        return not self.at_eof and hasattr(self, "peer") and bool(self.peer.pending)

    def has_input(self) -> bool:
        """Say whether bytes wait to be read; they stay where they are."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def unblock(self) -> None:
        """Read again, at once if something arrived meanwhile."""
        if self.at_eof or not self.blocked:
            return
        self.blocked = False
        if self.readable or self.hung_up:
            self.readable = False
            self.pump()

    def shut_down_writing(self) -> None:
        """Tell the other side that no more comes; its own direction goes on."""
        with contextlib.suppress(OSError):  # the other side is gone already: its own events say so
            self.sock.shutdown(socket.SHUT_WR)

    def close(self, *, reset: bool = False) -> None:
        """Close the socket; with `reset` the other side sees a failure instead of an orderly end."""
        if reset:
            with contextlib.suppress(OSError):  # not connected any more, so there is nobody to tell
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.blocked = self.at_eof = True
        self.pending = b""
        self._reactor.close(self.sock)
        if hasattr(self, "peer"):
            del self.peer
