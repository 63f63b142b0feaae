"""Look names up at a node's DNS server, as `dig +short` would: `lookup.py HOST:PORT NAME...`. Standard library only."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import sys

TIMEOUT_S = 2.0
RECORD_A = 1


def question(name: str, number: int) -> bytes:
    """Return a query for the addresses of `name`."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", RECORD_A, 1)


def skip_name(packet: bytes, at: int) -> int:
    """Return where what follows a name begins; a pointer ends it."""
    while packet[at]:
        if packet[at] >= 0xC0:
            return at + 2
        at += packet[at] + 1
    return at + 1


def addresses(packet: bytes) -> list[str]:
    """Return the addresses in an answer, in its order."""
    _, _, questions, answers, _, _ = struct.unpack_from("!6H", packet)
    at = 12
    for _ in range(questions):
        at = skip_name(packet, at) + 4
    found = []
    for _ in range(answers):
        at = skip_name(packet, at)
        kind, _, _, size = struct.unpack_from("!2HIH", packet, at)
        at += 10
        if kind == RECORD_A:
            found.append(str(ipaddress.IPv4Address(packet[at : at + size])))
        at += size
    return found


def look_up(server: str, name: str) -> list[str]:
    """Return the addresses of `name` according to the DNS server at `host:port`; none if it does not exist."""
    host, _, port = server.rpartition(":")
    number = secrets.randbelow(65536)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect((host, int(port)))
        sock.send(question(name, number))
        packet = sock.recv(4096)
        while struct.unpack_from("!H", packet)[0] != number:
            packet = sock.recv(4096)
    return addresses(packet)


def main() -> int:
    if len(sys.argv) < 3:
        print("usage: lookup.py HOST:PORT NAME...", file=sys.stderr)
        return 2
    missing = 0
    for name in sys.argv[2:]:
        found = look_up(sys.argv[1], name)
        missing += not found
        print(f"{name:20} {' '.join(found) or 'no address'}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
