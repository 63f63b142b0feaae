"""A UDP port of a service: who sends datagrams keeps a backend, and gets its answers from the port.

Nothing says where a conversation ends, so a flow is a client's address and port, and the socket that its datagrams
leave by. It ends by silence, to make room, or with its backend: the client's next datagram begins another one then.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from typing import Any, Final

import structlog

from swarmpy.model.endpoints import EVERY_ADDRESS, ServiceEndpoint, ServicePort
from worker.dataplane.proxy.api import ListenKey
from worker.dataplane.proxy.connection import OUT_OF_DESCRIPTORS, Shared
from worker.dataplane.proxy.pool import Member, Pool

log = structlog.get_logger()

_BATCH: Final = 64
_IP_PKTINFO: Final = 8
_PKTINFO: Final = struct.Struct("=i4s4s")  # interface, address to answer from, address that was sent to
_SPACE: Final = socket.CMSG_SPACE(_PKTINFO.size)
_NOWHERE: Final = bytes(4)

Client = tuple[Any, ...]
"""A client as its relay tells it apart: its address and port; on the wildcard the address that it sent to, too."""


class Flow:
    """What one client sends to one backend, and what that answers.

    Attributes:
        question: the last datagram, until something is answered: where nobody listens, it goes to another backend.
        parting: the backend is withdrawn, and may answer for a moment.
    """

    __slots__ = ("bytes_in", "bytes_out", "client", "closed", "member", "parting", "question", "relay", "sock")

    def __init__(self, relay: Relay, client: Client, member: Member, sock: socket.socket) -> None:
        self.relay = relay
        self.client = client
        self.member = member
        self.sock = sock
        self.question: bytes | None = None
        self.parting = False
        self.closed = False
        self.bytes_in = 0
        self.bytes_out = 0

    def forward(self, data: memoryview | bytes) -> bool:
        """Send a datagram to the backend; return False if it said of the one before that nobody listens there."""
        try:
            self.sock.send(data)
        except ConnectionRefusedError:
            return False
        except OSError:
            self.relay.pool.failed += (
                1  # the socket is full, or the datagram too large for the way: lost, as any may be
            )
            return True
        self.question = bytes(data)
        self.bytes_in += len(data)
        return True

    def on_events(self, _events: int) -> None:
        """Pass on what the backend has answered, a bounded number at a time."""
        relay = self.relay
        view = relay.shared.reactor.view
        for _ in range(_BATCH):
            try:
                size = self.sock.recv_into(view)
            except BlockingIOError:
                return
            except OSError:
                relay.begin(self.client, self.question, self)
                return
            self.question = None
            self.bytes_out += size
            relay.answer(view[:size], self.client)

    def on_withdrawn(self) -> None:
        """The backend takes no new work. It may answer for a moment; the client's next datagram goes elsewhere."""
        self.relay.forget(self)
        if self.question is None:
            self.close()
        elif not self.parting:
            self.parting = True
            shared = self.relay.shared
            shared.parting.add(self, shared.clock.monotonic())

    def fail(self) -> None:
        """Nobody listens there: pass the backend over for a moment."""
        shared, pool = self.relay.shared, self.relay.pool
        self.member.failed += 1
        pool.rotation.rest(self.member, shared.clock.monotonic() + shared.limits.rest_s)
        self.close()

    def close(self) -> None:
        """End the flow; once is enough."""
        if self.closed:
            return
        self.closed = True
        relay = self.relay
        relay.forget(self)
        relay.shared.parting.discard(self)
        relay.shared.reactor.close(self.sock)
        relay.count_out(self)

    crash = close

    def total_bytes(self) -> int:
        return self.bytes_in + self.bytes_out

    def awaits_answer(self) -> bool:
        return False

    def traffic(self) -> tuple[int, int]:
        return self.bytes_in, self.bytes_out


