"""Ports that the kernel balances over real hosts: tasks on other machines, and containers."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from swarmpy.model.endpoints import PublishMode
from swarmpy.model.spec import EndpointSpec, PortSpec, UpdateConfig
from swarmpy.model.states import UpdateOrder
from tests.support.container_node import lacking
from tests.support.load import Load
from tests.support.overlay_swarm import SERVE, OverlaySwarm, service
from tests.support.swarm import whoami, with_env
from worker.engine import node_key
from worker.network.nft import dump
from worker.network.nft.ingress import PORTS, PREFIX
from worker.network.nft.sock import NetfilterSocket

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("publish_driver_hosts"),
]

PORT, WEB_PORT, HOST_PORT = 8390, 8391, 8392
REPLICAS = 4
ASK = """
import socket, sys
for address, port in (place.split(":") for place in sys.argv[1:]):
    with socket.create_connection((address, int(port)), timeout=5) as sock:
        sock.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(b"".join(iter(lambda: sock.recv(65536), b"")).partition(b"\\r\\n\\r\\n")[2].decode().strip())
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[OverlaySwarm]:
    async with OverlaySwarm(3, options=("--publish-driver", "nftables")) as swarm:
        yield swarm


def ports_of(swarm: OverlaySwarm) -> list[int]:
    """Return how many ports the kernel of each host leads."""

    def count(place: int) -> int:
        node = swarm.nodes[place]
        with swarm.on_host(node, NetfilterSocket.open) as sock:
            table = PREFIX + node_key(node.state_dir)
            return len(dump.elements(sock, table, PORTS)) if table in {r.name for r in dump.tables(sock)} else 0

    return [count(place) for place in range(len(swarm.nodes))]


async def led(swarm: OverlaySwarm, count: int) -> None:
    async def all_led() -> bool:
        return ports_of(swarm) == [count] * len(swarm.nodes)

    await swarm.until(all_led, what="the kernel of each host leads the ports")


async def test_updates_scaling_and_restarts_fail_no_request(swarm: OverlaySwarm) -> None:
    await swarm.create(whoami("plain", PORT, replicas=REPLICAS))
    await swarm.running("plain", REPLICAS)
    await led(swarm, 1)
    targets = [f"{node.address}:{PORT}" for node in swarm.nodes]
    with Load("new", targets, enter=swarm.nodes[0].place.enter) as load:
        for order in UpdateOrder:
            spec = (await swarm.client.services.get("plain")).service
            changed = with_env(spec.spec, f"VERSION={order.name}")
            update = UpdateConfig(parallelism=2, monitor_s=0.2, order=order)
            await swarm.client.services.update(spec, msgspec.structs.replace(changed, update=update))
            await swarm.updated("plain")
        for replicas in (6, 1, REPLICAS):
            await swarm.client.services.scale("plain", replicas)
            await swarm.running("plain", replicas)
    assert not load.outcome.failed, load.outcome.failures
    assert load.outcome.requests > 100
    assert {who.split("/")[0] for who in load.outcome.answers} >= {str(n + 1) for n in range(REPLICAS)}
    await swarm.remove("plain")


async def test_containers_are_led_to_at_their_own_addresses(swarm: OverlaySwarm) -> None:
    port = PortSpec(target=80, published=WEB_PORT)
    spec = service("web", command=SERVE, replicas=3)
    await swarm.create(msgspec.structs.replace(spec, endpoint=EndpointSpec(ports=(port,))))
    tasks = await swarm.running("web", 3)
    await led(swarm, 1)
    for node in swarm.nodes:
        answers = asked(swarm, node.address, WEB_PORT, 6)
        assert len(answers) == 6
        assert len(set(answers)) == 3, answers
    # From inside a container, its own node's port leads to all three, itself among them.
    inside = [swarm.get(tasks[0], swarm.node_of(tasks[0], await swarm.client.nodes.list()).address, port=WEB_PORT)]
    assert inside[0]
    await swarm.remove("web")
    await led(swarm, 0)


async def test_containers_in_mode_host_answer_on_their_nodes(swarm: OverlaySwarm) -> None:
    port = PortSpec(target=80, published=HOST_PORT, mode=PublishMode.HOST)
    spec = service("own", command=SERVE, replicas=3)
    await swarm.create(msgspec.structs.replace(spec, endpoint=EndpointSpec(ports=(port,))))
    await swarm.running("own", 3)
    answers = [asked(swarm, node.address, HOST_PORT, 1)[0] for node in swarm.nodes]
    assert len(set(answers)) == 3
    await swarm.remove("own")


SLOW = (
    "sh",
    "-c",
    "mkdir -p /w/cgi-bin; printf '#!/bin/sh\\nsleep 2\\necho; echo slow\\n' > /w/cgi-bin/s; chmod +x /w/cgi-bin/s;"
    " trap 'exit 0' TERM; httpd -f -p 80 -h /w & wait",
)


async def test_what_was_asked_in_mode_host_is_answered_before_the_container_ends(swarm: OverlaySwarm) -> None:
    """The program ends at once when it is told to, so it is told only when nobody is connected any more."""
    port = PortSpec(target=80, published=HOST_PORT, mode=PublishMode.HOST)
    spec = service("slow", command=SLOW, replicas=3)
    await swarm.create(msgspec.structs.replace(spec, endpoint=EndpointSpec(ports=(port,))))
    await swarm.running("slow", 3)
    places = [f"{node.address}:{HOST_PORT}/cgi-bin/s" for node in swarm.nodes]
    command = [*swarm.nodes[0].place.enter, "busybox", "wget", "-q", "-O", "-"]
    asking = [await asyncio.create_subprocess_exec(*command, place, stdout=subprocess.PIPE) for place in places]

    async def all_are_asked() -> bool:
        found = []
        for task in await swarm.live("slow"):
            inside = ["nsenter", f"--net={swarm.pin(task)}", "ss", "-Htn", "state", "established"]
            found.append((await asyncio.to_thread(subprocess.run, inside, capture_output=True, check=True)).stdout)
        return len(found) == 3 and all(found)

    await swarm.until(all_are_asked, what="each of them is being asked")
    await swarm.remove("slow")
    answers = [(await process.communicate())[0] for process in asking]
    assert answers == [b"slow\n"] * 3


def asked(swarm: OverlaySwarm, address: str, port: int, times: int) -> list[str]:
    """Return what is answered to a program on the first host."""

    command = [*swarm.nodes[0].place.enter, sys.executable, "-c", ASK, *[f"{address}:{port}"] * times]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert not run.returncode, run.stderr
    return run.stdout.splitlines()
