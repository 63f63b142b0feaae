"""The PROXY protocol's header, by which a backend learns who its client is. Pure.

As in https://www.haproxy.org/download/1.8/doc/proxy-protocol.txt; version 1 is a line of text, version 2 is binary.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

TEXT: Final = 1
BINARY: Final = 2
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXIED: Final = 0x21  # version 2, on behalf of somebody
_FAMILIES: Final = {4: (b"TCP4", 0x11), 6: (b"TCP6", 0x21)}
_HEAD: Final = struct.Struct("!BBH")
_PORTS: Final = struct.Struct("!HH")

Endpoint = tuple[str, int]


def preamble(version: int, client: Endpoint, local: Endpoint) -> bytes:
    """Return what goes before the client's first byte; nothing for version 0.

    Args:
        client: address and port of the client.
        local: the address and port that it connected to.
    """
    if not version:
        return b""
    source, target = _plain(client[0]), _plain(local[0])
    name, family = _FAMILIES[source.version]
    if version == TEXT:
        return b"PROXY %s %s %s %d %d\r\n" % (name, _text(source), _text(target), client[1], local[1])
    places = source.packed + target.packed + _PORTS.pack(client[1], local[1])
    return _SIGNATURE + _HEAD.pack(_PROXIED, family, len(places)) + places


def _plain(address: str) -> IPv4Address | IPv6Address:
    """Return an address without its zone (`%eth0`), and an IPv4 one that is wrapped into IPv6 as what it is."""
    found = ip_address(address.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def _text(address: IPv4Address | IPv6Address) -> bytes:
    return str(address).encode()
