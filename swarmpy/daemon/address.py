"""Which address a node has: the one that was given, checked, or the machine's primary one."""

from __future__ import annotations

import errno
import socket

from swarmpy.daemon.state import Unusable

LOOPBACK = "127.0.0.1"


def family_of(address: str) -> socket.AddressFamily | None:
    """Return AF_INET or AF_INET6 of a numeric address, None for anything else."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, address)
        except (OSError, ValueError):
            continue
        return family
    return None


def canonical(address: str) -> str:
    """Return the one spelling of a numeric address; what is not one, as it is."""
    family = family_of(address)
    return address if family is None else socket.inet_ntop(family, socket.inet_pton(family, address))


def check_address(option: str, address: str) -> str:
    """Return the canonical spelling of an address that this machine has.

    Raises:
        Unusable: it is no address, is no single one, or is not on this machine.
    """
    family = family_of(address)
    if family is None:
        raise Unusable(f"{option} {address}: not an IP address; give one of this machine's, such as {LOOPBACK}")
    if canonical(address) in ("0.0.0.0", "::"):
        raise Unusable(f"{option} {address}: other nodes cannot reach this; give one address of this machine")
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        why = "not on this machine" if error.errno == errno.EADDRNOTAVAIL else str(error.strerror).lower()
        raise Unusable(f"{option} {address}: {why}; `ip address` lists the addresses that it has") from error
    return canonical(address)


def primary_address() -> str:
    """Return the address from which this machine would reach others, or 127.0.0.1; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # A datagram socket's connect only picks a route; 192.0.2.1 is reserved for documentation.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])
