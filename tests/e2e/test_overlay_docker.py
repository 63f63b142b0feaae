"""Networks, the way out and published ports beside a Docker that drops what it has not forwarded itself."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import pytest

from scripts.bench.dockers import Daemon, why_not
from scripts.cluster import Node
from swarmpy.model.spec import EndpointSpec, PortSpec
from tests.support.container_node import lacking
from tests.support.overlay_swarm import SERVE, OverlaySwarm, address, service

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
    pytest.mark.skipif(why_not() is not None, reason=why_not() or "dockerd can be run"),
]

PUBLISHED: Final = 8080
WITH_RULES: Final = ("--iptables=true", "--ip6tables=false", "--storage-driver=vfs", "--bip=172.31.255.1/24")


async def test_docker_s_rules_are_no_obstacle_whoever_comes_first() -> None:
    async with OverlaySwarm(2) as swarm:
        first, second = swarm.nodes
        with docker(first, swarm.root / "d1") as daemon:
            await swarm.until(daemon.answers, what="dockerd answers")
            assert drops(first)
            network = await swarm.network_of("front")
            spec = service("web", network, command=SERVE, replicas=2)
            published = EndpointSpec(ports=(PortSpec(target=80, published=PUBLISHED),))
            await swarm.create(msgspec.structs.replace(spec, endpoint=published))
            tasks = await swarm.running("web", 2)
            vip = await swarm.vip("web", network)
            everyone = {task.id[:12] for task in tasks}
            assert len({task.node_id for task in tasks}) == 2

            def pass_everywhere() -> Callable[[], Awaitable[bool]]:
                async def ask() -> bool:
                    by_vip = [{swarm.get(task, vip) for _ in range(4)} for task in tasks]
                    direct = [swarm.get(task, address(other, network)) for task in tasks for other in tasks]
                    published = [
                        {fetch(asker, node) for _ in range(4)} for asker in swarm.nodes for node in swarm.nodes
                    ]
                    out = [swarm.run_in(task, "ping", "-c", "1", "-W", "1", second.address) for task in tasks]
                    found = (by_vip, set(direct), published, [run.returncode for run in out])
                    return found == ([everyone] * 2, everyone, [everyone] * 4, [0, 0])

                return ask

            await swarm.until(pass_everywhere(), what="all ways lead to the tasks")
            with docker(second, swarm.root / "d2") as later:
                await swarm.until(later.answers, what="the second dockerd answers")
                assert drops(second)
                await swarm.until(pass_everywhere(), what="all ways lead to the tasks beside a Docker that came later")


def drops(node: Node) -> bool:
    """Whether what nobody asked for is not forwarded."""
    return "-P FORWARD DROP" in on_host(node, "iptables", "-S", "FORWARD")


def on_host(node: Node, *command: str) -> str:
    """Return what a program on a node's host says."""
    return subprocess.run([*node.place.enter, *command], capture_output=True, text=True, check=True).stdout


def fetch(asker: Node, node: Node) -> str:
    """Return what a node's published port answers to a program on a host."""
    url = f"http://{node.address}:{PUBLISHED}/"
    command = [*asker.place.enter, "busybox", "wget", "-q", "-O", "-", url]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20).stdout.strip()


@contextmanager
def docker(node: Node, directory: Path) -> Iterator[Daemon]:
    """Run a Docker on a node's host, with the policy that it sets on a machine that forwards nothing yet."""
    on_host(node, "sysctl", "-q", "-w", "net.ipv4.ip_forward=0")
    daemon = Daemon(directory, node.place, WITH_RULES)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.api.close()
        daemon.stop()
