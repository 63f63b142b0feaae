"""Small configs created a second with three managers on this machine, each write durable on two of them.

    python -m scripts.bench config_create [--rounds 5] [--seconds 3] [--clients 1,8,64]

Each client has a connection of its own to the leader and makes one config after the other, as `swarmpy.client` does it.
Docker's managers do the same in turn, a connection for each client too, if they are installed and this is root.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from scripts.bench import dockers
from scripts.bench.dockers import Api, Dockers
from scripts.bench.managers import DATA, Create, creating, new_name, percentile, whole
from scripts.bench.report import Row, median, report, table
from scripts.cluster import Cluster

MANAGERS: Final = 3
WARM_UP_S: Final = 1.0
TARGETS: Final = {1: "p50 <= 3 ms", 8: ">= 900/s", 64: ">= 1500/s"}
DOCKER_PER_S: Final = {1: 356.0, 8: 573.0}
DOCKER_P50_MS: Final = {1: 2.7, 8: 13.5}
HERTZ: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Round:
    """One round: configs a second, latencies, and processor time for each config, of all managers and of clients."""

    per_s: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    client_cpu_ms: float


async def load(creates: Sequence[Create], seconds: float, cpu_s: Callable[[], float]) -> Round:
    """Let each client create configs for a while."""
    took_s: list[float] = []
    end_s = time.perf_counter() + seconds

    async def work(create: Create) -> None:
        while (began_s := time.perf_counter()) < end_s:
            await create(new_name())
            took_s.append(time.perf_counter() - began_s)

    before_s, own_s, began_s = cpu_s(), time.process_time(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for create in creates:
            group.create_task(work(create))
    count, elapsed_s = len(took_s), time.perf_counter() - began_s
    return Round(
        count / elapsed_s,
        median(took_s) * 1000,
        percentile(took_s, 99) * 1000,
        (cpu_s() - before_s) / count * 1000,
        (time.process_time() - own_s) / count * 1000,
    )


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the processor time that processes have used."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(f[11]) + int(f[12]) for f in stats) / HERTZ


async def rounds_of(
    clients: Sequence[int], rounds: int, seconds: float, creates: Sequence[Create], cpu_s: Callable[[], float]
) -> dict[int, list[Round]]:
    await load(creates[: min(clients)], WARM_UP_S, cpu_s)
    found: dict[int, list[Round]] = {count: [] for count in clients}
    for _ in range(rounds):
        for count in clients:
            found[count].append(await load(creates[:count], seconds, cpu_s))
    return found


async def ours(clients: Sequence[int], rounds: int, seconds: float) -> dict[int, list[Round]]:
    async with Cluster(managers=MANAGERS) as cluster, contextlib.AsyncExitStack() as stack:
        await whole(cluster, cluster.client)
        leader = await cluster.leader()
        connected = [await stack.enter_async_context(leader.connect()) for _ in range(max(clients))]
        pids = [node.manager_pid() for node in cluster.managers]
        creates = [creating(client) for client in connected]
        return await rounds_of(clients, rounds, seconds, creates, lambda: cpu_seconds(pids))


async def docker(clients: Sequence[int], rounds: int, seconds: float) -> dict[int, list[Round]]:
    async with Dockers(MANAGERS) as swarm:
        leader = await swarm.leader()
        apis = [Api(leader.socket) for _ in range(max(clients))]
        pids = [daemon.pid for daemon in swarm.daemons]
        try:
            return await rounds_of(clients, rounds, seconds, [_at(api) for api in apis], lambda: cpu_seconds(pids))
        finally:
            for api in apis:
                api.close()


def _at(api: Api) -> Create:
    return lambda name: api.create_config(name, DATA)


def medians(taken: Sequence[Round]) -> tuple[float, ...]:
    return tuple(median([getattr(one, field.name) for one in taken]) for field in fields(Round))


def measure(clients: Sequence[int], rounds: int, seconds: float) -> None:
    found = {"swarmpy": asyncio.run(ours(clients, rounds, seconds))}
    reason = dockers.why_not()
    if reason is None:
        found["Docker Swarm"] = asyncio.run(docker(clients, rounds, seconds))
    rows: list[Row] = [
        (who, count, *medians(by_clients[count]), TARGETS.get(count))
        for count in clients
        for who, by_clients in found.items()
    ]
    if reason is not None:
        rows += [
            ("Docker Swarm (stored)", n, per_s, DOCKER_P50_MS[n], None, None, None, None)
            for n, per_s in DOCKER_PER_S.items()
        ]
    table(["what", "clients", "per s", "p50 ms", "p99 ms", "managers' cpu ms", "client's cpu ms", "target"], rows)
    for count in clients:
        per_s = median([one.per_s for one in found["swarmpy"][count]])
        p50_ms = median([one.p50_ms for one in found["swarmpy"][count]])
        theirs = found.get("Docker Swarm", {}).get(count)
        peer = median([one.per_s for one in theirs]) if theirs else DOCKER_PER_S.get(count)
        report(f"config_create_{count}", per_s, peer, "configs/s", p50_ms=round(p50_ms, 3), **dockers.source(reason))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", default="1,8,64")
    given = parser.parse_args()
    measure([int(n) for n in given.clients.split(",")], given.rounds, given.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
