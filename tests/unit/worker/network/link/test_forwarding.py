"""What a network's devices are told of other nodes."""

from __future__ import annotations

from ipaddress import IPv4Address

from worker.network.link.forwarding import Entries, Neighbour, Remote, difference, entries, tunnel_port

TASK = IPv4Address("10.0.1.4")
NODE = IPv4Address("192.0.2.7")


def test_an_address_of_another_node() -> None:
    mac = "02:42:0a:00:01:04"
    wanted = Entries({mac: Remote(NODE)}, frozenset({mac}), {TASK: mac})
    assert entries([Neighbour(TASK, NODE)], port=4789) == wanted


def test_only_changes_are_said() -> None:
    before = entries([Neighbour(TASK, NODE), Neighbour(TASK + 1, NODE)], port=4789)
    assert len(difference(before, before)) == 0
    after = entries([Neighbour(TASK, NODE + 1), Neighbour(TASK + 2, NODE)], port=4789)
    change = difference(after, before)
    assert change.add.tunnel == {"02:42:0a:00:01:04": Remote(NODE + 1), "02:42:0a:00:01:06": Remote(NODE)}
    assert set(change.add.neighbours) == {TASK + 2}, "the moved one has the same link-layer address"
    assert set(change.drop.neighbours) == {TASK + 1}
    assert set(change.drop.tunnel) == change.drop.bridge == {"02:42:0a:00:01:05"}


def test_half_of_an_entry_is_made_whole() -> None:
    wanted = entries([Neighbour(TASK, NODE)], port=4789)
    change = difference(wanted, Entries(wanted.tunnel, frozenset(), {}))
    assert change.add == Entries({}, wanted.bridge, wanted.neighbours)


def test_nodes_on_a_loopback_have_ports_of_their_own() -> None:
    assert tunnel_port(4789, NODE) == 4789
    ports = [tunnel_port(4789, IPv4Address(f"127.5.6.{last}")) for last in range(256)]
    assert len(set(ports)) == 256
    assert set(ports) <= set(range(10000, 20000))
    assert ports[1] != tunnel_port(4790, IPv4Address("127.5.6.1"))
    (remote,) = entries([Neighbour(TASK, IPv4Address("127.5.6.1"))], port=4789).tunnel.values()
    assert remote == Remote(IPv4Address("127.5.6.1"), ports[1])
