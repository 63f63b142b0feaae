"""The backends of one target port of a service, the connections to them, and those that wait for one."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Protocol

from swarmpy.model.endpoints import Backend, Transport
from worker.dataplane.proxy.api import TRANSPORT_NAMES, CounterRow
from worker.dataplane.proxy.rotation import Rotation
from worker.dataplane.proxy.share import Holder, Holders


class Attached(Holder, Protocol):
    """What leads to a backend, as its pool sees it."""

    def on_withdrawn(self) -> None:
        """The backend this is attached to takes no new work."""

    def traffic(self) -> tuple[int, int]:
        """Return the bytes (in, out) since it was attached to its present backend."""


class Passing(Attached, Hashable, Protocol):
    """A client of which nobody knows when it has come to its end."""

    def close(self) -> None:
        """Forget it."""


class Client(Attached, Protocol):
    """A client connection as its pool sees it."""

    def dial(self) -> None:
        """Try to reach a backend, now that there may be one."""

    def retry(self) -> None:
        """Try every backend again, now that those that failed have rested."""

    def on_hold_expired(self) -> None:
        """No backend came in time."""

    def on_reclaimed(self) -> None:
        """This connection has been idle, and another client of the service needs its place."""


def set_keepalive(sock: socket.socket) -> None:
    """Let the kernel find out within two minutes that the other machine is gone; idle connections are kept."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 6)


def set_no_pacing(sock: socket.socket) -> None:
    """Spare a loopback connection the work of a system's default such as bbr: no link there is ever congested."""
    with contextlib.suppress(OSError):  # a kernel or container without it; the default does as well
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


