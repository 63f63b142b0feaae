"""What is asked of rtnetlink, as bytes, and what it answers, as values; pure. The formats are pyroute2's."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Final

from pyroute2.netlink import nlmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

NEW_LINK: Final = 16
DEL_LINK: Final = 17
GET_LINK: Final = 18
SET_LINK: Final = 19
NEW_ADDRESS: Final = 20
GET_ADDRESS: Final = 22
NEW_ROUTE: Final = 24
GET_ROUTE: Final = 26
NEW_NEIGHBOUR: Final = 28
DEL_NEIGHBOUR: Final = 29
GET_NEIGHBOUR: Final = 30

_REQUEST: Final = 0x1
_ACK: Final = 0x4
_DUMP: Final = 0x300
_REPLACE: Final = 0x100
_EXCLUSIVE: Final = 0x200
_CREATE: Final = 0x400

_UP: Final = 0x1
_TABLE_MAIN: Final = 254
_PROTOCOL_STATIC: Final = 4
_SCOPE_UNIVERSE: Final = 0
_SCOPE_LINK: Final = 253
_UNICAST: Final = 1
# Static, and not the bridge's own: what iproute2 calls `static`.
_STATIC: Final = 0x40 | 0x02
_PERMANENT: Final = 0x80
_SELF: Final = 0x02
_MASTER: Final = 0x04

_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_NEIGHBOUR: Final = struct.Struct("=B3xiHBB")

# Name and value, and for some the flags of the attribute.
Attributes = list[tuple[str, Any] | tuple[str, Any, int]]


@dataclass(frozen=True, slots=True)
class Request:
    """One message, what it is for (`add the address 10.0.0.2/24 to eth0`), and which errors mean it is so already."""

    data: bytes
    purpose: str
    fine: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel tells of it; `master` and `peer` (a pair's other end) are links' indices, 0 without one."""

    index: int
    name: str
    kind: str
    mtu: int
    master: int
    up: bool
    peer: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """Where a network is reached: by the link of this index, 0 where there is none (unreachable and the like)."""

    destination: IPv4Network
    index: int


@dataclass(frozen=True, slots=True)
class Vxlan:
    """A tunnel device: its number, the UDP port it hears on, and the address it sends from."""

    vni: int
    port: int
    local: IPv4Address


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a veth pair: made in the namespace of an open descriptor."""

    name: str
    mac: str
    namespace: int


@dataclass(frozen=True, slots=True)
class NewLink:
    """A link to make. It stays down where `up` is not said."""

    name: str
    kind: str
    mtu: int = 0
    master: int = 0
    mac: str = ""
    up: bool = False
    namespace: int | None = None
    peer: Peer | None = None
    vxlan: Vxlan | None = None
    bridge: Attributes = field(default_factory=list)


def new_link(link: NewLink, *, fine: frozenset[int] = frozenset({errno.EEXIST})) -> Request:
    """Return the request for a link; by default one of that name being there already is fine."""
    attributes: Attributes = [("IFLA_IFNAME", link.name)]
    if link.mtu:
        attributes.append(("IFLA_MTU", link.mtu))
    if link.master:
        attributes.append(("IFLA_MASTER", link.master))
    if link.mac:
        attributes.append(("IFLA_ADDRESS", link.mac))
    if link.namespace is not None:
        attributes.append(("IFLA_NET_NS_FD", link.namespace))
    details: Attributes = [("IFLA_INFO_KIND", link.kind), *_details(link)]
    attributes.append(("IFLA_LINKINFO", {"attrs": details}))
    flags = _UP if link.up else 0
    data = _encode(ifinfmsg, NEW_LINK, _CREATE | _EXCLUSIVE, attributes, {"flags": flags, "change": flags})
    return Request(data, f"make the {link.kind} {link.name}", fine)


def _details(link: NewLink) -> Attributes:
    if link.peer is not None:
        peer: Attributes = [("IFLA_IFNAME", link.peer.name), ("IFLA_ADDRESS", link.peer.mac)]
        if link.mtu:
            peer.append(("IFLA_MTU", link.mtu))
        peer.append(("IFLA_NET_NS_FD", link.peer.namespace))
        return [("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]})]
    if link.vxlan is not None:
        tunnel: Attributes = [
            ("IFLA_VXLAN_ID", link.vxlan.vni),
            ("IFLA_VXLAN_LOCAL", str(link.vxlan.local)),
            ("IFLA_VXLAN_PORT", link.vxlan.port),
            ("IFLA_VXLAN_LEARNING", 0),
            # Whoever asks for an address is answered here, from the neighbours, and never over the network.
            ("IFLA_VXLAN_PROXY", 1),
        ]
        return [("IFLA_INFO_DATA", {"attrs": tunnel})]
    return [("IFLA_INFO_DATA", {"attrs": link.bridge})] if link.bridge else []


def set_link(index: int, purpose: str, *, up: bool | None = None, mtu: int = 0, master: int | None = None) -> Request:
    """Return the request that changes a link: up or down, its MTU, the bridge it is a port of (0: none)."""
    attributes: Attributes = []
    if mtu:
        attributes.append(("IFLA_MTU", mtu))
    if master is not None:
        attributes.append(("IFLA_MASTER", master))
    change = 0 if up is None else _UP
    data = _encode(ifinfmsg, NEW_LINK, 0, attributes, {"index": index, "flags": _UP if up else 0, "change": change})
    return Request(data, purpose)


def set_port(index: int, name: str) -> Request:
    """Return the request that makes a bridge learn nothing from a port, and send it no strangers' frames."""
    settings: Attributes = [
        ("IFLA_BRPORT_LEARNING", 0),
        ("IFLA_BRPORT_UNICAST_FLOOD", 0),
    ]
    attributes: Attributes = [("IFLA_PROTINFO", {"attrs": settings}, 0x8000)]
    data = _encode(ifinfmsg, SET_LINK, 0, attributes, {"family": socket.AF_BRIDGE, "index": index})
    return Request(data, f"set up the port {name}")


