"""Requests read back as what they say: by the readers beside them, and as bytes where the kernel is particular."""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from worker.network.link import messages
from worker.network.link.messages import Link, NewLink, Peer, Route, Vxlan

MAC = "02:42:0a:00:01:04"
NODE = IPv4Address("192.0.2.7")


def test_links() -> None:
    request = messages.new_link(NewLink("b1", "bridge", mtu=1450, master=7, up=True))
    assert messages.read_link(request.data) == Link(0, "b1", "bridge", 1450, 7, up=True)
    assert request.purpose == "make the bridge b1"
    assert errno.EEXIST in request.fine
    tunnel = messages.new_link(NewLink("x1", "vxlan", vxlan=Vxlan(70001, 4789, NODE)))
    assert messages.read_vxlan(tunnel.data) == Vxlan(70001, 4789, NODE)
    assert messages.read_vxlan(request.data) is None


def test_both_ends_of_a_pair_are_said_at_once() -> None:
    data = messages.new_link(NewLink("v1", "veth", mtu=1450, peer=Peer("eth0", MAC, 9))).data
    assert data.count(struct.pack("=HHI", 8, 4, 1450)) == 2, "the MTU of both ends"
    assert struct.pack("=HHI", 8, 28, 9) in data, "the namespace of the inner end"
    assert struct.pack("=HH6s", 10, 1, bytes.fromhex(MAC.replace(":", ""))) in data


def test_addresses_and_routes() -> None:
    address = IPv4Interface("10.0.1.4/24")
    assert messages.read_address(messages.new_address(5, address, "eth0").data) == (5, address)
    host = messages.new_route(IPv4Network("172.18.0.5/32"), 6, "sp", source=IPv4Address("172.18.0.1"))
    assert messages.read_route(host.data) == Route(IPv4Network("172.18.0.5/32"), 6)
    default = messages.new_route(IPv4Network("0.0.0.0/0"), 6, "eth0", gateway=IPv4Address("172.18.0.1"))
    assert messages.read_route(default.data) == Route(IPv4Network("0.0.0.0/0"), 6)


def test_neighbours_and_forwarding_entries() -> None:
    told = messages.neighbour(8, IPv4Address("10.0.1.4"), MAC)
    assert messages.neighbour_index(told.data) == 8
    assert messages.read_neighbour(told.data) == (IPv4Address("10.0.1.4"), MAC, True)
    assert messages.read_forwarding(messages.tunnel_entry(8, MAC, NODE, 10001).data) == (MAC, NODE, 10001, True)
    assert messages.read_forwarding(messages.bridge_entry(8, MAC).data) == (MAC, None, 0, True)
    assert errno.ENOENT in messages.bridge_entry(8, MAC, delete=True).fine


def test_indices_are_read_without_the_rest() -> None:
    request = messages.set_link(11, "bring eth0 up", up=True)
    assert messages.link_index(request.data) == 11
    kind, flags = struct.unpack_from("=HH", messages.dump(messages.GET_NEIGHBOUR, socket.AF_BRIDGE).data, 4)
    assert (kind, flags) == (messages.GET_NEIGHBOUR, 0x301)
