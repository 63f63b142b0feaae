"""A cluster whose nodes are hosts of their own: namespaces on one wire, each with a containerd."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import dnslib

from scripts.cluster import STOP_TASKS, Namespaces, Node
from swarmpy.clock import SystemClock
from swarmpy.model.network import NetworkAddress, NetworkSpec
from swarmpy.model.spec import ContainerSpec, NetworkAttachment, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig
from swarmpy.model.states import Runtime
from swarmpy.model.task import Task
from tests.support.images import busybox_image, write_layout_tar
from tests.support.link_hosts import connect
from tests.support.swarm import Swarm
from worker.containerd.client import Containerd
from worker.containerd.runtime import namespace_of, read_runtime
from worker.dataplane.protocol import TASK_NAME_SERVER
from worker.executor.container.assembly import NodeImages
from worker.image.importing import Importer
from worker.network.link import names
from worker.network.link.namespace import open_in

IMAGE: Final = "web:1"
SERVE: Final = (
    "sh",
    "-c",
    "mkdir -p /w; echo $HOSTNAME > /w/index.html; trap 'exit 0' TERM; httpd -f -p 80 -h /w & wait",
)
SLEEP: Final = ("sh", "-c", "trap 'exit 0' TERM; sleep 3600 & wait")
_COMMAND_S: Final = 20.0
T = TypeVar("T")


class OverlaySwarm(Swarm):
    """Every node is root on a host of its own and has the image `IMAGE`, busybox. Leaving fails if anything is left."""

    def __init__(self, size: int, *, options: Sequence[str] = ()) -> None:
        super().__init__(size, options=(*STOP_TASKS, "--containerd", "", *options), network=Namespaces())

    @property
    def hosts(self) -> Namespaces:
        assert isinstance(self.network, Namespaces), "it was made with them"
        return self.network

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        archive = self.root / "image.tar"
        write_layout_tar(archive, {IMAGE: busybox_image()})
        for node in self.nodes:
            await load(node, archive)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.close()
            await asyncio.to_thread(self.stop)
            left = [line for node in self.nodes for line in traces(node)]
            if left and error is None:
                raise RuntimeError("these were left behind:\n" + "\n".join(left))
        finally:
            await asyncio.to_thread(self.discard)

    async def network_of(self, name: str, **spec: object) -> str:
        """Create a network and return its id."""
        return (await self.client.networks.create(NetworkSpec(name=name, **spec))).id  # type: ignore[arg-type]  # by the caller

    def run_in(self, task: Task, *words: str, timeout_s: float = _COMMAND_S) -> subprocess.CompletedProcess[str]:
        """Run a program of busybox inside a task: its files, its network."""
        command = ["nsenter", "--target", str(task.status.pid), "--mount", "--net", "--root", "--wd", "busybox", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    def pin(self, task: Task) -> Path:
        """Return where a task's network namespace is pinned."""
        return next(path for node in self.nodes if (path := node.state_dir / "run" / "netns" / task.id).exists())

    def get(self, task: Task, address: str, *, port: int = 80, timeout_s: float = 5.0) -> str:
        """Return what an HTTP server answers to a task; empty if it does not."""
        try:
            with connect(self.pin(task), address, port, timeout_s=timeout_s) as sock:
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        except OSError:
            return ""
        return answer.partition(b"\r\n\r\n")[2].decode().strip()

    def ask(self, task: Task, name: str, kind: str = "A", *, timeout_s: float = _COMMAND_S) -> tuple[int, set[str]]:
        """Ask the name server in a task's namespace; return the answer's code and the addresses in it."""
        question = dnslib.DNSRecord.question(name, kind)

        def make() -> socket.socket:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

        with open_in(self.pin(task), make) as sock:
            sock.settimeout(timeout_s)
            sock.sendto(question.pack(), (TASK_NAME_SERVER, 53))
            answer = dnslib.DNSRecord.parse(sock.recv(4096))
        return answer.header.rcode, {str(row.rdata) for row in answer.rr}

    def on_host(self, node: Node, make: Callable[[], T]) -> T:
        """Do something as a program on a node's host."""
        return open_in(Path(node.place.enter[1].removeprefix("--net=")), make)

    async def as_before(self, before: list[dict[str, int]]) -> bool:
        """Whether the hosts have as many links, pins, mounts and records as before."""
        return [counts(node) for node in self.nodes] == before

    async def vip(self, service: str, network_id: str) -> str:
        """Return a service's address on a network."""
        vips = (await self.client.services.get(service)).service.endpoint.vips
        return next(vip.address for vip in vips if vip.network_id == network_id)


def service(
    name: str,
    *networks: str,
    command: Sequence[str] = SLEEP,
    replicas: int = 1,
    update: UpdateConfig | None = None,
    aliases: tuple[str, ...] = (),
    **container: object,
) -> ServiceSpec:
    """Return a service of containers on networks."""
    joined = tuple(NetworkAttachment(target=network, aliases=aliases) for network in networks)
    spec = ContainerSpec(image=IMAGE, command=tuple(command), **container)  # type: ignore[arg-type]  # by the caller
    task = TaskSpec(runtime=Runtime.CONTAINER, container=spec, networks=joined)
    return ServiceSpec(
        name=name, task=task, mode=ServiceMode(replicas=replicas), update=update or UpdateConfig(monitor_s=0.1)
    )


def address(task: Task, network_id: str) -> str:
    """Return a task's address on a network."""
    given: tuple[NetworkAddress, ...] = task.networks
    return next(one.address for one in given if one.network_id == network_id)


async def load(node: Node, archive: Path) -> None:
    """Import an archive of images into a node's containerd."""
    await node.ready()
    runtime = read_runtime(node.state_dir)
    assert runtime.socket is not None, runtime.missing
    client = Containerd.connect(runtime.socket, namespace_of(node.state_dir))
    try:
        await client.wait_until_serving(_COMMAND_S)
        clock = SystemClock()
        images = NodeImages(client, node.state_dir, runtime.driver, clock=clock, rng=random.Random(1))
        opened = await images.open()
        importer = Importer(client, opened.snapshotter, opened.unpacker, clock, opened.platform)
        await importer.load(archive)
    finally:
        await client.close()


def counts(node: Node) -> dict[str, int]:
    """Return how much of a node's tasks is on its host: links, pins, mounts, records.

    The fabric, once it is made, is the node's.
    """
    links = _inside(node, "ip", "-o", "link")
    pins = [path for path in (node.state_dir / "run" / "netns").glob("*") if path.name != names.FABRIC]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(node.state_dir) in line]
    return {
        "links": sum("@" in line for line in links),
        "pins": len(pins),
        "mounts": sum(not line.split()[4].endswith(f"/{names.FABRIC}") for line in mounts),
        "records": len(list((node.state_dir / "run" / "wiring").glob("*"))),
    }


def traces(node: Node) -> list[str]:
    """Return a line for everything that a stopped node has left on its host."""
    links = [line for line in _inside(node, "ip", "-o", "link") if " sp" in line]
    tables = [line for line in _inside(node, "nft", "list", "tables") if "swarmpy" in line]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(node.state_dir) in line]
    return [f"{node.name}: {line}" for line in (*links, *tables, *mounts)]


def _inside(node: Node, *command: str) -> list[str]:
    run = subprocess.run([*node.place.enter, *command], capture_output=True, text=True, check=False)
    return run.stdout.splitlines()
