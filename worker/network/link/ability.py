"""Whether this process can make links. Apart from `links`, which loads what a node without networks need not hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_CAP_NET_ADMIN: Final = 12
_CAP_SYS_ADMIN: Final = 21


def why_unsupported() -> str:
    """Return why this process cannot make links, in a sentence; empty if it can."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            capabilities = int(line.split()[1], 16)
            missing = [
                name
                for name, bit in (("CAP_NET_ADMIN", _CAP_NET_ADMIN), ("CAP_SYS_ADMIN", _CAP_SYS_ADMIN))
                if not capabilities >> bit & 1
            ]
            if missing:
                return (
                    f"this node cannot join tasks to networks: it runs without {' and '.join(missing)}, so not as root"
                )
    if not Path("/proc/self/ns/net").exists():
        return "this node cannot join tasks to networks: its kernel has no network namespaces"
    return ""
