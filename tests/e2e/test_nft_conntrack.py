"""Flows of datagrams that are forgotten when their backend or port changes, with real packets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.support.netlab import cannot, datagram, greeting, tcp_server, udp_server
from tests.support.nft_host import HOST, OUTSIDE, TASKS, HostLab
from tests.support.nft_vips import CLIENT, VIP, VipLab, backend, vip
from worker.network.nft.conntrack import Conntrack
from worker.network.nft.layout import Publication

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(cannot()), reason=cannot()),
]


@pytest.fixture
def vips(tmp_path: Path) -> Iterator[VipLab]:
    with VipLab(tmp_path, backends=2) as made:
        yield made


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HostLab]:
    with HostLab(tmp_path) as made:
        yield made


def published(task: int, *, address: str = HOST) -> Publication:
    return Publication("udp", IPv4Address(address), 53, IPv4Address(TASKS[task]), 5353)


def test_a_sender_that_never_stops_goes_to_another_backend(vips: VipLab) -> None:
    conntrack = Conntrack(vips.socket)
    vips.table.sync([vip(0)])
    assert conntrack.is_empty()
    with (
        udp_server(vips.backends[0], backend(0), 53, "0"),
        udp_server(vips.backends[1], backend(1), 53, "1"),
        tcp_server(vips.backends[0], backend(0), 80, "0"),
        vips.client.socket(socket.SOCK_DGRAM) as sock,
    ):
        assert greeting(vips.client, VIP, 80)[0] == "0"
        assert datagram(sock, VIP, 53) == ("0", CLIENT, VIP)
        withdrawn = vips.table.sync([vip(1)])
        assert datagram(sock, VIP, 53) == ("0", CLIENT, VIP)
        assert not conntrack.is_empty()
        assert conntrack.forget_backends(withdrawn) == 1
        assert datagram(sock, VIP, 53) == ("1", CLIENT, VIP)
        assert conntrack.forget_backends(withdrawn) == 0
        assert [(str(flow.address), str(flow.backend)) for flow in conntrack.flows("udp")] == [(VIP, backend(1))]
        assert {str(flow.backend) for flow in conntrack.flows("tcp")} == {backend(0)}


def test_connections_to_a_dead_backend_end_at_once_if_asked(vips: VipLab) -> None:
    vips.table.sync([vip(0)])
    with tcp_server(vips.backends[0], backend(0), 80, "0"), vips.client.socket() as sock:
        sock.connect((VIP, 80))
        assert sock.recv(100).startswith(b"0 ")
        withdrawn = vips.table.sync([vip(1)])
        assert Conntrack(vips.socket).forget_backends(withdrawn, "tcp") == 1
        sock.send(b"hello")
        with pytest.raises(ConnectionResetError):
            sock.recv(100)


@pytest.mark.parametrize("address", [HOST, "0.0.0.0"])
def test_a_sender_follows_a_published_port(host: HostLab, address: str) -> None:
    conntrack = Conntrack(host.socket)
    first, second = published(0, address=address), published(1, address=address)
    with (
        udp_server(host.host, HOST, 53, "host"),
        udp_server(host.tasks[0], TASKS[0], 5353, "0"),
        udp_server(host.tasks[1], TASKS[1], 5353, "1"),
        host.outside.socket(socket.SOCK_DGRAM) as sock,
    ):
        assert datagram(sock, HOST, 53) == ("host", OUTSIDE, HOST)
        host.table.change(add=[first])
        assert conntrack.forget_ports([first], host.table.publications) == 1
        assert datagram(sock, HOST, 53) == ("0", OUTSIDE, HOST)
        host.table.change(add=[second], remove=[first])
        assert datagram(sock, HOST, 53) == ("0", OUTSIDE, HOST)
        assert conntrack.forget_ports([first, second], host.table.publications) == 1
        assert datagram(sock, HOST, 53) == ("1", OUTSIDE, HOST)
        assert conntrack.forget_ports([first, second], host.table.publications) == 0
        host.table.change(remove=[second])
        assert conntrack.forget_ports([second], host.table.publications) == 1
        assert datagram(sock, HOST, 53) == ("host", OUTSIDE, HOST)
        assert conntrack.forget_ports([second], host.table.publications) == 0


def test_all_flows_of_a_task_that_is_gone(host: HostLab) -> None:
    conntrack = Conntrack(host.socket)
    host.table.change(add=[published(0)])
    with udp_server(host.tasks[0], TASKS[0], 5353, "0"), host.outside.socket(socket.SOCK_DGRAM) as sock:
        datagram(sock, HOST, 53)
        assert conntrack.forget_target(IPv4Address(TASKS[1])) == 0
        assert conntrack.forget_target(IPv4Address(TASKS[0])) == 1
        assert list(conntrack.flows("udp")) == []
