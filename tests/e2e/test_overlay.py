"""Tasks on networks over three hosts: reached by address, VIP and name, and only by those on the same networks."""

from __future__ import annotations

import collections
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import dnslib
import msgspec
import pytest

from scripts.cluster import Node
from swarmpy.model.spec import EndpointSpec, NetworkAttachment, PortSpec
from swarmpy.model.states import EndpointMode, NetworkDriver
from swarmpy.model.task import Task
from tests.support.container_node import lacking
from tests.support.overlay_swarm import SERVE, OverlaySwarm, address, counts, service
from tests.support.swarm import whoami

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
]

OUTSIDE: Final = "10.99.0.1"
PUBLISHED: Final = 8080
TARGET: Final = 8000
SOON_S: Final = 0.5


@dataclass(frozen=True)
class Front:
    """A network with a server and a client on every host, and one client that is elsewhere."""

    network: str
    vip: str
    web: list[Task]
    clients: list[Task]
    stranger: Task


async def begin(swarm: OverlaySwarm) -> Front:
    network = await swarm.network_of("front")
    elsewhere = await swarm.network_of("elsewhere")
    await swarm.create(service("web", network, command=SERVE, replicas=3, aliases=("www",)))
    await swarm.create(service("client", network, replicas=3, dns=(OUTSIDE,)))
    await swarm.create(service("stranger", elsewhere))
    web, clients = await swarm.running("web", 3), await swarm.running("client", 3)
    (stranger,) = await swarm.running("stranger", 1)
    return Front(network, await swarm.vip("web", network), web, clients, stranger)


async def test_an_overlay_over_three_hosts() -> None:
    async with OverlaySwarm(3) as swarm:
        before = [counts(node) for node in swarm.nodes]
        front = await begin(swarm)
        assert len({task.node_id for task in front.web}) == 3
        by_address(swarm, front)
        by_vip(swarm, front)
        by_name(swarm, front)
        await outside_names_are_asked_of_the_user_s_server(swarm, front)
        others_reach_nothing(swarm, front)
        await several_networks_one_of_them_internal(swarm, front)
        await names_without_a_vip(swarm, front)
        await packets_are_as_large_as_was_asked_for(swarm, front)
        await one_of_a_kind_on_each_node(swarm)
        for name in ("web", "client", "stranger", "inner", "both", "listed", "sized", "local"):
            await swarm.remove(name)
        await swarm.until(lambda: swarm.as_before(before), what="the hosts are as they were")


def by_address(swarm: OverlaySwarm, front: Front) -> None:
    for client in front.clients:
        for task in front.web:
            assert swarm.get(client, address(task, front.network)) == task.id[:12]
    far = address(front.web[0], front.network)
    assert swarm.run_in(front.clients[1], "ping", "-c", "1", "-W", "2", far).returncode == 0
    assert swarm.run_in(front.clients[1], "ping", "-c", "1", "-W", "2", "-s", "4000", far).returncode == 0


def by_vip(swarm: OverlaySwarm, front: Front) -> None:
    for client in front.clients:
        answers = collections.Counter(swarm.get(client, front.vip) for _ in range(6))
        assert answers == {task.id[:12]: 2 for task in front.web}
    assert swarm.run_in(front.clients[0], "ping", "-c", "1", "-W", "2", front.vip).returncode == 0
    # A task reaches its own service, itself too.
    mine = {swarm.get(front.web[0], front.vip) for _ in range(3)}
    assert mine == {task.id[:12] for task in front.web}


def by_name(swarm: OverlaySwarm, front: Front) -> None:
    client = front.clients[0]
    everyone = {address(task, front.network) for task in front.web}
    first = next(task for task in front.web if task.slot == 1)
    for name, wanted in {
        "web": {front.vip},
        "WWW": {front.vip},
        "tasks.web": everyone,
        "tasks.www": everyone,
        "1.web": {address(first, front.network)},
        "web.front": {front.vip},
        "web.swarm": {front.vip},
    }.items():
        assert swarm.ask(client, name) == (dnslib.RCODE.NOERROR, wanted), name
        assert swarm.ask(client, name, "AAAA") == (dnslib.RCODE.NOERROR, set()), name
    assert front.vip in swarm.run_in(client, "ping", "-c", "1", "-W", "2", "web").stdout
    assert swarm.run_in(client, "wget", "-q", "-O", "-", "http://www/").stdout.strip() in {t.id[:12] for t in front.web}