def delete_link(index: int, name: str) -> Request:
    """Return the request that removes a link; one that is gone is fine."""
    data = _encode(ifinfmsg, DEL_LINK, 0, [], {"index": index})
    return Request(data, f"remove the link {name}", frozenset({errno.ENODEV}))


def get_link(name: str) -> Request:
    attributes: Attributes = [("IFLA_IFNAME", name)]
    return Request(_encode(ifinfmsg, GET_LINK, 0, attributes, ack=False), f"look for the link {name}")


def new_address(index: int, address: IPv4Interface, name: str) -> Request:
    """Return the request that gives a link an address; the same one already is fine."""
    attributes: Attributes = [("IFA_LOCAL", str(address.ip)), ("IFA_ADDRESS", str(address.ip))]
    fields = {"family": socket.AF_INET, "prefixlen": address.network.prefixlen, "index": index}
    data = _encode(ifaddrmsg, NEW_ADDRESS, _CREATE | _EXCLUSIVE, attributes, fields)
    return Request(data, f"add the address {address} to {name}", frozenset({errno.EEXIST}))


def new_route(
    destination: IPv4Network,
    index: int,
    name: str,
    *,
    gateway: IPv4Address | None = None,
    source: IPv4Address | None = None,
) -> Request:
    """Return the request that sends a network by a link, in place of any other route to it (same metric)."""
    attributes: Attributes = [("RTA_TABLE", _TABLE_MAIN), ("RTA_OIF", index)]
    if destination.prefixlen:
        attributes.append(("RTA_DST", str(destination.network_address)))
    if gateway is not None:
        attributes.append(("RTA_GATEWAY", str(gateway)))
    if source is not None:
        attributes.append(("RTA_PREFSRC", str(source)))
    fields = {
        "family": socket.AF_INET,
        "dst_len": destination.prefixlen,
        "table": _TABLE_MAIN,
        "proto": _PROTOCOL_STATIC,
        "scope": _SCOPE_LINK if gateway is None else _SCOPE_UNIVERSE,
        "type": _UNICAST,
    }
    data = _encode(rtmsg, NEW_ROUTE, _CREATE | _REPLACE, attributes, fields)
    return Request(data, f"add the route to {destination} by {name}")


def tunnel_entry(index: int, mac: str, node: IPv4Address, port: int = 0, *, delete: bool = False) -> Request:
    """Return the request that tells, or forgets, to which node a tunnel sends what is for a link-layer address.

    Args:
        port: the node's UDP port, 0 for the tunnel's own.
    """
    attributes: Attributes = [("NDA_LLADDR", mac), ("NDA_DST", str(node))]
    if port:
        attributes.append(("NDA_PORT", port))
    return _forwarding(index, mac, attributes, _SELF, delete=delete)


def bridge_entry(index: int, mac: str, *, delete: bool = False) -> Request:
    """Return the request that tells, or forgets, behind which port of a bridge a link-layer address is."""
    return _forwarding(index, mac, [("NDA_LLADDR", mac)], _MASTER, delete=delete)


def _forwarding(index: int, mac: str, attributes: Attributes, flags: int, *, delete: bool) -> Request:
    fields = {"family": socket.AF_BRIDGE, "ifindex": index, "state": _STATIC, "flags": flags}
    if delete:
        data = _encode(ndmsg, DEL_NEIGHBOUR, 0, attributes, fields)
        return Request(data, f"forget where {mac} is", frozenset({errno.ENOENT}))
    data = _encode(ndmsg, NEW_NEIGHBOUR, _CREATE | _REPLACE, attributes, fields)
    return Request(data, f"tell where {mac} is")


