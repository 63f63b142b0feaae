"""Who is connected to a task by its networks, as the kernel lists the sockets of its namespace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, NamedTuple

from worker.network.link.namespace import open_in

_TABLES: Final = ("tcp", "tcp6")
_LISTENING: Final = 0x0A
_IN_USE: Final = frozenset({0x01, 0x03, 0x08})
"""Established, being established, and those whose client has said all but may wait for an answer."""
_IPV4_BYTES: Final = 4


class Socket(NamedTuple):
    """One row of the kernel's list."""

    address: IPv4Address
    port: int
    peer: IPv4Address
    state: int


def connections(namespace: Path, addresses: Collection[IPv4Address] = ()) -> int:
    """Return how many connections others have to the task in a namespace. Blocks shortly.

    Args:
        addresses: those of the task that count; none are all that it has but loopback.

    Raises:
        SwarmError: NOT_FOUND, no namespace is pinned there.
    """
    return count(parse(open_in(namespace, _read)), addresses)


def parse(text: str) -> Iterator[Socket]:
    """Yield the IPv4 sockets in the text of `/proc/net/tcp` and `tcp6`."""
    for line in text.splitlines():
        fields = line.split()
        if len(fields) > 3 and fields[0].endswith(":") and ":" in fields[1]:
            (address, port), (peer, _) = _place(fields[1]), _place(fields[2])
            yield Socket(address, port, peer, int(fields[3], 16))


def count(sockets: Iterable[Socket], addresses: Collection[IPv4Address] = ()) -> int:
    """Return how many of the sockets are connections that others began to a port that is listened at."""
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