async def outside_names_are_asked_of_the_user_s_server(swarm: OverlaySwarm, front: Front) -> None:
    nodes = await swarm.client.nodes.list()
    near = next(task for task in front.clients if swarm.node_of(task, nodes) is swarm.nodes[0])
    with answering(swarm, swarm.nodes[0]) as asked:
        assert swarm.ask(near, "example.org") == (dnslib.RCODE.NOERROR, {"192.0.2.77"})
        assert swarm.ask(near, "web") == (dnslib.RCODE.NOERROR, {front.vip})
    assert asked == ["example.org."]


def others_reach_nothing(swarm: OverlaySwarm, front: Front) -> None:
    assert swarm.ask(front.stranger, "web")[0] == dnslib.RCODE.NXDOMAIN
    assert swarm.ask(front.stranger, "www.swarm")[0] == dnslib.RCODE.NXDOMAIN
    assert not swarm.get(front.stranger, front.vip, timeout_s=SOON_S)
    assert not swarm.get(front.stranger, address(front.web[0], front.network), timeout_s=SOON_S)
    for node in swarm.nodes:  # not even their own hosts
        command = [*node.place.enter, "busybox", "ping", "-c", "1", "-W", "1", address(front.web[0], front.network)]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


async def several_networks_one_of_them_internal(swarm: OverlaySwarm, front: Front) -> None:
    back = await swarm.network_of("back", internal=True)
    await swarm.create(service("inner", back, command=SERVE, replicas=2))
    await swarm.create(service("both", front.network, back, command=SERVE))
    inner = await swarm.running("inner", 2)
    (both,) = await swarm.running("both", 1)
    assert {swarm.get(both, await swarm.vip("inner", back)) for _ in range(4)} == {task.id[:12] for task in inner}
    assert swarm.get(both, front.vip) in {task.id[:12] for task in front.web}
    # Each side sees of it what is on its own network.
    for asker, network in ((front.clients[0], front.network), (inner[0], back)):
        vip = await swarm.vip("both", network)
        assert swarm.ask(asker, "both") == (dnslib.RCODE.NOERROR, {vip})
        assert swarm.get(asker, vip) == both.id[:12]
        assert swarm.ask(asker, "tasks.both") == (dnslib.RCODE.NOERROR, {address(both, network)})
    assert not swarm.get(inner[0], front.vip, timeout_s=SOON_S)
    # No way out of an internal network; of the others there is one.
    host = swarm.nodes[0].address
    assert swarm.run_in(inner[0], "ping", "-c", "1", "-W", "1", host).returncode != 0
    assert swarm.run_in(both, "ping", "-c", "1", "-W", "2", host).returncode == 0
    assert swarm.ask(inner[0], "example.org")[0] == dnslib.RCODE.REFUSED


async def names_without_a_vip(swarm: OverlaySwarm, front: Front) -> None:
    spec = service("listed", front.network, command=SERVE, replicas=2, aliases=("also",))
    await swarm.create(msgspec.structs.replace(spec, endpoint=EndpointSpec(mode=EndpointMode.DNSRR)))
    tasks = await swarm.running("listed", 2)
    everyone = {address(task, front.network) for task in tasks}
    client = front.clients[0]

    async def is_known_everywhere() -> bool:  # the client's node learns of the last task a moment after the manager
        return swarm.ask(client, "listed") == (dnslib.RCODE.NOERROR, everyone)

    await swarm.until(is_known_everywhere, what="the client's node knows both tasks")
    for name in ("also", "tasks.listed"):
        assert swarm.ask(client, name) == (dnslib.RCODE.NOERROR, everyone)


async def packets_are_as_large_as_was_asked_for(swarm: OverlaySwarm, front: Front) -> None:
    """By default what the tunnel leaves of the link between the hosts; the way out has all of that."""
    small = await swarm.network_of("small", options={"mtu": "1300"})
    await swarm.create(service("sized", front.network, small))
    (task,) = await swarm.running("sized", 1)
    links = swarm.run_in(task, "ip", "link").stdout
    sizes = [line.split("mtu ")[1].split()[0] for line in links.splitlines() if ": eth" in line]
    assert sizes == ["1450", "1300", "1500"]


