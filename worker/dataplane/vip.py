"""The loopback /16 that a node renders its VIPs in: which one, and how it is claimed.

Several nodes may share a machine and its loopback, so a node holds one listening socket in its /16, bound
for the process's life, as the claim that others run into.
"""

from __future__ import annotations

import hashlib
import socket
from typing import Final, NamedTuple

from swarmpy.errors import Code, SwarmError
from worker.dataplane.sockets import Port, SocketProvider

SECOND_OCTETS: Final = range(64, 128)
PROBE_HOST: Final = "255.254"
PROBE_PORT: Final = 2376


class Claim(NamedTuple):
    """A prefix such as "127.93", and the socket that holds it."""

    prefix: str
    sock: socket.socket


def candidates(node_id: str, kept: str = "") -> list[str]:
    """Return every prefix in this node's own order, the one it had last time (`kept`) first."""
    order = sorted(SECOND_OCTETS, key=lambda octet: hashlib.sha256(f"{node_id}/{octet}".encode()).digest())
    prefixes = [f"127.{octet}" for octet in order]
    return [kept, *(p for p in prefixes if p != kept)] if kept in prefixes else prefixes


async def claim(sockets: SocketProvider, node_id: str, kept: str = "") -> Claim | None:
    """Claim the first prefix that nobody on this machine holds; None if all are held.

    Raises:
        SwarmError: another reason why no socket can be bound, such as a supervisor that does not answer.
    """
    for prefix in candidates(node_id, kept):
        try:
            sock = await sockets.bind(Port("tcp", f"{prefix}.{PROBE_HOST}", PROBE_PORT))
        except SwarmError as error:
            if error.code is not Code.ALREADY_EXISTS:
                raise
            continue  # another node's
        return Claim(prefix, sock)
    return None
