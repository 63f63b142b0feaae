"""Accepts connections on one socket, within the limits."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

import structlog

from swarmpy.model.endpoints import AppProtocol, ServiceEndpoint, ServicePort
from worker.dataplane.proxy.api import ListenKey
from worker.dataplane.proxy.connection import OUT_OF_DESCRIPTORS, Shared
from worker.dataplane.proxy.end import RESET
from worker.dataplane.proxy.http_connection import HttpConnection
from worker.dataplane.proxy.pool import Pool, set_keepalive, set_no_pacing
from worker.dataplane.proxy.preamble import Endpoint, preamble
from worker.dataplane.proxy.share import share
from worker.dataplane.proxy.tcp import TcpConnection

log = structlog.get_logger()

_BATCH: Final = 64
_MOST_CUT: Final = 4
_PAUSE_S: Final = 0.1


class Listener:
    """A listening socket of a service port. Accepted sockets inherit the options set here."""

    def __init__(self, shared: Shared, key: ListenKey, sock: socket.socket, pool: Pool, port: ServicePort) -> None:
        self._shared = shared
        self._sock = sock
        self._closed = False
        self.key = key
        self.pool = pool
        self.port = port
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        set_keepalive(sock)
        if ipaddress.ip_address(key.address).is_loopback:
            set_no_pacing(sock)
        shared.reactor.add_listener(sock, self)

    def on_events(self, events: int) -> None:
        """Accept what is queued, a bounded number at a time."""
        accept = self._sock.accept
        for _ in range(_BATCH):
            try:
                sock, peer = accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in OUT_OF_DESCRIPTORS:
                    self._pause()
                    return
                continue  # the client gave up while queued
            self._admit(sock, peer)

    def update(self, service: ServiceEndpoint) -> None:
        """Take over what changed about this port; connections already accepted stay as they are."""
        for port in service.ports:
            same = (port.target, port.published, port.transport) == (
                self.port.target,
                self.port.published,
                self.port.transport,
            )
            if same:
                self.port = port

    def crash(self) -> None:
        """The failed connection was cut by its own; accepting goes on."""

    def _admit(self, sock: socket.socket, peer: Endpoint) -> None:
        shared, pool = self._shared, self.pool
        if not self._has_room() and not self._make_room():
            pool.refused += 1
            refuse(sock)
            return
        sock.setblocking(False)
        kind = HttpConnection if self.port.app_protocol is AppProtocol.HTTP else TcpConnection
        version = self.port.proxy_protocol
        kind(shared, pool, sock, preamble(version, peer, sock.getsockname()) if version else b"").begin()

    def _has_room(self) -> bool:
        shared = self._shared
        return len(self.pool.service.clients) < share(shared.limits, connections=len(shared.connections))

    def _make_room(self) -> bool:
        """Cut idle connections of the service, a few at most; return whether it may hold one more now."""
        shared = self._shared
        for _ in range(_MOST_CUT):
            idle = self.pool.service.clients.idle(shared.clock.monotonic(), shared.limits.reclaim_idle_s)
            if idle is None:
                break
            idle.on_reclaimed()
            if self._has_room():
                return True
        return False

    def _pause(self) -> None:
        """Leave connections in the queue for a moment: there are no descriptors for more."""
        log.warning(
            "no file descriptor is left to accept a connection with; raise the limit of open files (LimitNOFILE)",
            address=self.key.address,
            port=self.key.port,
        )
        self._shared.reactor.remove(self._sock)
        self._shared.loop.call_later(_PAUSE_S, self._resume)

    def _resume(self) -> None:
        if not self._closed:
            self._shared.reactor.add_listener(self._sock, self)

    def close(self) -> None:
        """Stop accepting; what was accepted goes on."""
        self._closed = True
        self._shared.reactor.close(self._sock)


def refuse(sock: socket.socket) -> None:
    """Close a connection at once so that the client sees a failure, not an empty answer."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()