async def one_of_a_kind_on_each_node(swarm: OverlaySwarm) -> None:
    """A bridge network has the same addresses on every node, and nobody on another node is reached."""
    local = await swarm.network_of("local", driver=NetworkDriver.BRIDGE)
    await swarm.create(service("local", local, command=SERVE, replicas=3))
    tasks = await swarm.running("local", 3)
    vip = await swarm.vip("local", local)
    for task in tasks:
        assert {swarm.get(task, vip) for _ in range(3)} == {task.id[:12]}
        other = next(one for one in tasks if one is not task)
        assert not swarm.get(task, address(other, local), timeout_s=SOON_S)


async def test_a_node_ends_with_its_links_and_rules_though_its_tasks_have_gone_before() -> None:
    async with OverlaySwarm(1) as swarm:  # which looks for what is left
        before = [counts(node) for node in swarm.nodes]
        await swarm.create(service("web"))
        await swarm.running("web", 1)
        await swarm.remove("web")
        await swarm.until(lambda: swarm.as_before(before), what="the task's own are gone")


async def test_processes_on_a_network_with_a_published_port() -> None:
    async with OverlaySwarm(3) as swarm:
        before = [counts(node) for node in swarm.nodes]
        network = await swarm.network_of("front")
        spec = whoami("web", PUBLISHED, replicas=3)
        joined = msgspec.structs.replace(spec.task, networks=(NetworkAttachment(target=network),))
        await swarm.create(msgspec.structs.replace(spec, task=joined))
        port = PortSpec(target=80, published=PUBLISHED + 1)
        shop = service("shop", network, command=SERVE, replicas=2)
        await swarm.create(msgspec.structs.replace(shop, endpoint=EndpointSpec(ports=(port,))))
        web, shops = await swarm.running("web", 3), await swarm.running("shop", 2)
        vip = await swarm.vip("web", network)
        for asker in (shops[0], web[0]):
            said = [said_by(swarm.get(asker, vip, port=TARGET)) for _ in range(3)]
            assert set(said) == {task.id for task in web}
        assert swarm.ask(web[0], "shop") == (dnslib.RCODE.NOERROR, {await swarm.vip("shop", network)})
        for node in swarm.nodes:
            assert {said_by(fetch(node, node.address, PUBLISHED)) for _ in range(6)} == {task.id for task in web}
            assert {fetch(node, node.address, PUBLISHED + 1) for _ in range(4)} == {task.id[:12] for task in shops}
        hosts = name_files(web[0])
        assert f"{address(web[0], network)}\t{web[0].id[:12]}" in hosts
        assert "nameserver 127.0.0.11" in hosts
        for name in ("web", "shop"):
            await swarm.remove(name)
        await swarm.until(lambda: swarm.as_before(before), what="the hosts are as they were")


def name_files(task: Task) -> str:
    """Return the name files as a process sees them."""
    command = ["nsenter", "-t", str(task.status.pid), "-m", "-n", "cat", "/etc/hosts", "/etc/resolv.conf"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def said_by(body: str) -> str:
    """Return the task that a `whoami` answer names."""
    rows = dict(line.partition(": ")[::2] for line in body.splitlines())
    return rows.get("task", "")


def fetch(node: Node, host: str, port: int) -> str:
    """Return what an HTTP server answers to a program on a node's host."""
    command = [*node.place.enter, "busybox", "wget", "-q", "-O", "-", f"http://{host}:{port}/"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()


@contextmanager
def answering(swarm: OverlaySwarm, node: Node) -> Iterator[list[str]]:
    """Run a name server at `OUTSIDE`, an address of a node's host; yield the names that it was asked for."""
    asked: list[str] = []
    subprocess.run([*node.place.enter, "ip", "address", "add", f"{OUTSIDE}/32", "dev", "lo"], check=True)

    def make() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind((OUTSIDE, 53))
        made.settimeout(0.1)
        return made

    def serve() -> None:
        while not done.is_set():
            try:
                data, client = sock.recvfrom(4096)
            except TimeoutError:
                continue
            question = dnslib.DNSRecord.parse(data)
            asked.append(str(question.q.qname))
            answer = question.reply()
            answer.add_answer(dnslib.RR(question.q.qname, rdata=dnslib.A("192.0.2.77")))
            sock.sendto(answer.pack(), client)

    done = threading.Event()
    with swarm.on_host(node, make) as sock:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            done.set()
            thread.join()
