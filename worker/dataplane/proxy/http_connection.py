"""A client connection whose HTTP/1.1 messages are followed, so that it can change backends between requests."""

from __future__ import annotations

import socket
from typing import Final

from worker.dataplane.proxy.connection import Shared
from worker.dataplane.proxy.end import End
from worker.dataplane.proxy.http_tracker import Exchange, MalformedHttp, announce_close, error_response
from worker.dataplane.proxy.pool import Pool
from worker.dataplane.proxy.tcp import TcpConnection

_BAD_REQUEST: Final = error_response("400 Bad Request", "The request is not HTTP/1.1.")
_BAD_GATEWAY: Final = error_response("502 Bad Gateway", "The task closed the connection without an answer.")
_UNAVAILABLE: Final = error_response(
    "503 Service Unavailable", "No task of the service is ready; try again.", "Retry-After: 1"
)


class HttpEnd(End):
    """An end whose bytes pass through its connection's tracker until that has become opaque."""

    __slots__ = ()

    owner: HttpConnection

    def on_events(self, events: int) -> None:
        self.on_any_events(events)

    def _move(self) -> bool:
        owner = self.owner
        if owner.is_tunnel():
            return super()._move()
        size = self.receive()
        if not size:
            return False
        if not owner.deliver(self, self._view[:size]):
            self.readable = True
            return False
        return size == self._buffer_bytes or self.hung_up

    def fail_writing(self) -> None:
        if self.owner.is_tunnel():
            super().fail_writing()
            return
        self.failed = True
        self.pending = b""
        self.owner.on_broken(self)