def neighbour(index: int, address: IPv4Address, mac: str, *, delete: bool = False) -> Request:
    """Return the request that tells, or forgets, which link-layer address an address has."""
    fields = {"family": socket.AF_INET, "ifindex": index, "state": _PERMANENT}
    if delete:
        data = _encode(ndmsg, DEL_NEIGHBOUR, 0, [("NDA_DST", str(address))], fields)
        return Request(data, f"forget the neighbour {address}", frozenset({errno.ENOENT}))
    attributes: Attributes = [("NDA_DST", str(address)), ("NDA_LLADDR", mac)]
    data = _encode(ndmsg, NEW_NEIGHBOUR, _CREATE | _REPLACE, attributes, fields)
    return Request(data, f"add the neighbour {address}")


def dump(kind: int, family: int = socket.AF_INET) -> Request:
    """Return the request for all rows of GET_LINK, GET_ADDRESS, GET_ROUTE or GET_NEIGHBOUR."""
    types = {GET_LINK: ifinfmsg, GET_ADDRESS: ifaddrmsg, GET_ROUTE: rtmsg, GET_NEIGHBOUR: ndmsg}
    return Request(
        _encode(types[kind], kind, _DUMP, [], {"family": family}, ack=False), "list links, addresses or routes"
    )


def link_index(message: bytes) -> int:
    """Return the index from a link message, without reading the rest."""
    return int(_LINK.unpack_from(message, _HEADER.size)[2])


def read_link(message: bytes) -> Link:
    row = _decode(ifinfmsg, message)
    details = row.get_attr("IFLA_LINKINFO")
    return Link(
        index=row["index"],
        name=row.get_attr("IFLA_IFNAME") or "",
        kind=(details.get_attr("IFLA_INFO_KIND") if details else None) or "",
        mtu=row.get_attr("IFLA_MTU") or 0,
        master=row.get_attr("IFLA_MASTER") or 0,
        up=bool(row["flags"] & _UP),
        peer=row.get_attr("IFLA_LINK") or 0,
    )


def read_address(message: bytes) -> tuple[int, IPv4Interface]:
    """Return a link's index and one of its addresses."""
    row = _decode(ifaddrmsg, message)
    address = row.get_attr("IFA_LOCAL") or row.get_attr("IFA_ADDRESS")
    return row["index"], IPv4Interface((address, row["prefixlen"]))


def read_route(message: bytes) -> Route | None:
    """Return a route of the main table (the default route is to 0.0.0.0/0), None for one of another."""
    row = _decode(rtmsg, message)
    if (row.get_attr("RTA_TABLE") or row["table"]) != _TABLE_MAIN:
        return None
    destination = IPv4Network((row.get_attr("RTA_DST") or "0.0.0.0", row["dst_len"]))
    return Route(destination, row.get_attr("RTA_OIF") or 0)


def neighbour_index(message: bytes) -> int:
    """Return the device's index from a neighbour or forwarding entry, without reading the rest."""
    return int(_NEIGHBOUR.unpack_from(message, _HEADER.size)[1])


def read_forwarding(message: bytes) -> tuple[str, IPv4Address | None, int, bool]:
    """Return a forwarding entry: link-layer address, node and its port (of a tunnel's: None and 0 without), and whether
    it is static."""
    row = _decode(ndmsg, message)
    node = row.get_attr("NDA_DST")
    static = row["state"] & 0x40 != 0
    return row.get_attr("NDA_LLADDR") or "", IPv4Address(node) if node else None, row.get_attr("NDA_PORT") or 0, static


def read_neighbour(message: bytes) -> tuple[IPv4Address, str, bool]:
    """Return a neighbour: address, link-layer address, and whether it was told and not learned."""
    row = _decode(ndmsg, message)
    return IPv4Address(row.get_attr("NDA_DST")), row.get_attr("NDA_LLADDR") or "", bool(row["state"] & _PERMANENT)


def read_vxlan(message: bytes) -> Vxlan | None:
    """Return what a tunnel device is set to, None of any other link."""
    details = _decode(ifinfmsg, message).get_attr("IFLA_LINKINFO")
    if not details or details.get_attr("IFLA_INFO_KIND") != "vxlan":
        return None
    data = details.get_attr("IFLA_INFO_DATA")
    local = IPv4Address(data.get_attr("IFLA_VXLAN_LOCAL") or "0.0.0.0")
    return Vxlan(data.get_attr("IFLA_VXLAN_ID"), data.get_attr("IFLA_VXLAN_PORT"), local)


def _encode(
    kind: type[nlmsg],
    number: int,
    flags: int,
    attributes: Attributes,
    fields: Mapping[str, int] | None = None,
    *,
    ack: bool = True,
) -> bytes:
    message = kind()
    message["header"]["type"] = number
    message["header"]["flags"] = _REQUEST | flags | (_ACK if ack else 0)
    message["header"]["sequence_number"] = 0
    message["header"]["pid"] = 0
    for name, value in (fields or {}).items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


def _decode(kind: type[nlmsg], message: bytes) -> Any:
    row = kind(message)
    row.decode()
    return row
