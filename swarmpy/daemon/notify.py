"""sd_notify(3) by hand: tell systemd how the service is."""

from __future__ import annotations

import os
import socket


def notify(state: str) -> bool:
    """Send `state`, such as "READY=1", to `NOTIFY_SOCKET`; return whether there was one that took it."""
    target = os.environ.get("NOTIFY_SOCKET", "")
    if target[:1] not in ("/", "@"):
        return False
    # A leading @ stands for the zero byte of an abstract socket.
    address = "\0" + target[1:] if target[0] == "@" else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), socket.MSG_NOSIGNAL, address)
        except OSError:
            return False
    return True
