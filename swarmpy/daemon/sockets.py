"""The bound sockets that the supervisor holds for the data plane, so that they outlive it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket

from swarmpy.daemon.address import canonical, family_of
from swarmpy.daemon.request import Refused, Request

BACKLOG = 4096
UDP_BUFFER_BYTES = 4 << 20
_SO_RCVBUFFORCE = 33  # not named by the socket module
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}

Key = tuple[str, str, int]  # transport, canonical address, port


class BoundSockets:
    """Answers bind, unbind and give. The same `bind` returns the same socket until it is unbound."""

    def __init__(self) -> None:
        self._held: dict[Key, socket.socket] = {}

    def bind(self, request: Request) -> None:
        """Answer with a copy of the socket of that name, bound now if need be."""
        key = _key(request)
        sock = self._held.get(key)
        if sock is None:
            sock = self._held[key] = _bind(*key)
        request.answer({"ok": True}, [sock.fileno()])

    def unbind(self, request: Request) -> None:
        """Close our copy; a port is free once the client's copies are closed too."""
        sock = self._held.pop(_key(request), None)
        if sock is not None:
            sock.close()
        request.done(held=sock is not None)

    def give(self, request: Request) -> None:
        """Take a socket over from the data plane: what a supervisor that died held comes back this way."""
        key = _key(request)
        sock = socket.socket(fileno=request.take_fd())
        try:
            _check_given(sock, key)
        except Refused:
            sock.close()
            raise
        if key in self._held:
            sock.close()
        else:
            sock.setblocking(False)
            self._held[key] = sock
        request.done()

    def close(self) -> None:
        """Close every socket held."""
        for sock in self._held.values():
            sock.close()
        self._held.clear()

    def __len__(self) -> int:
        return len(self._held)


def _key(request: Request) -> Key:
    transport = request.text("transport", longest=8)
    address = request.text("address", longest=64)
    port = request.whole("port", least=1, most=65535)
    if transport not in _KINDS:
        raise Refused("invalid", f"the transport {transport!r} is neither tcp nor udp")
    if family_of(address) is None:
        raise Refused("invalid", f"{address!r} is not an IP address")
    return transport, canonical(address), port


def _bind(transport: str, address: str, port: int) -> socket.socket:
    family = family_of(address)
    assert family is not None, "the key was checked"
    try:
        sock = socket.socket(family, _KINDS[transport] | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _refused(error, transport, address, port) from error
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if transport == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        if transport == "tcp":
            sock.listen(BACKLOG)
        else:
            _enlarge(sock)
    except OSError as error:
        sock.close()
        raise _refused(error, transport, address, port) from error
    return sock


def _enlarge(sock: socket.socket) -> None:
    """Ask for a large receive buffer, beyond the system's limit if we may: bursts are then not lost."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, UDP_BUFFER_BYTES)
    except OSError:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UDP_BUFFER_BYTES)


def _check_given(sock: socket.socket, key: Key) -> None:
    transport, address, port = key
    try:
        name = sock.getsockname()
        right = sock.type == _KINDS[transport] and (canonical(str(name[0])), name[1]) == (address, port)
        if right and transport == "tcp":
            right = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    except (OSError, IndexError) as error:
        raise Refused("invalid", f"what was given is not a bound socket: {error}") from error
    if not right:
        raise Refused("invalid", f"the socket that was given is not the {transport} socket of {address} port {port}")


def _refused(error: OSError, transport: str, address: str, port: int) -> Refused:
    where = f"port {port} on {address}"
    match error.errno:
        case errno.EADDRINUSE:
            return Refused("in_use", f"{where} is used by another program ({transport})")
        case errno.EACCES | errno.EPERM:
            return Refused("denied", f"{where} may not be bound: ports below 1024 need root or CAP_NET_BIND_SERVICE")
        case errno.EADDRNOTAVAIL:
            return Refused("unavailable", f"{where} cannot be bound: the address is not on this machine")
        case number:
            return Refused("unavailable", f"{where} cannot be bound: {os.strerror(number or 0).lower()}")
