"""Ports that are published otherwise than by TCP on every node: in mode host, and on chosen addresses."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from scripts.cluster import Node
from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort, PublishMode, Transport
from swarmpy.model.spec import PortSpec, ServiceSpec, UpdateConfig
from swarmpy.model.task import Task
from tests.support.swarm import TARGET, Swarm, accepts, process, who_answers, whoami, with_env

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.xdist_group("published_ports")]

PORT = 8190
SIZE = 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(SIZE) as swarm:
        yield swarm


def published(name: str, replicas: int, *ports: PortSpec) -> ServiceSpec:
    """Return the spec of the example server with these ports."""
    spec = whoami(name, 0, replicas=replicas, update=UpdateConfig(monitor_s=0.2))
    return msgspec.structs.replace(spec, endpoint=msgspec.structs.replace(spec.endpoint, ports=ports))


def on_host(**fields: object) -> PortSpec:
    return PortSpec(target=TARGET, published=PORT, mode=PublishMode.HOST, **fields)  # type: ignore[arg-type]  # of tests


async def place_of(swarm: Swarm, task: Task) -> Node:
    return swarm.node_of(task, await swarm.client.nodes.list())


async def test_a_host_mode_port_is_the_tasks_own_on_its_node_alone(swarm: Swarm) -> None:
    await swarm.create(published("own", 1, on_host()))
    [task] = await swarm.running("own", 1)
    assert task.host_ports == (HostPort(target=TARGET, port=PORT),)
    node = await place_of(swarm, task)
    assert (await who_answers(node.address, PORT))["slot"] == "1"
    assert [accepts(other.address, PORT) for other in swarm.nodes if other is not node] == [False] * (SIZE - 1)

    await swarm.client.services.scale("own", SIZE + 1)

    async def waits() -> list[Task]:
        return [t for t in await swarm.tasks("own") if "host-mode port already in use on 2 nodes" in t.pending_reason]

    [waiting] = await swarm.until(waits, what="the task that finds no node waits")
    assert not waiting.node_id

    async def all_live() -> bool:
        return len(await swarm.live("own")) == SIZE

    await swarm.until(all_live, what="there is one on each node")
    for node in swarm.nodes:
        await who_answers(node.address, PORT)
    await swarm.remove("own")


async def test_an_update_moves_a_host_mode_port_to_the_next_task(swarm: Swarm) -> None:
    await swarm.create(published("moves", SIZE, on_host()))
    await swarm.running("moves", SIZE)
    spec = (await swarm.client.services.get("moves")).service
    await swarm.client.services.update(spec, with_env(spec.spec, "VERSION=v2"))
    await swarm.updated("moves")
    await swarm.running("moves", SIZE)
    for node in swarm.nodes:
        assert (await who_answers(node.address, PORT))["version"] == "v2"
    await swarm.remove("moves")


async def test_requests_to_a_host_mode_port_are_answered_before_the_task_ends(swarm: Swarm) -> None:
    """The port itself goes with its task: nobody holds new connections until there is another one."""
    await swarm.create(published("ends", SIZE, on_host()))
    await swarm.running("ends", SIZE)
    asked = [await ask_slowly(node.address) for node in swarm.nodes]
    await swarm.remove("ends")
    for reader, writer in asked:
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


ECHO = """
import os, signal, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((os.environ["HOST"], int(os.environ["PORT"])))
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
who = (os.environ["SWARMPY_TASK_SLOT"] + "/" + os.environ.get("VERSION", "v1")).encode()
while True:
    data, client = sock.recvfrom(65536)
    sock.sendto(who + b" " + data, client)