class Relay:
    """A bound UDP socket of a service port, and its flows."""

    def __init__(self, shared: Shared, key: ListenKey, sock: socket.socket, pool: Pool, port: ServicePort) -> None:
        self.shared = shared
        self.key = key
        self.pool = pool
        self.port = port
        self._sock = sock
        self._flows: dict[Client, Flow] = {}
        self._count = 0  # of the flows, those that are parting, too
        self._closed = False
        sock.setblocking(False)
        shared.reactor.add_listener(sock, self)

    def on_events(self, _events: int) -> None:
        """Lead on what has arrived, a bounded number at a time."""
        view = self.shared.reactor.view
        for _ in range(_BATCH):
            try:
                size, client = self._receive()
            except OSError:
                return  # nothing more has arrived; of an answer that did not get through there is nothing to be done
            flow = self._flows.get(client)
            if flow is not None:
                if flow.forward(view[:size]):
                    continue
                flow = self.begin(client, flow.question, flow)
            if flow is None or not flow.forward(view[:size]):
                self.begin(client, bytes(view[:size]), flow)

    def begin(self, client: Client, data: bytes | None, refused: Flow | None = None) -> Flow | None:
        """Lead a datagram, if there is one, to another backend than one that refused it; return the new flow.

        A backend's refusal says that it did not take the datagram, so nobody gets it twice.
        """
        tried: list[Member] = []
        while True:
            if refused is not None:
                tried.append(refused.member)
                refused.fail()
            if data is None or self._closed:
                return None
            flow = self._open(client, tried)
            if flow is None or flow.forward(data):
                return flow
            refused = flow

    def update(self, service: ServiceEndpoint) -> None:
        """Of a UDP port nothing can change that would not be another port."""

    def answer(self, data: memoryview, client: Client) -> None:
        """Send a backend's answer to a client."""
        try:
            self._send(data, client)
        except OSError:
            self.pool.failed += 1  # the client is gone, or the socket full: lost, as any datagram may be

    def forget(self, flow: Flow) -> None:
        """Begin another flow when this one's client sends again."""
        if self._flows.get(flow.client) is flow:
            del self._flows[flow.client]

    def count_out(self, flow: Flow) -> None:
        """A flow has ended."""
        pool, shared = self.pool, self.shared
        pool.active -= 1
        pool.bytes_in += flow.bytes_in
        pool.bytes_out += flow.bytes_out
        pool.release(flow.member, flow, bytes_in=flow.bytes_in, bytes_out=flow.bytes_out)
        pool.service.flows.remove(flow)
        shared.flows.remove(flow)
        if not shared.flows:
            shared.flowless.set()
        self._count -= 1
        if self._closed and not self._count:
            self._sock.close()

    def crash(self) -> None:
        """One datagram could not be led on; the next ones are."""

    def close(self) -> None:
        """Take no more datagrams; what was asked may be answered for a moment, by the socket that stays for that."""
        self._closed = True
        self.shared.reactor.remove(self._sock)
        for flow in list(self._flows.values()):
            flow.on_withdrawn()
        if not self._count:
            self._sock.close()

    def _receive(self) -> tuple[int, Client]:
        return self._sock.recvfrom_into(self.shared.reactor.buffer)

    def _send(self, data: memoryview, client: Client) -> None:
        self._sock.sendto(data, client)

    def _open(self, client: Client, tried: Sequence[Member]) -> Flow | None:
        """Return a flow to the next backend; None if there is no backend, or no room."""
        shared, pool = self.shared, self.pool
        now_s = shared.clock.monotonic()
        member = pool.rotation.pick(now_s, tried)
        if member is None or not self._has_room(now_s):
            pool.refused += 1
            return None
        try:
            sock = member.open_datagram_socket()
        except OSError as error:
            pool.refused += 1
            if error.errno in OUT_OF_DESCRIPTORS:
                log.warning("no file descriptor is left for a UDP client", service=pool.service.service_id)
            return None
        flow = self._flows[client] = Flow(self, client, member, sock)
        pool.attach(member, flow)
        pool.active += 1
        pool.connections += 1
        pool.service.flows.add(flow, now_s)
        shared.flows.add(flow)
        shared.flowless.clear()
        shared.reactor.add_listener(sock, flow)
        self._count += 1
        return flow

    def _has_room(self, now_s: float) -> bool:
        """Say whether the service may have one more flow, if need be in place of one that is silent."""
        shared, flows = self.shared, self.pool.service.flows
        if len(flows) < shared.limits.max_flows - len(shared.flows):
            return True
        silent = flows.idle(now_s, shared.limits.reclaim_flow_s)
        if silent is None:
            return False
        self.pool.reclaimed += 1
        silent.close()
        return True


class WildcardRelay(Relay):
    """A socket on all addresses: an answer must leave by the one that was asked."""

    def __init__(self, shared: Shared, key: ListenKey, sock: socket.socket, pool: Pool, port: ServicePort) -> None:
        super().__init__(shared, key, sock, pool, port)
        sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def _receive(self) -> tuple[int, Client]:
        size, told, _, client = self._sock.recvmsg_into([self.shared.reactor.buffer], _SPACE)
        asked = _NOWHERE
        for level, kind, value in told:
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                _, asked, _ = _PKTINFO.unpack(value)
        return size, (*client, asked)

    def _send(self, data: memoryview, client: Client) -> None:
        address, port, asked = client
        by = (socket.IPPROTO_IP, _IP_PKTINFO, _PKTINFO.pack(0, asked, _NOWHERE))
        self._sock.sendmsg([data], [by], 0, (address, port))


def relay(shared: Shared, key: ListenKey, sock: socket.socket, pool: Pool, port: ServicePort) -> Relay:
    """Return the relay for a bound UDP socket, which is the relay's from now on."""
    kind = WildcardRelay if key.address == EVERY_ADDRESS else Relay
    return kind(shared, key, sock, pool, port)
