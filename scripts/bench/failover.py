"""How long nobody can write when the manager that leads goes: killed, cut off, or in good order; settings are defaults.

    python -m scripts.bench failover [--rounds 20] [--peer-rounds 5]

Three managers. A client makes small configs, one after the other, through a manager that stays. A round's time is from
the loss to the answer to the first write that began after it; for a hand-over (the leader is demoted) it is the longest
that any write took meanwhile. Cutting off takes root; so do Docker's managers, which run in turn if they are installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from typing import Final

from scripts.bench import dockers
from scripts.bench.dockers import Daemon, DockerError, Dockers
from scripts.bench.managers import DATA, Create, creating, percentile, set_role, whole, writing
from scripts.bench.report import Row, cell, median, report, table
from scripts.cluster import Cluster
from scripts.cluster.network import Namespaces, can_make_namespaces
from scripts.cluster.node import Node
from swarmpy.model.states import NodeRole

MANAGERS: Final = 3
DOCKER_KILL_S: Final = 12.5
TARGETS_S: Final = {"killed": (0.6, 2.0), "cut off": (None, 2.5), "handed over": (None, 0.2)}


async def staying(cluster: Cluster, number: int) -> tuple[Node, Node]:
    """Return the leader, once all managers are there, and another manager: each in its turn."""
    await whole(cluster, cluster.client)
    leader = await cluster.leader()
    others = [node for node in cluster.managers if node is not leader]
    return leader, others[number % len(others)]


async def kill_once(cluster: Cluster, number: int) -> float:
    """Kill the leader's process; its supervisor starts it again."""
    leader, other = await staying(cluster, number)
    async with writing(creating(other.client)) as writer:
        began_s = time.perf_counter()
        os.kill(leader.manager_pid(), signal.SIGKILL)
        return await writer.gap_since(began_s)


async def cut_once(cluster: Cluster, network: Namespaces, number: int) -> float:
    """Lose every packet from and to the leader's host."""
    leader, other = await staying(cluster, number)
    async with writing(creating(other.client)) as writer:
        network.isolate(cluster.nodes.index(leader) + 1)
        gap_s = await writer.gap_since(time.perf_counter())
    network.restore_all()
    return gap_s


async def hand_over_once(cluster: Cluster, number: int) -> float:
    """Demote the leader, and promote it again."""
    leader, other = await staying(cluster, number)
    async with writing(creating(other.client)) as writer:
        began_s = time.perf_counter()
        await set_role(other.client, leader, NodeRole.WORKER)
        await writer.write_more(20)
        longest_s = writer.longest_since(began_s)
    await set_role(other.client, leader, NodeRole.MANAGER)
    return longest_s


async def ours(rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {}
    async with Cluster(managers=MANAGERS) as cluster:
        times["killed"] = [await kill_once(cluster, number) for number in range(rounds)]
        times["handed over"] = [await hand_over_once(cluster, number) for number in range(rounds // 2)]
    if can_make_namespaces():
        network = Namespaces()
        async with Cluster(managers=MANAGERS, network=network) as cluster:
            times["cut off"] = [await cut_once(cluster, network, number) for number in range(rounds // 2)]
    return times


def creating_at(daemon: Daemon) -> Create:
    """Return what makes a small config through a dockerd, again and again until it is done."""

    async def create(name: str) -> None:
        while True:
            try:
                return await daemon.api.create_config(name, DATA, timeout_s=2.0)
            except DockerError as error:
                if "already exists" in str(error):
                    return None
                await asyncio.sleep(0.02)

    return create


async def docker_kills(rounds: int) -> list[float]:
    """The same with Docker's managers: dockerd is killed."""
    times = []
    async with Dockers(MANAGERS) as swarm:
        for number in range(rounds):
            leader = await swarm.leader()
            others = [daemon for daemon in swarm.daemons if daemon is not leader]
            async with writing(creating_at(others[number % len(others)])) as writer:
                began_s = time.perf_counter()
                leader.kill()
                times.append(await writer.gap_since(began_s))
            leader.start()
    return times


def measure(rounds: int, peer_rounds: int) -> None:
    times = asyncio.run(ours(rounds))
    reason = dockers.why_not()
    peer = asyncio.run(docker_kills(peer_rounds)) if reason is None else [DOCKER_KILL_S]
    rows: list[Row] = [
        (f"leader {what}", len(taken), median(taken), percentile(taken, 99), *TARGETS_S[what])
        for what, taken in times.items()
    ]
    rows.append(("Docker Swarm, leader killed", len(peer), median(peer), percentile(peer, 99), None, None))
    table(["what", "rounds", "p50 s", "p99 s", "target p50", "target p99"], rows)
    print("; ".join(f"{what}: {' '.join(map(cell, taken))}" for what, taken in times.items()))
    for what, taken in times.items():
        peer_s = median(peer) if what == "killed" else None
        more = dockers.source(reason) if what == "killed" else {}
        report(f"failover_{what.replace(' ', '_')}", median(taken), peer_s, "s", p99=percentile(taken, 99), **more)
    if "cut off" not in times:
        print("cutting off was left out: it takes root, ip(8) and nsenter")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--peer-rounds", type=int, default=5)
    given = parser.parse_args()
    measure(given.rounds, given.peer_rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
