"""The host's table with real packets: publishing, masquerade, and who is kept from whom."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.netlab import Space, cannot, datagram, greeting, tcp_server, udp_server
from tests.support.nft_host import HOST, KEY, LINKS, OUTSIDE, TASKS, HostLab
from worker.network.nft.host import HostTable
from worker.network.nft.layout import ANY_ADDRESS, Links, Publication, Transport

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(cannot()), reason=cannot()),
]


TEXTS = Path(__file__).parent.parent / "testdata" / "nft"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[HostLab]:
    with HostLab(tmp_path) as made:
        yield made


def published(
    port: int, task: int = 0, *, address: str = HOST, target_port: int = 80, transport: Transport = "tcp"
) -> Publication:
    return Publication(transport, IPv4Address(address), port, IPv4Address(TASKS[task]), target_port)


def test_a_published_port_leads_to_the_task_from_wherever(lab: HostLab) -> None:
    lab.table.change(add=[published(8080)])
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web") as clients:
        assert greeting(lab.outside, HOST, 8080) == ("web", OUTSIDE)
        assert greeting(lab.host, HOST, 8080) == ("web", HOST)
        assert greeting(lab.tasks[1], HOST, 8080) == ("web", TASKS[1])
        # To itself it goes by way of the gateway, for it would drop what comes from its own address.
        assert greeting(lab.tasks[0], HOST, 8080) == ("web", "172.18.0.1")
        assert len(clients) == 4


def test_a_port_on_loopback_is_for_this_machine(lab: HostLab) -> None:
    lab.table.change(add=[published(8080, address="127.0.0.5")])
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"):
        assert greeting(lab.host, "127.0.0.5", 8080) == ("web", "172.18.0.1")
        assert greeting(lab.host, "127.0.0.5", 8080, source="127.0.0.9") == ("web", "172.18.0.1")
        with pytest.raises(ConnectionRefusedError):
            greeting(lab.host, HOST, 8080)


def test_any_address_is_each_of_the_machine_and_no_other(lab: HostLab) -> None:
    lab.table.change(add=[published(8080, address=str(ANY_ADDRESS))])
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"), tcp_server(lab.outside, OUTSIDE, 8080, "other"):
        assert greeting(lab.outside, HOST, 8080) == ("web", OUTSIDE)
        assert greeting(lab.host, "127.0.0.1", 8080) == ("web", "172.18.0.1")
        assert greeting(lab.tasks[1], OUTSIDE, 8080) == ("other", HOST)


def test_datagrams_are_answered_from_where_they_were_sent(lab: HostLab) -> None:
    lab.table.change(add=[published(5353, transport="udp", target_port=53)])
    with udp_server(lab.tasks[0], TASKS[0], 53, "dns"):
        for client, seen in ((lab.outside, OUTSIDE), (lab.host, HOST), (lab.tasks[0], "172.18.0.1")):
            with client.socket(socket.SOCK_DGRAM) as sock:
                assert datagram(sock, HOST, 5353) == ("dns", seen, HOST)


def test_what_leaves_has_the_host_s_address(lab: HostLab) -> None:
    with tcp_server(lab.outside, OUTSIDE, 80, "out"):
        assert greeting(lab.tasks[0], OUTSIDE, 80) == ("out", HOST)


def test_only_published_ports_can_be_reached(lab: HostLab) -> None:
    lab.table.change(add=[published(8080)])
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"):
        assert greeting(lab.host, TASKS[0], 80)[0] == "web"  # the machine itself may
        assert not reaches(lab.tasks[1], TASKS[0], 80)
        assert not reaches(lab.outside, TASKS[0], 80)


def test_a_task_cannot_reach_the_loopback_of_the_host(lab: HostLab) -> None:
    # What a task with raw sockets could do: send to the host's loopback by way of its gateway.
    task = lab.tasks[0]
    task.sysctl("ipv4/conf/eth0/route_localnet", 1)
    task.ip("link set lo down", "route add 127.0.0.66/32 via 172.18.0.1 dev eth0 src 172.18.0.2")
    task.ip("rule add pref 1 to 127.0.0.66 lookup main", "rule add pref 2 lookup local", "rule del pref 0")
    with tcp_server(lab.host, "127.0.0.66", 2222, "secret"):
        assert not reaches(task, "127.0.0.66", 2222)
        lab.host.run("nft", "flush", "chain", lab.table.name, "raw")
        assert reaches(task, "127.0.0.66", 2222), "otherwise this test shows nothing"


def reaches(client: Space, address: str, port: int) -> bool:
    with client.socket() as sock:
        sock.settimeout(0.3)  # what is dropped is never answered
        try:
            sock.connect((address, port))
        except TimeoutError:
            return False
        return True


def test_connections_outlive_their_port(lab: HostLab) -> None:
    port = published(8080)
    lab.table.change(add=[port])
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"), lab.outside.socket() as kept:
        kept.connect((HOST, 8080))
        lines = kept.makefile("rw")
        assert lines.readline() == f"web {OUTSIDE}\n"
        lab.table.change(remove=[port])
        with pytest.raises(ConnectionRefusedError):
            greeting(lab.outside, HOST, 8080)
        print("still here", file=lines, flush=True)
        assert lines.readline() == "still here\n"


def test_a_port_moves_to_another_task_in_one_step(lab: HostLab) -> None:
    old, new = published(8080, 0), published(8080, 1)
    lab.table.change(add=[old])
    with tcp_server(lab.tasks[0], TASKS[0], 80, "old"), tcp_server(lab.tasks[1], TASKS[1], 80, "new"):
        assert greeting(lab.outside, HOST, 8080)[0] == "old"
        with pytest.raises(
            SwarmError, match=r"tcp port 8080 on 10\.9\.0\.1 cannot lead to 172\.18\.0\.3:80"
        ) as refused:
            lab.table.change(add=[new])
        assert refused.value.code == Code.ALREADY_EXISTS
        assert greeting(lab.outside, HOST, 8080)[0] == "old"
        lab.table.change(remove=[old], add=[new])
        assert greeting(lab.outside, HOST, 8080)[0] == "new"


def test_changes_may_be_repeated_and_are_read_back(lab: HostLab) -> None:
    ports = [published(8080), published(8081, 1), published(8080, transport="udp"), published(1, address="0.0.0.0")]
    for _ in range(2):
        lab.table.change(add=ports)
    after = HostTable(lab.socket, KEY, LINKS)
    after.ensure()
    assert after.publications == lab.table.publications == frozenset(ports)
    for _ in range(2):
        after.change(remove=ports[:3])
    assert "elements = { 172.18.0.2 . 172.18.0.2 }" in lab.host.ruleset()
    after.sync(ports[1:2])
    after.ensure()
    assert after.publications == frozenset(ports[1:2])


def test_a_table_of_another_layout_is_replaced_and_keeps_its_ports(lab: HostLab) -> None:
    lab.table.change(add=[published(8080)])
    moved = HostTable(lab.socket, KEY, Links(LINKS.prefix, IPv4Network("172.18.16.0/20")))
    moved.ensure()
    assert "ip saddr 172.18.16.0/20" in lab.host.ruleset()
    assert moved.publications == {published(8080)}
    with tcp_server(lab.tasks[0], TASKS[0], 80, "web"):
        assert greeting(lab.outside, HOST, 8080)[0] == "web"


def test_a_table_that_is_not_as_ours_at_all_is_replaced(lab: HostLab) -> None:
    before = lab.host.ruleset()
    lab.host.run("nft", f"delete table {lab.table.name}; add table {lab.table.name}")
    lab.table.ensure()
    assert lab.host.ruleset() == before


def test_a_removed_table_leaves_nothing(lab: HostLab) -> None:
    lab.table.change(add=[published(8080)])
    for _ in range(2):
        lab.table.remove()
    assert lab.host.ruleset() == ""
    assert lab.table.publications == frozenset()


def test_the_rules_are_those_that_nft_makes_of_their_text(lab: HostLab) -> None:
    lab.table.change(add=[published(8080), published(53, address="0.0.0.0", target_port=5353, transport="udp")])
    by_nft = lab.space("by_nft")
    by_nft.run("nft", "-f", "-", text=(TEXTS / "host.nft").read_text())
    assert lab.host.ruleset() == by_nft.ruleset()


@pytest.mark.parametrize("harm", ["flush ruleset", "delete element {table} published {{ 10.9.0.1 . tcp . 8080 }}"])
def test_a_table_that_others_have_changed_is_put_back(lab: HostLab, harm: str) -> None:
    lab.table.change(add=[published(8080)])
    before = lab.host.ruleset()
    lab.host.run("nft", harm.format(table=lab.table.name))
    lab.table.ensure()
    assert lab.host.ruleset() == before
    lab.host.run("nft", harm.format(table=lab.table.name))
    lab.table.change(remove=[published(8080)])
    lab.table.change(add=[published(8080)])
    assert lab.host.ruleset() == before