class Member:
    """One backend at one target port, and what went to it."""

    __slots__ = (
        "address",
        "attached",
        "bytes_in",
        "bytes_out",
        "connections",
        "failed",
        "family",
        "loopback",
        "requests",
        "task_id",
        "withdrawn",
    )

    def __init__(self, task_id: str, address: tuple[str, int]) -> None:
        self.task_id = task_id
        self.address = address
        self.family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.loopback = ipaddress.ip_address(address[0]).is_loopback
        self.attached: set[Attached] = set()
        self.withdrawn = False
        self.connections = 0
        self.failed = 0
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def open_socket(self) -> tuple[socket.socket | None, int]:
        """Begin to connect; return the socket, or None and the error number."""
        try:
            sock = socket.socket(self.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            return None, error.errno or errno.EIO
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.loopback:
            set_no_pacing(sock)
        else:
            set_keepalive(sock)
        code = sock.connect_ex(self.address)
        if code in (0, errno.EINPROGRESS):
            return sock, 0
        sock.close()
        return None, code

    def open_datagram_socket(self) -> socket.socket:
        """Return a socket between a client and the backend alone; OSError if there is none."""
        sock = socket.socket(self.family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self.address)
        except OSError:
            sock.close()
            raise
        return sock


class BusySet:
    """The withdrawn tasks that still have connections, over all services.

    Args:
        on_changed: called, within the event that caused it, when a task enters or leaves.
    """

    __slots__ = ("_counts", "_on_changed")

    def __init__(self, on_changed: Callable[[], None]) -> None:
        self._counts: dict[str, int] = {}
        self._on_changed = on_changed

    def add(self, task_id: str) -> None:
        """Count one more withdrawn port of the task as having connections."""
        self._counts[task_id] = self._counts.get(task_id, 0) + 1
        if self._counts[task_id] == 1:
            self._on_changed()

    def remove(self, task_id: str) -> None:
        """Count one fewer."""
        self._counts[task_id] -= 1
        if not self._counts[task_id]:
            del self._counts[task_id]
            self._on_changed()

    def task_ids(self) -> frozenset[str]:
        """Return the tasks counted now."""
        return frozenset(self._counts)


class Service:
    """What a service's target ports share: the list of backends, the client connections, and who sends datagrams."""

    __slots__ = ("backends", "clients", "flows", "pools", "service_id")

    def __init__(self, service_id: str) -> None:
        self.service_id = service_id
        self.backends: tuple[Backend, ...] = ()
        self.pools: dict[tuple[int, Transport], Pool] = {}
        self.clients: Holders[Client] = Holders()
        self.flows: Holders[Passing] = Holders()


class Pool:
    """One target port of a service, shared by every listener of it.

    Attributes:
        members: the ready backends, by task id.
        leaving: withdrawn backends that still have connections here.
        waiting: clients without a backend, in the order in which they came.
    """

    __slots__ = (
        "active",
        "busy",
        "bytes_in",
        "bytes_out",
        "connections",
        "failed",
        "held",
        "leaving",
        "members",
        "port",
        "reclaimed",
        "refused",
        "requests",
        "rotation",
        "service",
        "transport",
        "waiting",
    )

    def __init__(self, service: Service, port: int, busy: BusySet, transport: Transport = Transport.TCP) -> None:
        self.service = service
        self.busy = busy
        self.port = port
        self.transport = transport
        self.rotation: Rotation[Member] = Rotation()
        self.members: dict[str, Member] = {}
        self.leaving: set[Member] = set()
        self.waiting: dict[Client, None] = {}
        self.active = 0
        self.connections = 0
        self.failed = 0
        self.refused = 0
        self.reclaimed = 0
        self.held = 0
        self.requests = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def set_backends(self, backends: Sequence[Backend]) -> None:
        """Make `backends` the ready set; those no longer in it are withdrawn, and waiting clients are served."""
        known = {member.address: member for member in (*self.leaving, *self.members.values())}
        wanted: dict[str, Member] = {}
        for backend in backends:
            address = backend_address(backend, self.port, self.transport)
            if address is None:
                continue
            member = known.get(address)
            if member is None or member.task_id != backend.task_id:
                member = Member(backend.task_id, address)
            wanted[backend.task_id] = member
        gone = [member for member in self.members.values() if wanted.get(member.task_id) is not member]
        self.members = wanted
        self.rotation.replace(wanted.values())
        for member in self.leaving.intersection(wanted.values()):
            self.leaving.remove(member)
            self.busy.remove(member.task_id)
            member.withdrawn = False
        for member in gone:
            self._withdraw(member)
        if wanted:
            self.wake()

    def wake(self) -> None:
        """Let the waiting clients try again, first come first served."""
        waiting, self.waiting = self.waiting, {}
        for client in waiting:
            client.dial()

    def retry(self) -> None:
        """Let the waiting clients try again, backends that failed them included."""
        waiting, self.waiting = self.waiting, {}
        for client in waiting:
            client.retry()

    def turn_away(self) -> None:
        """End the wait of every client: no backend will come."""
        for client in list(self.waiting):
            client.on_hold_expired()

    def attach(self, member: Member, client: Attached) -> None:
        """Count `client` as connected, or connecting, to `member`."""
        member.attached.add(client)
        member.connections += 1

    def release(self, member: Member, client: Attached, *, bytes_in: int, bytes_out: int) -> None:
        """End what `attach` began, with the bytes that went through since then."""
        member.attached.remove(client)
        member.bytes_in += bytes_in
        member.bytes_out += bytes_out
        if member.withdrawn and not member.attached and member in self.leaving:
            self.leaving.remove(member)
            self.busy.remove(member.task_id)

    def _withdraw(self, member: Member) -> None:
        member.withdrawn = True
        if not member.attached:
            return
        self.leaving.add(member)
        self.busy.add(member.task_id)
        for client in list(member.attached):
            client.on_withdrawn()

    def rows(self) -> list[CounterRow]:
        """Return the counters: the clients' row first, then one for each backend, leaving ones last."""
        present = {member: _traffic(member.attached) for member in (*self.members.values(), *self.leaving)}
        bytes_in = self.bytes_in + sum(traffic[0] for traffic in present.values())
        bytes_out = self.bytes_out + sum(traffic[1] for traffic in present.values())
        rows = [
            CounterRow(
                self.service.service_id,
                self.port,
                connections=self.connections,
                active=self.active,
                failed=self.failed,
                refused=self.refused,
                reclaimed=self.reclaimed,
                held=self.held,
                requests=self.requests,
                bytes_in=bytes_in,
                bytes_out=bytes_out,
                transport=TRANSPORT_NAMES[self.transport],
            )
        ]
        for member, traffic in present.items():
            rows.append(
                CounterRow(
                    self.service.service_id,
                    self.port,
                    member.task_id,
                    connections=member.connections,
                    active=len(member.attached),
                    failed=member.failed,
                    requests=member.requests,
                    bytes_in=member.bytes_in + traffic[0],
                    bytes_out=member.bytes_out + traffic[1],
                    transport=TRANSPORT_NAMES[self.transport],
                )
            )
        return rows


def backend_address(backend: Backend, target: int, transport: Transport = Transport.TCP) -> tuple[str, int] | None:
    """Return where `backend` listens for port `target`, or None if it does not, or only for its own machine."""
    for port in backend.ports:
        if port.target == target and port.transport is transport:
            address = port.reached_at(backend.address)
            inside = address != backend.address and ipaddress.ip_address(address).is_loopback
            return None if inside else (address, port.port)
    return None


def _traffic(clients: Collection[Attached]) -> tuple[int, int]:
    pairs = [client.traffic() for client in clients]
    return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