class HttpConnection(TcpConnection):
    """Attached to a backend from a request's first byte on, until the backend closes or is withdrawn.

    Without a request in flight the client does not notice that its backend went: its next request goes to the
    next one. Once the exchange is opaque (upgrade, CONNECT, HTTP/2) it is a TCP connection like any other.

    Attributes:
        announced: an answer said `Connection: close`, so no request comes after those seen.
        exchange: what was asked and answered so far.
        replay: the unanswered request, as long as it may have to be sent to another backend.
        reused: the backend connection has answered before, so it may turn out to be closed already.
        finishing: the client gets what is pending and no more; what it sends is ignored.
    """

    __slots__ = ("announced", "exchange", "finishing", "replay", "reused")

    def __init__(self, shared: Shared, pool: Pool, sock: socket.socket, preamble: bytes = b"") -> None:
        super().__init__(shared, pool, sock, preamble)
        self.announced = False
        self.exchange = Exchange()
        self.replay = b""
        self.reused = False
        self.finishing = False

    def _make_end(self, sock: socket.socket) -> End:
        return HttpEnd(self.shared.reactor, sock, self)

    def begin(self) -> None:
        self.client.unblock()

    def is_tunnel(self) -> bool:
        """Whether both ends are to be treated as bytes."""
        return self.exchange.opaque and self.upstream is not None

    # -- bytes

    def deliver(self, end: End, data: memoryview) -> bool:
        """Take what `end` received, valid during the call only; return False if it is to be read no more now."""
        if end is self.client:
            self._on_request(data)
        elif end is self.upstream:
            self._on_response(end, data)
        return not end.blocked

    def _on_request(self, data: memoryview) -> None:
        if self.finishing:
            return
        exchange, upstream = self.exchange, self.upstream
        fresh = exchange.idle
        if fresh and self.shared.closing:
            self.shared.lingering.discard(self)
        try:
            exchange.request(data)
        except MalformedHttp:
            if fresh or exchange.complete == exchange.answered:
                self._answer_and_finish(_BAD_REQUEST)
            else:
                self.abort()
            return
        if upstream is None:
            if not exchange.idle:  # else only line ends between requests
                self.replay = bytes(data)
                self.client.blocked = True
                self.dial()
            return
        if fresh:
            self.replay = bytes(data)
        elif self.replay:
            small = len(self.replay) + len(data) <= self.shared.limits.replay_bytes
            self.replay = self.replay + data if small else b""
        if not upstream.write(data) and self.upstream is upstream:
            self.client.blocked = True

    def _start(self, upstream: End) -> None:
        self.reused = False
        upstream.blocked = False
        if upstream.write(self.preamble + self.replay):
            self.client.unblock()

    def _on_response(self, upstream: End, data: memoryview) -> None:
        exchange = self.exchange
        if exchange.idle:
            # Nobody asked: a farewell such as 408 to a connection it found too long idle.
            self._detach()
            return
        answered = exchange.answered
        # Not while more are to come: the client would take those behind it for unanswered.
        last_begins = not exchange.answering and exchange.unanswered == 1
        try:
            exchange.response(data)
        except MalformedHttp:
            self.pool.failed += 1
            self.abort()
            return
        self.replay = b""
        taken = self.client.write(self._announcing(data) if last_begins and self.shared.draining else data)
        if self.closed:
            return
        if not taken:
            upstream.blocked = True
        if exchange.answered != answered:
            self._on_answered(exchange.answered - answered)

    def _announcing(self, data: memoryview) -> bytes:
        marked = announce_close(bytes(data))
        self.announced = len(marked) > len(data)
        return marked

    def _on_answered(self, count: int) -> None:
        member, exchange = self.member, self.exchange
        assert member is not None, "only an attached backend answers"
        self.pool.requests += count
        member.requests += count
        self.reused = True
        if not exchange.idle:
            return
        if not exchange.keep_alive or self.client.at_eof or self.announced or self.shared.closing:
            self._finish()
        elif member.withdrawn:
            self._detach()

    def awaits_answer(self) -> bool:
        return self.exchange.complete > self.exchange.answered and not self.is_tunnel()

    # -- parting

    def _detach(self) -> None:
        """Leave the backend between two requests; the client does not notice."""
        self.drop_upstream()
        self.client.unblock()

    def _finish(self) -> None:
        """Let the client have what is pending, then close."""
        self.drop_upstream()
        self.finishing = True
        if not self.client.pending:
            self._part()

    def _part(self) -> None:
        """Close in an order that lets the client read the answer: our end, then its end, then the socket."""
        if self.client.at_eof:
            self.close()
            return
        self.client.shut_down_writing()
        self.shared.lingering.add(self, self.shared.clock.monotonic())
        self.client.unblock()

    def _answer_and_finish(self, response: bytes) -> None:
        self.client.write(response)
        if not self.closed:
            self._finish()

    def on_no_backend(self) -> None:
        self._answer_and_finish(_UNAVAILABLE)

    def on_withdrawn(self) -> None:
        if self.upstream is not None and self.exchange.idle:
            self._detach()
        else:
            super().on_withdrawn()

    def can_be_told(self) -> bool:
        return not self.is_tunnel()

    def on_closing(self) -> None:
        """Close between two requests; one that has arrived is answered, and a client that has just come waited for."""
        if self.finishing or not self.exchange.idle or self.client.has_input():
            return
        if self.exchange.begun:
            self._finish()
        else:
            self.shared.lingering.add(self, self.shared.clock.monotonic())

    def close(self, *, reset: bool = False) -> None:
        if not self.closed:
            self.shared.lingering.discard(self)
            super().close(reset=reset)
            self.exchange.end()

    # -- events of the ends

    def on_end_of_stream(self, end: End) -> None:
        exchange = self.exchange
        if self.is_tunnel():
            super().on_end_of_stream(end)
        elif end is not self.client:
            self._on_upstream_gone(broken=False)
        elif self.finishing or (exchange.idle and not end.pending):
            self.close()
        elif exchange.idle:
            self._finish()
        elif exchange.begun != exchange.complete:
            self.abort()  # half a request: it will never be answered

    def on_broken(self, end: End) -> None:
        if self.closed:
            return
        if self.is_tunnel():
            super().on_broken(end)
        elif end is self.client:
            self.pool.failed += not (self.exchange.idle or self.finishing)
            self.abort()
        elif end is not self.upstream:
            return
        elif end.at_eof:
            self._on_upstream_gone(broken=True)
        elif not end.waits_for_peer():
            end.hung_up = True
            end.pump()  # what it said before it broke counts; this is called again at its end

    def on_flushed(self, end: End) -> None:
        if self.is_tunnel():
            super().on_flushed(end)
        elif end is self.upstream:
            self.client.unblock()
        elif self.finishing:
            self._part()
        elif self.upstream is not None:
            self.upstream.unblock()

    def _on_upstream_gone(self, *, broken: bool) -> None:
        exchange = self.exchange
        if exchange.idle:
            self._detach()
        elif self.reused and self.replay and self._may_replay():
            # It had closed the idle connection before the request arrived, so no work was lost.
            self.drop_upstream()
            self.dial()
        elif exchange.answered == exchange.begun:
            self._finish()  # answered before the request was read to its end
        elif not exchange.answering:
            self.pool.failed += 1
            self._answer_and_finish(_BAD_GATEWAY)
        elif broken:
            self.pool.failed += 1
            self.abort()
        else:
            self._finish()  # the end of the stream is the end of the answer

    def _may_replay(self) -> bool:
        exchange = self.exchange
        return (
            exchange.unanswered == 1
            and exchange.begun == exchange.complete
            and exchange.replayable
            and not exchange.answering
        )
