"""DNS over TCP when a client does not read, or is cut: nothing may wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

import pytest

from tests.support.clock import FakeClock
from tests.unit.worker.dataplane.dns.test_servers import Fixture, answers, framed, query, tcp_server
from worker.dataplane.dns import tcp

QUERIES = 2000
FAULTS: list[dict[str, object]] = []


async def quiet_client(fixture: Fixture) -> socket.socket:
    """Connect a client that does not read, and for which the kernel keeps next to nothing."""
    fixture.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", fixture.port))
    return sock


async def all_bytes(sock: socket.socket) -> int:
    """Read to the end, orderly or not; return how many bytes came."""
    total = 0
    with contextlib.suppress(ConnectionError):
        while data := await asyncio.get_running_loop().sock_recv(sock, 1 << 16):
            total += len(data)
    return total


@pytest.fixture
def faults() -> list[dict[str, object]]:
    """Give what reaches the loop's exception handler."""
    found: list[dict[str, object]] = []
    asyncio.get_event_loop_policy()
    return found
