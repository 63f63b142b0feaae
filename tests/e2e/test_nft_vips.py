"""VIPs with real packets: turns, refusals, replies translated back, and backends that come and go under load."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from tests.support.netlab import cannot, datagram, greeting, ping, tcp_server, udp_server
from tests.support.nft_vips import CLIENT, VIP, VipLab, backend, vip
from worker.network.nft.vip import Vip
from worker.network.nft.vips import VipTable

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(cannot()), reason=cannot()),
]
BACKENDS = 3
TEXTS = Path(__file__).parent.parent / "testdata" / "nft"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[VipLab]:
    with VipLab(tmp_path, backends=BACKENDS) as made:
        yield made


@pytest.fixture
def servers(lab: VipLab) -> Iterator[None]:
    """A server of its number at port 80 of each backend."""
    with contextlib.ExitStack() as stack:
        for number, space in enumerate(lab.backends):
            stack.enter_context(tcp_server(space, backend(number), 80, str(number)))
        yield


@pytest.mark.usefixtures("servers")
def test_backends_take_turns_and_see_the_client(lab: VipLab) -> None:
    lab.table.sync([vip(0, 1, 2)])
    met = Counter(greeting(lab.client, VIP, 80) for _ in range(30))
    assert met == {(str(number), CLIENT): 10 for number in range(BACKENDS)}


@pytest.mark.usefixtures("servers")
def test_new_connections_go_to_those_that_are_left_and_old_ones_stay(lab: VipLab) -> None:
    lab.table.sync([vip(0)])
    with lab.client.socket() as kept:
        kept.connect((VIP, 80))
        lines = kept.makefile("rw")
        assert lines.readline().startswith("0 ")
        assert lab.table.sync([vip(1, 2)]) == {(IPv4Address(VIP), IPv4Address(backend(0)))}
        assert Counter(greeting(lab.client, VIP, 80)[0] for _ in range(4)) == {"1": 2, "2": 2}
        print("still here", file=lines, flush=True)
        assert lines.readline() == "still here\n"


def test_an_address_without_backends_refuses_at_once(lab: VipLab) -> None:
    lab.table.sync([vip()])
    with pytest.raises(ConnectionRefusedError):
        greeting(lab.client, VIP, 80)
    with lab.client.socket(socket.SOCK_DGRAM) as sock:
        sock.connect((VIP, 53))
        with pytest.raises(PermissionError):  # so the system says that a packet of one's own was refused
            sock.send(b"hello")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)
    with pytest.raises(PermissionError):
        ping(lab.client, VIP)


@pytest.mark.usefixtures("servers")
def test_a_connection_outlives_the_last_backend_and_the_vip(lab: VipLab) -> None:
    lab.table.sync([vip(0)])
    with lab.client.socket() as kept:
        kept.connect((VIP, 80))
        lines = kept.makefile("rw")
        assert lines.readline().startswith("0 ")
        for vips in ([vip()], []):
            lab.table.sync(vips)
            for word in ("still\n", "here\n"):
                print(word, file=lines, end="", flush=True)
                assert lines.readline() == word


@pytest.mark.usefixtures("servers")
def test_a_withdrawn_service_refuses_and_comes_back(lab: VipLab) -> None:
    for numbers in ((0, 1), (), (2,), ()):
        lab.table.sync([vip(*numbers)])
        met = Counter[str]()
        with contextlib.suppress(ConnectionRefusedError):
            met.update(greeting(lab.client, VIP, 80)[0] for _ in range(2 * len(numbers) or 1))
        assert met == {str(number): 2 for number in numbers}
    lab.table.sync([])
    assert "vip-" not in lab.client.ruleset()


def test_ping_is_answered(lab: VipLab) -> None:
    lab.table.sync([vip(0, 1, 2)])
    assert ping(lab.client, VIP) == VIP


def test_datagrams_are_answered_by_the_vip_and_stay_with_their_backend(lab: VipLab) -> None:
    lab.table.sync([vip(0, 1)])
    with (
        udp_server(lab.backends[0], backend(0), 53, "0"),
        udp_server(lab.backends[1], backend(1), 53, "1"),
        lab.client.socket(socket.SOCK_DGRAM) as one,
        lab.client.socket(socket.SOCK_DGRAM) as other,
    ):
        first, second = datagram(one, VIP, 53), datagram(other, VIP, 53)
        assert {first, second} == {("0", CLIENT, VIP), ("1", CLIENT, VIP)}
        assert [datagram(one, VIP, 53) for _ in range(3)] == [first] * 3


def test_a_task_reaches_itself_by_the_vip(lab: VipLab) -> None:
    lab.table.sync([Vip(IPv4Address(VIP), (IPv4Address(CLIENT),))])
    with tcp_server(lab.client, "0.0.0.0", 80, "me"), udp_server(lab.client, CLIENT, 53, "me"):
        assert greeting(lab.client, VIP, 80) == ("me", CLIENT)
        with lab.client.socket(socket.SOCK_DGRAM) as sock:
            assert datagram(sock, VIP, 53) == ("me", CLIENT, VIP)


@pytest.mark.usefixtures("servers")
def test_no_connection_is_lost_while_backends_change(lab: VipLab) -> None:
    """Clients connect without pause while the number and order of backends change; all of them live."""
    lab.table.sync([vip(0, 1, 2)])
    stop = threading.Event()
    met: Counter[str] = Counter()
    failed: list[Exception] = []

    def connect() -> None:
        while not stop.is_set():
            try:
                met[greeting(lab.client, VIP, 80)[0]] += 1
            except (OSError, ValueError) as error:
                failed.append(error)

    threads = [threading.Thread(target=connect) for _ in range(3)]
    for thread in threads:
        thread.start()
    draw = random.Random(7)
    try:
        for _ in range(2000):
            lab.table.sync([vip(*draw.sample(range(BACKENDS), draw.randint(1, BACKENDS)))])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert set(met) == {"0", "1", "2"}


def test_what_is_in_force_is_taken_over(lab: VipLab) -> None:
    vips = [vip(0, 1, 2), vip(1, address="10.0.1.3"), vip(address="10.0.1.4")]
    lab.table.sync(vips)
    before = lab.client.ruleset()
    after = VipTable(lab.socket, rng=random.Random(1))
    after.ensure()
    assert after.vips == lab.table.vips
    assert after.sync(vips) == frozenset()
    assert lab.client.ruleset() == before
    after.sync([vip(2), vip(address="10.0.1.3")])
    again = VipTable(lab.socket, rng=random.Random(1))
    again.ensure()
    assert again.vips == after.vips
    assert again.vips == {IPv4Address(VIP): [IPv4Address(backend(2))], IPv4Address("10.0.1.3"): []}


@pytest.mark.usefixtures("servers")
@pytest.mark.parametrize(
    "harm", ['add table swarmpy { comment "another layout"; }', "delete element swarmpy backends { 10.0.1.2 . 0x0 }"]
)
def test_a_table_that_is_not_as_ours_is_made_anew(lab: VipLab, harm: str) -> None:
    lab.table.sync([vip(0, 1)])
    if "layout" in harm:
        lab.client.run("nft", "delete table swarmpy")
    lab.client.run("nft", harm)
    after = VipTable(lab.socket, rng=random.Random(1))
    after.ensure()
    after.sync([vip(0, 1)])
    assert {greeting(lab.client, VIP, 80)[0] for _ in range(4)} == {"0", "1"}


def test_the_name_server_may_be_at_another_port(lab: VipLab) -> None:
    """So that the task can have port 53 to itself."""
    table = VipTable(lab.socket, rng=random.Random(0), names_port=34953)
    table.ensure()
    with (
        tcp_server(lab.client, "127.0.0.11", 34953, "names"),
        udp_server(lab.client, "127.0.0.11", 34953, "names"),
        tcp_server(lab.client, "0.0.0.0", 53, "own"),
        lab.client.socket(socket.SOCK_DGRAM) as sock,
    ):
        assert greeting(lab.client, "127.0.0.11", 53)[0] == "names"
        assert greeting(lab.client, "127.0.0.1", 53)[0] == greeting(lab.client, CLIENT, 53)[0] == "own"
        assert datagram(sock, "127.0.0.11", 53)[::2] == ("names", "127.0.0.11")


def test_a_removed_table_leaves_nothing(lab: VipLab) -> None:
    lab.table.sync([vip(0, 1), vip(address="10.0.1.3")])
    for _ in range(2):
        lab.table.remove()
    assert lab.client.ruleset() == ""


def test_the_rules_are_those_that_nft_makes_of_their_text(lab: VipLab) -> None:
    lab.table.sync([vip(0), vip(address="10.0.1.3")])
    by_nft = lab.space("by_nft")
    by_nft.run("nft", "-f", "-", text=(TEXTS / "vips.nft").read_text())
    # The type of a backend's number is one of nft's own, without a number that others could name.
    ours, theirs = (space.ruleset().partition("\tchain ") for space in (lab.client, by_nft))
    assert ours[2] == theirs[2] != ""
    assert "10.0.1.2 . 0x00000000 : 10.0.1.100" in ours[0]


def test_what_cannot_be_is_refused(lab: VipLab) -> None:
    for wrong in ([vip(0), vip(1)], [Vip(IPv4Address(VIP), (IPv4Address(VIP),))]):
        with pytest.raises(SwarmError, match="comes twice, or is a backend") as refused:
            lab.table.sync(wrong)
        assert refused.value.code == Code.INVALID_ARGUMENT
    assert lab.table.vips == {}
