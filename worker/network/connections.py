"""Who is connected to a task by its networks, as the kernel lists the sockets of its namespace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from swarmpy.errors import SwarmError
from worker.network.link.namespace import visit

_TABLES: Final = ("tcp", "tcp6")
_LISTENING: Final = 0x0A
_IN_USE: Final = frozenset({0x01, 0x03, 0x08})
"""Established, being established, and those whose client has said all but may wait for an answer."""
_IPV4_BYTES: Final = 4
_log = structlog.get_logger()


class Socket(NamedTuple):
    """One row of the kernel's list."""

    address: IPv4Address
    port: int
    peer: IPv4Address
    state: int


def connections(places: Mapping[str, Path]) -> dict[str, int]:
    """Return how many connections others have to each of some tasks. Blocks, for some 0.3 ms a task.

    Args:
        places: by task id, where its namespace is pinned.

    Returns:
        By task id; a task that cannot be looked at is left out.
    """
    found = {}
    for task_id, text in zip(places, visit(places.values(), _read), strict=True):
        if isinstance(text, SwarmError):
            _log.warning("cannot look for a task's connections", task=task_id, error=text.message)
        else:
            found[task_id] = count(parse(text))
    return found


def parse(text: str) -> Iterator[Socket]:
    """Yield the IPv4 sockets in the text of `/proc/net/tcp` and `tcp6`."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[0].endswith(":") and ":" in fields[1]:
            (address, port), (peer, _) = _place(fields[1]), _place(fields[2])
            yield Socket(address, port, peer, int(fields[3], 16))


def count(sockets: Iterable[Socket], addresses: Collection[IPv4Address] = ()) -> int:
    """Return how many of the sockets are connections that others began to a port that is listened at.

    Args:
        addresses: those of the task that count; none are all that it has but loopback.
    """
    rows = list(sockets)
    addresses = addresses or {row.address for row in rows if not row.address.is_loopback}
    heard = {row.port for row in rows if row.state == _LISTENING}
    return sum(
        row.state in _IN_USE and row.port in heard and row.address in addresses and row.peer not in addresses
        for row in rows
    )


def _place(text: str) -> tuple[IPv4Address, int]:
    address, _, port = text.partition(":")
    # An address is printed as numbers of the machine's order; that of an IPv4 peer is the last of four.
    raw = bytes.fromhex(address)[-_IPV4_BYTES:]
    return IPv4Address(raw[::-1] if sys.byteorder == "little" else raw), int(port, 16)


def _read() -> str:
    """Return the lists of the namespace in which the calling thread is."""
    texts = []
    for name in _TABLES:
        with contextlib.suppress(FileNotFoundError):  # a kernel without IPv6
            texts.append(Path("/proc/thread-self/net", name).read_text())
    return "\n".join(texts)