"""


def echoes(name: str, replicas: int, **fields: object) -> ServiceSpec:
    """Return the spec of a UDP server that answers with its slot, its version, and what it was sent."""
    port = PortSpec(target=TARGET, published=PORT, transport=Transport.UDP, **fields)  # type: ignore[arg-type]  # of tests
    spec = process(name, sys.executable, "-c", ECHO, replicas=replicas, ports=(port,))
    return msgspec.structs.replace(spec, update=UpdateConfig(monitor_s=0.2))


def ask_by_udp(sock: socket.socket, address: str, text: str) -> str:
    """Return the answer to one datagram, which must come from where it was sent."""
    sock.sendto(text.encode(), (address, PORT))
    data, source = sock.recvfrom(65536)
    assert source == (address, PORT)
    return data.decode()


def udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.settimeout(1.0)
    return sock


async def test_every_node_leads_datagrams_to_all_tasks(swarm: Swarm) -> None:
    await swarm.create(echoes("datagrams", 3))
    await swarm.running("datagrams", 3)

    async def all_answer() -> bool:
        for node in swarm.nodes:
            answers = set()
            for _ in range(3):
                with udp_socket() as sock:
                    answers.add(await asyncio.to_thread(ask_by_udp, sock, node.address, "who"))
            if answers != {f"{slot}/v1 who" for slot in (1, 2, 3)}:
                return False
        return True

    await swarm.until(all_answer, what="each node leads to each task")
    assert not accepts(swarm.nodes[0].address, PORT), "that is another port"


async def test_an_update_by_udp_loses_no_question(swarm: Swarm) -> None:
    """One client keeps its port, others take a new one each time: all are answered, before, during and after."""
    stop = threading.Event()

    def ask() -> tuple[int, list[str]]:
        asked, lost = 0, []
        with udp_socket() as kept:
            while not stop.is_set():
                for node in swarm.nodes:
                    with udp_socket() as fresh:
                        for kind, sock in (("kept", kept), ("fresh", fresh)):
                            asked += 1
                            try:
                                assert ask_by_udp(sock, node.address, f"{asked}").endswith(f" {asked}")
                            except TimeoutError:
                                lost.append(f"{kind} {asked} at {node.name}")
                time.sleep(0.002)
        return asked, lost

    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(asyncio.to_thread(ask))
        try:
            service = (await swarm.client.services.get("datagrams")).service
            await swarm.client.services.update(service, with_env(service.spec, "VERSION=v2"))
            await swarm.updated("datagrams")
            for replicas in (5, 2, 3):
                await swarm.client.services.scale("datagrams", replicas)
                await swarm.running("datagrams", replicas)
        finally:
            stop.set()
    asked, lost = asking.result()
    assert not lost, lost
    assert asked > 100
    await swarm.remove("datagrams")


async def test_a_udp_port_in_mode_host_is_the_tasks_own(swarm: Swarm) -> None:
    await swarm.create(echoes("own", SIZE, mode=PublishMode.HOST))
    await swarm.running("own", SIZE)

    async def each_answers() -> bool:
        slots = set()
        for node in swarm.nodes:
            with udp_socket() as sock, contextlib.suppress(TimeoutError):
                slots.add(await asyncio.to_thread(ask_by_udp, sock, node.address, "who"))
        return slots == {"1/v1 who", "2/v1 who"}

    # Without a health check a task is ready when it is started, which may be before it listens.
    await swarm.until(each_answers, what="each node's own task answers")
    await swarm.remove("own")


async def ask_slowly(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request that is answered after a second; return once the server works on it."""
    reader, writer = await asyncio.open_connection(address, PORT)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
    await reader.readuntil(b"ok\n")
    writer.write(b"GET /slow?ms=1000 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
    await asyncio.sleep(0)
    return reader, writer


async def test_a_port_is_served_where_its_address_is(swarm: Swarm) -> None:
    """Both nodes of this machine have every loopback address: one of them serves it, and leads to all tasks."""
    address = "127.0.77.1"
    port = PortSpec(target=TARGET, published=PORT, address=address)
    await swarm.create(published("chosen", SIZE, port))
    await swarm.running("chosen", SIZE)

    async def both() -> bool:
        return accepts(address, PORT) and {(await who_answers(address, PORT))["slot"] for _ in range(4)} == {"1", "2"}

    await swarm.until(both, what="both tasks answer on the chosen address")
    assert not any(accepts(node.address, PORT) for node in swarm.nodes)
    with pytest.raises(SwarmError, match=f"port {PORT}/tcp is already published by service chosen") as caught:
        await swarm.create(published("other", 1, on_host()))
    assert caught.value.code is Code.ALREADY_EXISTS
    await swarm.remove("chosen")


async def test_a_task_binds_the_address_that_its_port_is_on(swarm: Swarm) -> None:
    address = "127.0.77.2"
    await swarm.create(published("bound", 1, on_host(address=address)))
    [task] = await swarm.running("bound", 1)
    assert task.host_ports == (HostPort(target=TARGET, port=PORT, address=address),)
    assert (await who_answers(address, PORT))["slot"] == "1"
    await swarm.remove("bound")


async def test_one_target_is_published_on_a_range(swarm: Swarm) -> None:
    ports = tuple(PortSpec(target=TARGET, published=number) for number in range(PORT, PORT + 3))
    await swarm.create(published("range", 1, *ports))
    await swarm.running("range", 1)
    for node in swarm.nodes:
        for port in ports:
            assert (await who_answers(node.address, port.published))["slot"] == "1"
    await swarm.remove("range")
