"""A task's way out, with real namespaces."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.link_hosts import Host, Hosts, connect, datagram, eventually, ip, needs_root, reaches
from worker.network.link.links import Links
from worker.network.link.namespace import open_in
from worker.network.link.rtnl import Rtnl

pytestmark = [pytest.mark.e2e, pytest.mark.root, needs_root]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Hosts(tmp_path) as hosts:
        yield hosts.add()


def attach(host: Host, task: str) -> tuple[Path, str]:
    namespace = host.links.make_namespace(task)
    return namespace, str(host.do(Links.join_gateway, task).address.ip)


def test_a_task_and_its_host_reach_each_other(host: Host) -> None:
    task, address = attach(host, "task1")
    assert reaches(host.namespace, task, address)
    assert reaches(task, host.namespace, host.links.gateway().address.ip)
    assert reaches(task, host.namespace, "10.83.0.1"), "the default route leads to the host"


def test_tasks_meet_only_by_way_of_the_host(host: Host) -> None:
    one, _ = attach(host, "task1")
    other, address = attach(host, "task2")
    assert reaches(one, other, address), "nothing filters here"
    host.run(lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("0"))
    assert not reaches(one, other, address, timeout_s=0.3)


def test_the_host_sends_with_the_gateways_address(host: Host) -> None:
    task, address = attach(host, "task1")
    with (
        open_in(task, lambda: socket.create_server((address, 80))) as server,
        connect(host.namespace, address) as client,
    ):
        assert client.getsockname()[0] == str(host.links.gateway().address.ip)
        server.settimeout(5)
        server.accept()[0].close()


def test_loopback_addresses_go_out_when_something_translates_them(host: Host) -> None:
    task, address = attach(host, "task1")
    with (
        open_in(task, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as there,
        host.run(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as here,
    ):
        there.bind((address, 5000))
        here.bind(("127.0.0.1", 0))
        here.sendto(b"x", (address, 5000))  # without route_localnet: EINVAL


def test_a_whole_packet_fits_and_no_more(host: Host) -> None:
    task, address = attach(host, "task1")
    assert len(datagram(host.namespace, task, address, 1472)) == 1472
    with pytest.raises(OSError, match="too long"):
        datagram(host.namespace, task, address, 1473)


def test_everything_may_be_said_twice_and_is_gone_at_last(host: Host) -> None:
    before = host.count()
    _, address = attach(host, "task1")
    with_one = host.count()
    assert attach(host, "task1")[1] == address
    assert host.count() == with_one == (before[0] + 2, 1, 1)
    again = host.again()
    assert attach(again, "task1")[1] == address, "a restarted worker knows"
    assert attach(again, "task2")[1] != address
    for task in ("task1", "task2", "task3"):
        again.links.remove_namespace(task)
    eventually(lambda: again.count() == (before[0] + 1, 0, 0), "the links go with their namespaces")
    again.do(Links.clear)
    assert again.count() == before
    again.links.close()


def test_a_namespace_that_was_made_anew_gets_a_link_of_its_own(host: Host) -> None:
    task, _ = attach(host, "task1")
    # A socket keeps the old namespace, and the old link in it.
    with open_in(task, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)):
        host.links.remove_namespace("task1")
        task, address = attach(host, "task1")
        assert reaches(host.namespace, task, address)


def test_sysctls_of_the_task(host: Host) -> None:
    task = host.links.make_namespace("task1", {"net.core.somaxconn": "77", "net.ipv4.ip_default_ttl": "9"})
    read = open_in(task, lambda: Path("/proc/sys/net/core/somaxconn").read_text())
    assert read == "77\n"
    assert Path("/proc/sys/net/core/somaxconn").read_text() != "77\n"
    for name, value in (("kernel.hostname", "x"), ("net/../kernel/hostname", "x"), ("net.core.nothing", "1")):
        with pytest.raises(SwarmError, match="sysctl") as refused:
            host.links.make_namespace("task1", {name: value})
        assert refused.value.code is Code.INVALID_ARGUMENT


def test_two_nodes_on_one_host_have_different_subnets(host: Host, tmp_path: Path) -> None:
    with Hosts(tmp_path / "more") as hosts:
        others = [hosts.node(host.namespace, host.place.data_address) for _ in range(3)]
        subnets = [h.do(Links.gateway).subnet for h in (host, *others)]
        assert not any(a.overlaps(b) for a in subnets for b in subnets if a is not b)


def test_nodes_that_start_together_do_not_meet(host: Host, tmp_path: Path) -> None:
    with Hosts(tmp_path / "more") as hosts:
        nodes = [hosts.node(host.namespace, host.place.data_address) for _ in range(6)]
        # Sixteen candidates for six nodes: some look at the same one first.
        for node in nodes:
            node.links._ways_out._pools = (IPv4Network("172.18.0.0/16"),)
        with ThreadPoolExecutor(len(nodes)) as threads:
            subnets = [gateway.subnet for gateway in threads.map(lambda node: node.do(Links.gateway), nodes)]
    assert len(set(subnets)) == len(nodes)


def test_a_subnet_in_use_stays_even_if_something_takes_it(host: Host) -> None:
    _, address = attach(host, "task1")
    ip(host.namespace.name, f"route add {host.links.gateway().subnet} via 10.83.0.9 metric 5")
    again = host.again()
    assert attach(again, "task1")[1] == address
    again.links.close()


def test_the_subnet_stays_until_something_else_takes_it(host: Host) -> None:
    subnet = host.do(Links.gateway).subnet
    host.do(Links.clear)
    again = host.again()
    assert again.do(Links.gateway).subnet == subnet
    again.do(Links.clear)
    ip(host.namespace.name, f"route add {subnet} via 10.83.0.9")
    third = again.again()
    assert not third.do(Links.gateway).subnet.overlaps(subnet)
    third.links.close()


def test_what_is_not_there_says_so(host: Host) -> None:
    with pytest.raises(SwarmError, match=r"no network namespace is pinned at .*/nobody"):
        host.do(Links.join_gateway, "nobody")
    with pytest.raises(SwarmError, match="no network namespace is pinned"):
        Rtnl(host.place.namespace("nobody"))
    host.links.remove_namespace("nobody")
