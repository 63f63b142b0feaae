"""Who balances the ports that are published on this node: the data plane's balancer, or the kernel."""

# pathlib would cost this process memory that it needs for nothing else.

from __future__ import annotations

import contextlib

from swarmpy.daemon.state import write_atomically

BALANCER = "balancer"
NFTABLES = "nftables"
DRIVERS = (BALANCER, NFTABLES)
RECORD = "publish-driver"
"""Name of the file in `run/` that tells the worker."""
LED = "ports-led"
"""Name of the file in `run/` that says that the kernel was told of ports: tables of ours are on the machine."""


def note(driver: str, path: str) -> None:
    """Write the record."""
    with contextlib.suppress(OSError):  # on a full disk the one before stays, which most likely says the same
        write_atomically(path, (driver or BALANCER).encode() + b"\n", sync=False)
