"""Addresses as users write them, and the ports that a node uses."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final

from swarmpy.errors import invalid

CONTROL_PORT: Final = 2377
BOOTSTRAP_OFFSET: Final = 1
METRICS_PORT_WORKER: Final = 9323
METRICS_PORT_MANAGER: Final = 9324


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str, what: str, default_port: int = CONTROL_PORT) -> Address:
    """Return the address that `text` stands for: `10.0.0.1`, `10.0.0.1:2377`, `[::1]:2377`.

    Raises:
        SwarmError: INVALID_ARGUMENT; the sentence calls it `what`.
    """
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]") or (":" in host and not host.startswith("[")):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise invalid(f"{what} {text!r} is not an address: write HOST or HOST:PORT, such as 10.0.0.1:{default_port}")
    return Address(host, int(port))


def bootstrap_address(manager: Address) -> Address:
    """Return where a manager admits nodes unless it was told otherwise: its next port.

    Raises:
        SwarmError: INVALID_ARGUMENT, there is no next port.
    """
    if manager.port + BOOTSTRAP_OFFSET > 65535:
        raise invalid(f"{manager} leaves no port for joining nodes: use a port below {manager.port}")
    return Address(manager.host, manager.port + BOOTSTRAP_OFFSET)


def metrics_host(addr: str) -> str:
    """Return the loopback address for /metrics: the node's own if that is one, so that nodes can share a machine."""
    return addr if ipaddress.ip_address(addr).is_loopback else "127.0.0.1"
