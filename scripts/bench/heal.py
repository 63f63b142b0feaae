"""How fast the cluster mends itself: a task is killed, and a whole worker node vanishes. All settings are defaults.

python -m scripts.bench heal [--rounds 5] [--replicas 10]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from typing import Final

from scripts.bench.cluster import Followed, gone, process_spec
from scripts.bench.report import cell, median, report, table
from scripts.cluster import Cluster, until
from swarmpy.client import Client
from swarmpy.model.states import NodeState

KILL_TARGET_S: Final = 0.3
VANISH_TARGET_S: Final = 8.0
DOCKER_KILL_S: Final = 5.44
DOCKER_VANISH_S: Final = 16.7
NODES: Final = 3


async def kill_tasks(client: Client, replicas: int, rounds: int) -> list[float]:
    """Kill the process of another slot each round; return the seconds to its replacement RUNNING."""
    service = (await client.services.create(process_spec("killed", replicas=replicas))).service
    times = []
    async with Followed(client, service) as followed:
        await followed.until(lambda f: len(f.running()) == replicas)
        for slot in range(1, rounds + 1):
            victim = next(task for task in followed.running() if task.slot == slot)
            began_s = time.perf_counter()
            os.kill(victim.pid, signal.SIGKILL)
            await followed.until(
                lambda f, v=victim: any(t.slot == v.slot and t.id != v.id for t in f.running())  # type: ignore[misc]  # a lambda's default has no type
            )
            times.append(time.perf_counter() - began_s)
    await client.services.remove(service.id)
    await gone(client, service.id)
    return times


async def vanish_once(cluster: Cluster, client: Client, number: int, replicas: int) -> float:
    """Kill everything of a worker node; return the seconds until all its tasks run elsewhere. The node comes back."""
    node = cluster.nodes[1 + number % (NODES - 1)]
    node_id = next(n.id for n in await client.nodes.list() if n.description.hostname == node.name)
    service = (await client.services.create(process_spec(f"vanish{number}", replicas=replicas))).service
    async with Followed(client, service) as followed:
        await followed.until(lambda f: len(f.running()) == replicas)
        began_s = time.perf_counter()
        node.vanish()
        await followed.until(lambda f: sum(t.node_id != node_id for t in f.running()) == replicas)
        took_s = time.perf_counter() - began_s
    await client.services.remove(service.id)
    node.start()

    async def back() -> bool:
        return (await client.nodes.get(node_id)).state is NodeState.READY

    await until(back, what=f"{node.name} is READY again")
    await gone(client, service.id)
    return took_s


async def measure(rounds: int, replicas: int) -> None:
    async with Cluster(workers=NODES - 1) as cluster:
        client = cluster.client
        killed = await kill_tasks(client, max(replicas, rounds), rounds)
        vanished = [await vanish_once(cluster, client, number, replicas) for number in range(rounds)]
    rows = [
        ("kill -9 of a task to its replacement RUNNING", killed, KILL_TARGET_S, DOCKER_KILL_S),
        ("a worker node vanishes to all its tasks RUNNING elsewhere", vanished, VANISH_TARGET_S, DOCKER_VANISH_S),
    ]
    table(
        ["what", "median s", "rounds", "target s", "Docker Swarm s (constant)"],
        [(what, median(taken), " ".join(map(cell, taken)), target, peer) for what, taken, target, peer in rows],
    )
    report("heal_task", median(killed), DOCKER_KILL_S, "s")
    report("heal_node", median(vanished), DOCKER_VANISH_S, "s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--replicas", type=int, default=10)
    given = parser.parse_args()
    asyncio.run(measure(given.rounds, given.replicas))
    return 0


if __name__ == "__main__":
    sys.exit(main())
