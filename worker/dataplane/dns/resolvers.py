"""The machine's name servers, read again when their file changes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from swarmpy.clock import Clock

LOOK_S: Final = 1.0
log = structlog.get_logger()


class Resolvers:
    """What `path` (a resolv.conf) names, but for this node's own name server.

    They are asked from where this process is, so those on the machine's loopback are as good as any.

    Args:
        is_own: tells whether an address is where this node's name server answers at port 53.
    """

    def __init__(self, path: Path, *, clock: Clock, is_own: Callable[[str], bool]) -> None:
        self._path = path
        self._clock = clock
        self._is_own = is_own
        self._looked_s = -LOOK_S
        self._seen: tuple[int, int, int] | None = None
        self._servers: tuple[str, ...] = ()

    def servers(self) -> tuple[str, ...]:
        """Return the servers in the file's order; the file is looked at once a second at most."""
        now_s = self._clock.monotonic()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._look()
        return tuple(server for server in self._servers if not self._is_own(server))

    def _look(self) -> None:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._servers = name_servers(self._path.read_text("utf-8", "replace"))
                self._seen = seen
        except OSError as error:
            if self._seen is not None or not self._servers:
                log.warning("the machine's name servers cannot be read", path=str(self._path), error=str(error))
            self._seen = None  # what was read before stays: a file is away while it is replaced


def name_servers(text: str) -> tuple[str, ...]:
    """Return the addresses that a resolv.conf names, each once; what is no address is passed over."""
    found: dict[str, None] = {}
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_] if is_address(server):
                found[server] = None
    return tuple(found)


def is_address(text: str) -> bool:
    """Tell whether a text is an IP address, with a zone (`fe80::1%eth0`) or without."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
