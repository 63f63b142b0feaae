"""Services of containers on one node, beside Docker Swarm: created, removed, updated one at a time; and their memory.

python -m scripts.bench containers [--rounds 5] [--replicas 1,10,100]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from scripts.bench.cluster import Followed, gone
from scripts.bench.dockers import SEARCHED, Daemon, Dockers, source, why_not
from scripts.bench.idle import memory_mb
from scripts.bench.report import cell, median, report, table
from scripts.cluster import Cluster, Node, until
from swarmpy.client import Client
from swarmpy.model.spec import ContainerSpec, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Runtime
from tests.support.images import busybox_entries, busybox_image, tar_bytes, write_layout_tar
from worker.containerd.runtime import namespace_of

IMAGE: Final = "docker.io/library/bench:1"
SCRIPT: Final = "trap 'exit 0' TERM; sleep 3600 & wait"
COMMAND: Final = ("/bin/sh", "-c", SCRIPT)
REMOVED: Final = 50
UPDATED: Final = 10
TARGETS: Final = {
    "create 1": 0.2,
    "create 10": 0.5,
    "create 100": 4.0,
    "MB with 100": 150.0,
    "remove 50": 1.5,
    "update 10": 4.0,
}
DOCKER_S: Final = {"create 1": 0.44, "create 10": 1.37, "create 100": 11.05, "remove 50": 4.8, "update 10": 16.3}
"""Docker Swarm 20.10.24 on 2 cores, where it is not measured in this run."""
WAIT_S: Final = 120.0


class Swarm(Protocol):
    """What is measured of each; every call returns when it is done."""

    async def create(self, name: str, replicas: int) -> None: ...
    async def update(self, name: str, number: int) -> None: ...
    async def remove(self, name: str) -> None: ...
    def resident_mb(self) -> float: ...


@dataclass
class Ours:
    client: Client
    node: Node

    async def create(self, name: str, replicas: int) -> None:
        container = ContainerSpec(image=IMAGE, command=COMMAND)
        task = TaskSpec(runtime=Runtime.CONTAINER, container=container)
        spec = ServiceSpec(name=name, task=task, mode=ServiceMode(replicas=replicas))
        service = (await self.client.services.create(spec)).service
        async with Followed(self.client, service) as tasks:
            await tasks.until(lambda t: len(t.running()) == replicas)

    async def update(self, name: str, number: int) -> None:
        service = (await self.client.services.get(name)).service
        container = msgspec.structs.replace(service.spec.task.container, env=(f"NUMBER={number}",))
        task = msgspec.structs.replace(service.spec.task, container=container)
        spec = msgspec.structs.replace(service.spec, task=task)
        async with Followed(self.client, service) as tasks:
            updated = (await self.client.services.update(service, spec)).service
            replicas = spec.mode.replicas
            await tasks.until(lambda t: len(t.running(updated.spec_version)) == replicas)

    async def remove(self, name: str) -> None:
        service = (await self.client.services.get(name)).service
        await self.client.services.remove(service.id)
        await gone(self.client, service.id)

    def resident_mb(self) -> float:
        """Return the size of the worker, which looks after the containers."""
        return memory_mb(self.node.pids()["worker"])[0]


@dataclass
class Docker:
    daemon: Daemon

    async def create(self, name: str, replicas: int) -> None:
        template = {"ContainerSpec": {"Image": IMAGE, "Command": list(COMMAND)}}
        body = {"Name": name, "TaskTemplate": template, "Mode": {"Replicated": {"Replicas": replicas}}}
        await self.daemon.api.call("POST", "/services/create", body)
        await self._until_running(name, replicas, "")

    async def update(self, name: str, number: int) -> None:
        row = await self.daemon.api.call("GET", f"/services/{name}")
        spec = row["Spec"]
        spec["TaskTemplate"]["ContainerSpec"]["Env"] = [f"NUMBER={number}"]
        await self.daemon.api.call("POST", f"/services/{name}/update?version={row['Version']['Index']}", spec)
        await self._until_running(name, spec["Mode"]["Replicated"]["Replicas"], f"NUMBER={number}")

    async def remove(self, name: str) -> None:
        await self.daemon.api.call("DELETE", f"/services/{name}")

        async def none_left() -> bool:
            return not await self.daemon.api.call("GET", "/containers/json")

        await until(none_left, what="Docker removes its containers", deadline_s=WAIT_S)

    def resident_mb(self) -> float:
        """Return the size of dockerd."""
        return memory_mb(self.daemon.pid)[0]

    async def _until_running(self, name: str, replicas: int, env: str) -> None:
        filters = f'{{"service":["{name}"],"desired-state":["running"]}}'

        def is_new(task: dict[str, Any]) -> bool:
            runs = task["Status"]["State"] == "running"
            return runs and (not env or env in task["Spec"]["ContainerSpec"].get("Env", []))

        async def all_run() -> bool:
            tasks = await self.daemon.api.call("GET", f"/tasks?filters={filters}")
            return sum(map(is_new, tasks)) == replicas

        await until(all_run, what="Docker runs all tasks", deadline_s=WAIT_S)


def resident(size: int) -> str:
    return f"MB with {size}"


async def take(swarm: Swarm, sizes: list[int], round_: int) -> dict[str, float]:
    """Return the seconds of one round of everything, and the MB of whoever looks after the most containers."""
    taken: dict[str, float] = {}

    async def timed(what: str, doing: Any) -> None:
        began_s = time.perf_counter()
        await doing
        taken[what] = time.perf_counter() - began_s

    for size in sizes:
        name = f"bench{size}"
        await timed(f"create {size}", swarm.create(name, size))
        if size == max(sizes):
            taken[resident(size)] = swarm.resident_mb()
        await swarm.remove(name)
    await swarm.create("removed", REMOVED)
    await timed(f"remove {REMOVED}", swarm.remove("removed"))
    await swarm.create("updated", UPDATED)
    await timed(f"update {UPDATED}", swarm.update("updated", round_))
    await swarm.remove("updated")
    return taken


async def measure_ours(sizes: list[int], rounds: int) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory() as directory:
        archive = Path(directory) / "image.tar"
        write_layout_tar(archive, {IMAGE: busybox_image()})
        async with Cluster() as cluster:
            state_dir = cluster.manager.state_dir
            socket, namespace = state_dir / "run/containerd.sock", namespace_of(state_dir)
            load = ["ctr", "-a", str(socket), "-n", namespace, "images", "import", str(archive)]
            await asyncio.to_thread(subprocess.run, load, check=True, capture_output=True)
            ours = Ours(cluster.client, cluster.manager)
            await take(ours, [1], 0)  # the first containers pay for what is loaded late
            return [await take(ours, sizes, number) for number in range(1, rounds + 1)]


async def measure_docker(sizes: list[int], rounds: int) -> list[dict[str, float]]:
    async with Dockers(1, options=()) as dockers:
        daemon = await dockers.leader()
        command = ["docker", "-H", f"unix://{daemon.socket}", "import", "-", IMAGE]
        rootfs = tar_bytes(busybox_entries())
        environ = {**os.environ, "PATH": SEARCHED}
        await asyncio.to_thread(subprocess.run, command, input=rootfs, check=True, capture_output=True, env=environ)
        docker = Docker(daemon)
        await take(docker, [1], 0)
        return [await take(docker, sizes, number) for number in range(1, rounds + 1)]


async def measure(sizes: list[int], rounds: int) -> None:
    ours = await measure_ours(sizes, rounds)
    reason = why_not()
    theirs = await measure_docker(sizes, rounds) if reason is None else []
    rows = []
    for what in ours[0]:
        taken = [row[what] for row in ours]
        peer = median([row[what] for row in theirs]) if theirs else DOCKER_S.get(what)
        rows.append((what, median(taken), " ".join(map(cell, taken)), TARGETS.get(what), peer))
    table(["containers, s", "median", "rounds", "target", "Docker Swarm"], rows)
    for what, figure, _, _, peer in rows:
        unit = "MB" if what.startswith("MB") else "s"
        report(f"containers_{what.replace(' ', '_')}", figure, peer, unit, **source(reason))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", default="1,10,100")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("containers take root: nothing was measured")
        return 0
    asyncio.run(measure([int(n) for n in given.replicas.split(",")], given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
