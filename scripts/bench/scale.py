"""A thousand workers and twenty thousand tasks: registering again after the manager was killed, and placing all tasks.

    python -m scripts.bench scale [--workers 1000] [--tasks 20000] [--rounds 5]

The workers are simulated in one other process (`scripts.bench.fleet`): certificates, mutual TLS, sessions and the task
runner are real, a task is an entry in a set, and there is no data plane. The manager is a real one, alone on its node.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from scripts.bench.cluster import gone, process_spec
from scripts.bench.report import Row, cell, median, report, table
from scripts.cluster import STOP_TASKS, Cluster, until
from swarmpy.client import Client
from swarmpy.errors import SwarmError
from swarmpy.model.spec import Placement, ServiceSpec
from swarmpy.model.states import NodeState

REGISTER_TARGET_S: Final = 10.0
TASKS_TARGET_S: Final = 20.0
LONG_S: Final = 600.0
CALL_S: Final = 60.0


class FleetProcess:
    """The other process, one command at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def tell(self, *words: object) -> float:
        """Give a command and wait for its end; return the seconds that it took.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None, "both are pipes"
        self._process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        async with asyncio.timeout(LONG_S):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process of the simulated workers ended: its own message is above")
        return float(json.loads(line)["took_s"])

    @property
    def pid(self) -> int:
        return self._process.pid


@contextlib.asynccontextmanager
async def simulated_workers() -> AsyncIterator[FleetProcess]:
    """Run the fleet's process; it ends when its input does."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "scripts.bench.fleet", stdin=pipe, stdout=pipe)
    try:
        yield FleetProcess(process)
    finally:
        assert process.stdin is not None, "it is a pipe"
        process.stdin.close()
        try:
            async with asyncio.timeout(CALL_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def spread_spec(name: str, tasks: int) -> ServiceSpec:
    """Return a service that stays off the manager's own node."""
    spec = process_spec(name, replicas=tasks)
    placement = Placement(constraints=("node.role==worker",))
    return msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, placement=placement))


async def register_again(cluster: Cluster, fleet: FleetProcess) -> tuple[float, float]:
    """Kill the manager; return the seconds until the next one answers, and until every worker has a session."""
    pid = cluster[0].manager_pid()
    began_s = time.perf_counter()
    os.kill(pid, signal.SIGKILL)

    async def answers() -> bool:
        # A new client each time: a channel that was refused waits before it tries again.
        async with cluster[0].connect(timeout_s=0.5) as fresh:
            try:
                return bool((await fresh.cluster.get()).cluster.id)
            except SwarmError:
                return False

    await until(answers, what="a manager answers")
    answers_s = time.perf_counter() - began_s
    await fleet.tell("connected")
    return answers_s, time.perf_counter() - began_s


async def all_running(client: Client, fleet: FleetProcess, tasks: int, number: int) -> tuple[float, float]:
    """Return the seconds from `create` to all tasks RUNNING in the store, and from `remove` to the last one's end."""
    began_s = time.perf_counter()
    service = (await client.services.create(spread_spec(f"many{number}", tasks), timeout_s=CALL_S)).service
    await fleet.tell("started", tasks)

    async def in_the_store() -> bool:
        return (await client.services.get(service.id, timeout_s=CALL_S)).status.running == tasks

    await until(in_the_store, what="all tasks are RUNNING", deadline_s=LONG_S)
    ran_s = time.perf_counter() - began_s
    began_s = time.perf_counter()
    await client.services.remove(service.id)
    await gone(client, service.id)
    return ran_s, time.perf_counter() - began_s


def resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def measure(workers: int, tasks: int, rounds: int, options: list[str]) -> None:
    async with (
        Cluster(options=[*STOP_TASKS, *options]) as cluster,
        simulated_workers() as fleet,
    ):
        client = cluster.client
        token = await client.cluster.join_tokens()
        joined_s = await fleet.tell("join", workers, token.tokens.worker, token.addr)
        connected_s = await fleet.tell("connected")
        print(
            f"{workers} workers joined in {joined_s:.1f} s (rate-limited) and connected in {connected_s:.2f} s",
            flush=True,
        )
        runs = [await all_running(client, fleet, tasks, number) for number in range(rounds)]
        again = [await register_again(cluster, fleet) for _ in range(rounds)]
        nodes = await client.nodes.list(timeout_s=CALL_S)
        ready = sum(node.state is NodeState.READY for node in nodes)
        manager_mb, fleet_mb = resident_mb(cluster[0].manager_pid()), resident_mb(fleet.pid)
    ran, removed = zip(*runs, strict=True)
    answered, registered = zip(*again, strict=True)
    rows: list[Row] = [
        ("kill -9 of the manager to the next one answering", median(answered), " ".join(map(cell, answered)), None),
        ("the same to all sessions open again", median(registered), " ".join(map(cell, registered)), REGISTER_TARGET_S),
        (f"{tasks} tasks from create to RUNNING", median(ran), " ".join(map(cell, ran)), TASKS_TARGET_S),
        (f"{tasks} tasks from remove to gone", median(removed), " ".join(map(cell, removed)), None),
    ]
    table([f"{workers} workers", "median s", "rounds", "target s"], rows)
    print(
        f"{ready} of {len(nodes)} nodes READY; "
        f"resident: manager {manager_mb:.0f} MB, {workers} workers {fleet_mb:.0f} MB"
    )
    report("scale_register", median(registered), None, "s", workers=workers, target=REGISTER_TARGET_S)
    report("scale_tasks", median(ran), None, "s", tasks=tasks, target=TASKS_TARGET_S)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--option", action="append", default=[], help="one more option of swarmpyd")
    given = parser.parse_args()
    asyncio.run(measure(given.workers, given.tasks, given.rounds, given.option))
    return 0


if __name__ == "__main__":
    sys.exit(main())
