"""A rolling update of 10 replicas, stop-first, one at a time, no delay: how long, and what a client notices.

    python -m scripts.bench update [--rounds 5] [--clients 16]

The load is closed-loop over the published port of all nodes: each client sends its next request when it has the
answer. Once with a connection a request (the port is TCP), once with kept connections (the port is HTTP).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Final

import msgspec

from scripts.bench.cluster import Followed, gone, process_spec
from scripts.bench.load import Load
from scripts.bench.report import Row, cell, median, report, table
from scripts.cluster import ROOT, Cluster
from swarmpy.client import Client
from swarmpy.model.endpoints import AppProtocol
from swarmpy.model.service import Service
from swarmpy.model.spec import ContainerSpec, EndpointSpec, Healthcheck, PortSpec, ServiceMode, ServiceSpec, TaskSpec
from swarmpy.model.states import Runtime

TARGET_S: Final = 3.0
DOCKER_S: Final = 16.3
DOCKER_FAILED: Final = 752
DOCKER_REQUESTS: Final = 79_575
NODES: Final = 3
REPLICAS: Final = 10
PORT: Final = 18080


def changed(spec: ServiceSpec, number: int) -> ServiceSpec:
    """Return the spec with another template, so that all tasks are replaced."""
    container = msgspec.structs.replace(spec.task.container, env=(f"VERSION={number}",))
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, container=container))


def web_spec(name: str, protocol: AppProtocol) -> ServiceSpec:
    """Return the HTTP server of examples/, published."""
    server = ContainerSpec(
        command=(sys.executable, str(ROOT / "examples" / "whoami.py")),
        readiness=Healthcheck(test=("HTTP", ":8000/healthz"), interval_s=1.0, start_interval_s=0.1, start_period_s=5.0),
    )
    port = PortSpec(target=8000, published=PORT, app_protocol=protocol)
    return ServiceSpec(
        name=name,
        task=TaskSpec(runtime=Runtime.PROCESS, container=server),
        mode=ServiceMode(replicas=REPLICAS),
        endpoint=EndpointSpec(ports=(port,)),
    )


async def update_once(client: Client, service: Service, number: int) -> float:
    """Roll an update out; return the seconds until all new tasks are RUNNING."""
    async with Followed(client, service) as followed:
        began_s = time.perf_counter()
        updated = (await client.services.modify(service.id, lambda spec: changed(spec, number))).service
        await followed.until(lambda f: len(f.running(updated.spec_version)) == REPLICAS)
        return time.perf_counter() - began_s


async def completed(client: Client, service: Service, number: int) -> float:
    """Roll an update out; return the seconds until all new tasks are ready and no old one is left running."""
    async with Followed(client, service) as followed:
        began_s = time.perf_counter()
        version = (await client.services.modify(service.id, lambda spec: changed(spec, number))).service.spec_version

        def over(f: Followed) -> bool:
            live = [t for t in f.tasks.values() if not t.state.is_stopped]
            return len(live) == REPLICAS and all(t.spec_version == version and t.is_endpoint for t in live)

        await followed.until(over)
        return time.perf_counter() - began_s


async def without_load(client: Client, rounds: int) -> list[float]:
    service = (await client.services.create(process_spec("updated", replicas=REPLICAS))).service
    async with Followed(client, service) as followed:
        await followed.until(lambda f: len(f.running()) == REPLICAS)
    times = [await update_once(client, service, number) for number in range(1, rounds + 1)]
    await client.services.remove(service.id)
    await gone(client, service.id)
    return times


async def under_load(
    cluster: Cluster, client: Client, protocol: AppProtocol, rounds: int, clients: int
) -> tuple[list[float], Load]:
    """Roll updates out one after another while requests come; return their seconds, and what became of the requests."""
    service = (await client.services.create(web_spec(f"web-{protocol.name.lower()}", protocol))).service
    async with Followed(client, service) as followed:
        await followed.until(lambda f: sum(t.is_endpoint for t in f.tasks.values()) == REPLICAS)
    load = Load([(node.address, PORT) for node in cluster.nodes], keep=protocol is AppProtocol.HTTP)
    async with load.running(clients):
        await load.answered(clients * 10)
        times = [await completed(client, service, number) for number in range(1, rounds + 1)]
        await load.answered(clients * 10)
    await client.services.remove(service.id)
    await gone(client, service.id)
    return times, load


async def measure(rounds: int, clients: int) -> None:
    async with Cluster(workers=NODES - 1) as cluster:
        client = cluster.client
        times = await without_load(client, rounds)
        loads = {p: await under_load(cluster, client, p, rounds, clients) for p in (AppProtocol.TCP, AppProtocol.HTTP)}
    rows: list[Row] = [("no connections", median(times), " ".join(map(cell, times)), None, None)]
    for protocol, (taken, load) in loads.items():
        what = "a connection a request" if protocol is AppProtocol.TCP else "kept connections, port is HTTP"
        rows.append((what, median(taken), " ".join(map(cell, taken)), load.requests, load.failed))
    rows.append(("Docker Swarm (constant)", DOCKER_S, "", DOCKER_REQUESTS, DOCKER_FAILED))
    table(["update of 10, stop-first, 1 at a time", "median s", "rounds", "requests", "failed"], rows)
    for _, load in loads.values():
        for kind, count in load.failures.most_common(5):
            print(f"  failed: {count} x {kind}")
    print(f"target: {TARGET_S:g} s with no connections, 0 failed")
    report("update_10", median(times), DOCKER_S, "s")
    for protocol, (taken, load) in loads.items():
        name = f"update_failed_{protocol.name.lower()}"
        report(name, load.failed, DOCKER_FAILED, "requests", of=load.requests, update_s=round(median(taken), 3))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, default=16)
    given = parser.parse_args()
    asyncio.run(measure(given.rounds, given.clients))
    return 0


if __name__ == "__main__":
    sys.exit(main())
