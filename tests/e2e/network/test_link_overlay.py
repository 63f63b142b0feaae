"""Networks over hosts, with real namespaces: a bridge between the hosts is the wire."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.link_hosts import Host, Hosts, connect, datagram, heard, ip, listening, needs_root, reaches
from worker.network.link import names
from worker.network.link.fabric import Segment
from worker.network.link.forwarding import Neighbour
from worker.network.link.links import Links
from worker.network.link.namespace import open_in

pytestmark = [pytest.mark.e2e, pytest.mark.root, needs_root]

WEB = Segment("web", 70001, IPv4Network("10.0.1.0/24"))
DB = Segment("db", 70002, IPv4Network("10.0.2.0/24"))


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    with Hosts(tmp_path) as hosts:
        yield hosts


def attach(host: Host, task: str, address: str, segment: Segment = WEB, inner: str = "eth0") -> Path:
    host.do(Links.ensure_network, segment)
    namespace = host.links.make_namespace(task)
    interface = IPv4Interface((address, segment.subnet.prefixlen))
    host.do(Links.join_network, task, segment.network_id, interface, inner)
    return namespace


def at(host: Host, *addresses: str) -> list[Neighbour]:
    return [Neighbour(IPv4Address(address), host.place.data_address) for address in addresses]


def tell(segment: Segment, *where: tuple[Host, str]) -> None:
    """Tell every host where all tasks of a network are."""
    rows = [row for host, address in where for row in at(host, address)]
    for host, _ in where:
        host.links.set_neighbours(segment.network_id, rows)


def test_tasks_of_a_network_meet_on_one_host_and_over_hosts(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    a, b, c = attach(one, "a", "10.0.1.2"), attach(one, "b", "10.0.1.3"), attach(two, "c", "10.0.1.4")
    tell(WEB, (one, "10.0.1.2"), (one, "10.0.1.3"), (two, "10.0.1.4"))
    assert reaches(a, b, "10.0.1.3")
    assert reaches(a, c, "10.0.1.4")
    assert reaches(c, b, "10.0.1.3")
    assert not reaches(one.namespace, c, "10.0.1.4", timeout_s=0.3), "no network is the host's"


@pytest.mark.parametrize(("wire", "wanted", "largest"), [(1500, 0, 1450), (9000, 0, 8950), (1500, 1300, 1300)])
def test_whole_packets_fit_and_no_larger_ones(hosts: Hosts, wire: int, wanted: int, largest: int) -> None:
    one, two = hosts.add(mtu=wire), hosts.add(mtu=wire)
    segment = Segment("web", 70001, WEB.subnet, mtu=wanted)
    a, c = attach(one, "a", "10.0.1.2", segment), attach(two, "c", "10.0.1.4", segment)
    tell(segment, (one, "10.0.1.2"), (two, "10.0.1.4"))
    assert one.links.ensure_network(segment) == largest
    assert len(datagram(a, c, "10.0.1.4", largest - 28)) == largest - 28
    with pytest.raises(OSError, match="too long"):
        datagram(a, c, "10.0.1.4", largest - 27)


def test_networks_never_meet_even_with_the_same_addresses(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    twin = Segment("twin", 70003, WEB.subnet)
    a, c = attach(one, "a", "10.0.1.2"), attach(two, "c", "10.0.1.4")
    other = attach(two, "other", "10.0.1.4", twin)
    tell(WEB, (one, "10.0.1.2"), (two, "10.0.1.4"))
    two.links.set_neighbours("twin", at(one, "10.0.1.2"))
    with listening(other, "10.0.1.4") as server:
        assert reaches(a, c, "10.0.1.4")
        assert not heard(server, 0.1)
    for task in ("a", "c", "other"):
        # Not by the host either, to which the task has a way.
        for host in (one, two):
            if host.place.namespace(task).exists():
                host.do(Links.join_gateway, task, "out")
    db = attach(one, "db", "10.0.2.2", DB)
    assert not reaches(a, db, "10.0.2.2", timeout_s=0.3)


def test_a_task_on_two_networks(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    both = attach(one, "both", "10.0.1.2")
    attach(one, "both", "10.0.2.2", DB, "eth1")
    web, db = attach(two, "web", "10.0.1.4"), attach(two, "db", "10.0.2.4", DB)
    tell(WEB, (one, "10.0.1.2"), (two, "10.0.1.4"))
    tell(DB, (one, "10.0.2.2"), (two, "10.0.2.4"))
    assert reaches(both, web, "10.0.1.4")
    assert reaches(db, both, "10.0.2.2")
    assert not reaches(web, db, "10.0.2.4", timeout_s=0.3)
    one.links.leave_network("both", "db")
    assert not reaches(both, db, "10.0.2.4", timeout_s=0.3)
    assert reaches(both, web, "10.0.1.4")


def test_an_interface_is_of_one_network_only(hosts: Hosts) -> None:
    one = hosts.add()
    a, b = attach(one, "a", "10.0.1.2"), attach(one, "b", "10.0.1.3")
    with pytest.raises(SwarmError, match="the interface eth0 of a has another use already"):
        attach(one, "a", "10.0.2.2", DB, "eth0")
    assert reaches(a, b, "10.0.1.3")
    attach(one, "a", "10.0.1.2", WEB, "eth7")
    assert {name for _, name in open_in(a, socket.if_nameindex)} == {"lo", "eth7"}
    assert reaches(a, b, "10.0.1.3")


def test_nothing_is_sent_to_who_is_unknown(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    a, c = attach(one, "a", "10.0.1.2"), attach(two, "c", "10.0.1.4")
    two.links.set_neighbours("web", at(one, "10.0.1.2"))
    assert not reaches(a, c, "10.0.1.4", timeout_s=0.3)
    one.links.set_neighbours("web", at(two, "10.0.1.4"))
    assert reaches(a, c, "10.0.1.4")
    one.links.set_neighbours("web", [])
    assert not reaches(a, c, "10.0.1.4", timeout_s=0.3)


def test_an_address_moves_to_another_host(hosts: Hosts) -> None:
    one, two, three = hosts.add(), hosts.add(), hosts.add()
    a, c = attach(one, "a", "10.0.1.2"), attach(two, "c", "10.0.1.4")
    tell(WEB, (one, "10.0.1.2"), (two, "10.0.1.4"))
    assert reaches(a, c, "10.0.1.4")
    moved = attach(three, "moved", "10.0.1.4")
    two.links.remove_namespace("c")
    tell(WEB, (one, "10.0.1.2"), (three, "10.0.1.4"))
    assert reaches(a, moved, "10.0.1.4")
    local = attach(one, "local", "10.0.1.4")
    three.links.remove_namespace("moved")
    one.links.set_neighbours("web", [])
    assert reaches(a, local, "10.0.1.4")


def test_a_partition_is_only_a_pause(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    a, c = attach(one, "a", "10.0.1.2"), attach(two, "c", "10.0.1.4")
    tell(WEB, (one, "10.0.1.2"), (two, "10.0.1.4"))
    with listening(c, "10.0.1.4") as server, connect(a, "10.0.1.4") as client:
        accepted, _ = server.accept()
        with accepted:
            hosts.plug(2, into=False)
            client.sendall(b"over the cut")
            assert not heard(accepted, 0.3)
            hosts.plug(2, into=True)
            assert heard(accepted, 10)
            assert accepted.recv(100) == b"over the cut"


def test_a_restarted_worker_finds_everything_in_place(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    a, c = attach(one, "a", "10.0.1.2"), attach(two, "c", "10.0.1.4")
    tell(WEB, (one, "10.0.1.2"), (two, "10.0.1.4"))
    with listening(c, "10.0.1.4") as server, connect(a, "10.0.1.4") as client:
        accepted, _ = server.accept()
        again = one.again()
        attach(again, "a", "10.0.1.2")
        assert len(again.links.set_neighbours("web", at(two, "10.0.1.4"))) == 0
        with accepted:
            client.sendall(b"still there")
            assert accepted.recv(100) == b"still there"
        assert again.do(Links.sweep, ["a"], ["web"]).links == ()
        change = again.links.set_neighbours("web", at(two, "10.0.1.4", "10.0.1.5"))
        assert len(change) == len(change.add.neighbours) * 3 == 3
        again.links.close()


def test_docker_on_the_same_hosts_changes_nothing(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    for host in (one, two):
        rules = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
        subprocess.run(["nsenter", f"--net={host.namespace}", "nft", rules], check=True)
        host.run(lambda: [p.write_text("1") for p in Path("/proc/sys/net/bridge").glob("bridge-nf-call-*tables")])
    a, b, c = attach(one, "a", "10.0.1.2"), attach(one, "b", "10.0.1.3"), attach(two, "c", "10.0.1.4")
    tell(WEB, (one, "10.0.1.2"), (one, "10.0.1.3"), (two, "10.0.1.4"))
    assert reaches(a, b, "10.0.1.3")
    assert reaches(a, c, "10.0.1.4")


def test_a_network_of_one_host(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    here = Segment("web", 0, WEB.subnet, vxlan=False)
    a, b, c = (attach(h, t, f"10.0.1.{n}", here) for h, t, n in ((one, "a", 2), (one, "b", 3), (two, "c", 4)))
    tell(here, (one, "10.0.1.2"), (two, "10.0.1.4"))
    assert one.links.ensure_network(here) == 1500
    assert reaches(a, b, "10.0.1.3")
    assert not reaches(a, c, "10.0.1.4", timeout_s=0.3)


def test_nodes_side_by_side_on_a_loopback(hosts: Hosts) -> None:
    place = hosts.add().namespace
    nodes = [hosts.node(place, IPv4Address(f"127.0.0.{number}")) for number in (2, 3, 4)]
    tasks = [attach(node, "task", f"10.0.1.{number}") for number, node in enumerate(nodes, 2)]
    tell(WEB, *((node, f"10.0.1.{number}") for number, node in enumerate(nodes, 2)))
    for number, other in enumerate(tasks[1:], 3):
        assert reaches(tasks[0], other, f"10.0.1.{number}")
        assert len(datagram(tasks[0], other, f"10.0.1.{number}", 40000)) == 40000


def test_the_same_number_twice_on_a_machine_is_refused_in_words(hosts: Hosts) -> None:
    one = hosts.add()
    attach(one, "a", "10.0.1.2")
    other = hosts.node(one.namespace, one.place.data_address)
    with pytest.raises(SwarmError, match=r"VXLAN number 70001 at UDP port 4789.*--data-path-port") as refused:
        attach(other, "b", "10.0.1.3")
    assert refused.value.code is Code.FAILED_PRECONDITION


def test_a_taken_port_is_said_and_tried_again(hosts: Hosts) -> None:
    one = hosts.add()
    with one.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("0.0.0.0", 4789))
        with pytest.raises(SwarmError, match="UDP port 4789") as refused:
            attach(one, "a", "10.0.1.2")
        assert refused.value.retryable
    attach(one, "a", "10.0.1.2")


def test_a_task_hears_no_strangers(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    a, spy, c = attach(one, "a", "10.0.1.2"), attach(one, "spy", "10.0.1.3"), attach(two, "c", "10.0.1.4")
    tell(WEB, (one, "10.0.1.2"), (one, "10.0.1.3"), (two, "10.0.1.4"))
    with open_in(spy, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))) as ears:
        ears.bind(("eth0", 0x0800))
        assert reaches(a, c, "10.0.1.4")
        assert reaches(c, a, "10.0.1.2")
        assert not heard(ears, 0.1)


def test_another_data_address_makes_another_tunnel(hosts: Hosts) -> None:
    one, two = hosts.add(), hosts.add()
    attach(one, "a", "10.0.1.2")
    ip(one.namespace.name, "address add 10.83.0.77/24 dev eth0")
    again = replace(one, place=replace(one.place, data_address=IPv4Address("10.83.0.77"))).again()
    a, c = attach(again, "a", "10.0.1.2"), attach(two, "c", "10.0.1.4")
    tell(WEB, (again, "10.0.1.2"), (two, "10.0.1.4"))
    assert reaches(a, c, "10.0.1.4")
    again.links.close()


def test_removed_networks_are_gone(hosts: Hosts) -> None:
    one = hosts.add()
    attach(one, "a", "10.0.1.2")
    attach(one, "a", "10.0.2.2", DB, "eth1")
    one.links.remove_network("web")
    one.links.remove_network("web")
    left = open_in(one.place.fabric, lambda: {name for _, name in socket.if_nameindex()})
    assert left == {"lo", names.bridge("db"), names.tunnel("db"), names.port("a", "db")}
    with pytest.raises(SwarmError, match="the network web is not on this node yet"):
        one.links.set_neighbours("web", [])
