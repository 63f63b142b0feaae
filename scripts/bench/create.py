"""From `service create` to all tasks RUNNING: plain processes over three nodes.

python -m scripts.bench create [--rounds 5] [--replicas 1,100,500]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Final

from scripts.bench.cluster import Followed, gone, process_spec
from scripts.bench.report import cell, median, report, table
from scripts.cluster import Cluster
from swarmpy.client import Client

TARGET_S: Final = {1: 0.15, 100: 1.5, 500: 8.0}
DOCKER_S: Final = {1: 0.44, 10: 0.76, 100: 11.05}
"""Docker Swarm 20.10.24 on 2 cores: containers on the default bridge; 10 on the host's network."""
NODES: Final = 3


async def create_once(client: Client, replicas: int) -> float:
    """Return the seconds from the call to the last task being RUNNING; the service is removed again."""
    began_s = time.perf_counter()
    service = (await client.services.create(process_spec(f"bench-{replicas}", replicas=replicas))).service
    async with Followed(client, service) as tasks:
        await tasks.until(lambda t: len(t.running()) == replicas)
    took_s = time.perf_counter() - began_s
    await client.services.remove(service.id)
    await gone(client, service.id)
    return took_s


async def measure(sizes: list[int], rounds: int) -> None:
    async with Cluster(workers=NODES - 1) as cluster:
        client = cluster.client
        await create_once(client, NODES)  # the first service pays for what is loaded late
        times = {size: [await create_once(client, size) for _ in range(rounds)] for size in sizes}
    table(
        ["replicas", "median s", "rounds", "target s", "Docker Swarm s (constant)"],
        [(n, median(t), " ".join(map(cell, t)), TARGET_S.get(n), DOCKER_S.get(n)) for n, t in times.items()],
    )
    for size, taken in times.items():
        report(f"create_{size}", median(taken), DOCKER_S.get(size), "s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", default="1,100,500")
    given = parser.parse_args()
    asyncio.run(measure([int(n) for n in given.replicas.split(",")], given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
