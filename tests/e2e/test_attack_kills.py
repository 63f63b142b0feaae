"""Every process of every node is killed at random while users change services; and a node that was rebooted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.cluster import Node
from swarmpy.errors import SwarmError
from swarmpy.model.spec import ServiceSpec, UpdateConfig
from swarmpy.model.states import TaskState, UpdateState
from tests.support.swarm import Swarm, process, whoami, with_env

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("attack_kills"),
]

SEED = 11
ATTACK_S = 12.0
REPLICAS = 5
SERVICES = ("web", "plain")
NAMES = ("swarmpyd", "taskhost", "worker", "dataplane", "manager", "task")
BOOT_VARIABLE = "SWARMPY_BOOT_ID_FILE"


@pytest.fixture(scope="module")
def boot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that tells the boot's id to the nodes."""
    path = tmp_path_factory.mktemp("boot") / "id"
    path.write_text("first\n")
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm(boot: Path) -> AsyncIterator[Swarm]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(BOOT_VARIABLE, str(boot))
        async with Swarm(3) as swarm:
            update = UpdateConfig(parallelism=2, monitor_s=0.5, max_failure_ratio=1.0)
            await swarm.create(whoami("web", 8080, replicas=REPLICAS, update=update))
            await swarm.create(process("plain", "sleep", "1000", replicas=REPLICAS, update=update))
            await converged(swarm)
            yield swarm


def task_processes(node: Node) -> dict[str, list[int]]:
    """Return the pids of the tasks that run on a node, whoever knows of them, by task id."""
    found = defaultdict(list)
    for pid in node.processes():
        with contextlib.suppress(OSError):
            for word in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if word.startswith(b"SWARMPY_TASK_ID="):
                    found[word.partition(b"=")[2].decode()].append(pid)
    return found


async def converged(swarm: Swarm) -> None:
    """Wait until each slot has one task that serves, and the nodes run just these."""

    async def agree() -> bool:
        wanted = set()
        for name in SERVICES:
            status = (await swarm.client.services.get(name)).service.update_status
            live = [task for task in await swarm.tasks(name) if not task.state.is_stopped]
            if len([task for task in live if task.is_endpoint]) != len(live) or len(live) != REPLICAS:
                return False
            if len({task.slot for task in live}) != REPLICAS or status.state is UpdateState.UPDATING:
                return False
            wanted |= {(task.id, task.pid) for task in live}
        run = {(task, pid) for node in swarm.nodes for task, pids in task_processes(node).items() for pid in pids}
        return run == wanted

    await swarm.until(agree, what="the nodes run what the managers want, and nothing else", deadline_s=60.0)


def strike(node: Node, name: str, rng: random.Random) -> None:
    pid = node.pids().get(name, 0)
    if name == "task":
        pid = rng.choice(sorted(pid for pids in task_processes(node).values() for pid in pids) or [0])
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)


async def kill(swarm: Swarm, rng: random.Random, until_s: float) -> None:
    targets = [(n, name) for n in swarm.nodes for name in NAMES if name != "manager" or n is swarm.manager]
    while time.monotonic() < until_s:
        await asyncio.sleep(rng.choice([0.05, 0.2, 0.5, 1.0]))
        for node, name in rng.sample(targets, rng.choice([1, 1, 2, 3])):
            strike(node, name, rng)
        await asyncio.sleep(rng.choice([0.0, 0.1, 0.5]))
        revive(swarm)


def revive(swarm: Swarm) -> None:
    for node in swarm.nodes:
        assert node.daemon is not None
        if node.daemon.poll() is not None:
            node.start()


def with_version(version: str, spec: ServiceSpec) -> ServiceSpec:
    return with_env(spec, version)


async def use(swarm: Swarm, rng: random.Random, until_s: float) -> None:
    number = 0
    while time.monotonic() < until_s:
        number += 1
        name = rng.choice(SERVICES)
        version = f"VERSION={number}"
        with contextlib.suppress(SwarmError):  # nobody may answer for a while; what is asked for last is asked again
            if rng.random() < 0.5:
                await swarm.client.services.scale(name, rng.randint(0, 8), timeout_s=5.0)
            else:
                await swarm.client.services.modify(name, partial(with_version, version), timeout_s=5.0)
        await asyncio.sleep(rng.uniform(0.1, 1.5))


async def test_whatever_is_killed_in_whatever_order_the_cluster_finds_back(swarm: Swarm) -> None:
    rng = random.Random(SEED)
    until_s = time.monotonic() + ATTACK_S
    async with asyncio.TaskGroup() as group:
        group.create_task(kill(swarm, rng, until_s))
        group.create_task(use(swarm, rng, until_s))
    revive(swarm)
    for node in swarm.nodes:
        await node.ready()
    for name in SERVICES:
        await swarm.client.services.scale(name, REPLICAS, timeout_s=30.0)
    await converged(swarm)
    for node in swarm.nodes:
        assert "Traceback" not in node.log()


@pytest.fixture
def innocent() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with the cluster."""
    with subprocess.Popen(["sleep", "1000"]) as process_of_others:
        yield process_of_others
        process_of_others.kill()


async def test_after_a_reboot_no_recorded_pid_is_trusted(
    swarm: Swarm, boot: Path, innocent: subprocess.Popen[bytes]
) -> None:
    """The pids of the former boot now belong to others, which must come to no harm."""
    nodes = await swarm.client.nodes.list()
    lost = (await swarm.running("plain", REPLICAS))[0]
    node = swarm.node_of(lost, nodes)
    await node.close()
    node.vanish()
    claim(node, lost.id, innocent.pid)
    boot.write_text("second\n")  # noqa: ASYNC240  # a line in a file of the test's own
    node.start()
    await node.ready()
    await converged(swarm)
    old, _ = await swarm.client.tasks.get(lost.id)
    assert (old.state, old.error) == (TaskState.FAILED, "node rebooted")
    assert innocent.poll() is None, "a process of the new boot was signalled"


def claim(node: Node, task_id: str, pid: int) -> None:
    """Make the records of the node's former boot name this process as its task and as its worker."""
    start_time = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    journal = next(path for path in (node.state_dir / "taskhost").iterdir() if b'"start"' in path.read_bytes())
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    for record in records:
        if record.get("id") == task_id and record["kind"] == "start":
            record |= {"pid": pid, "start_time": start_time}
    journal.write_text("".join(json.dumps(record) + "\n" for record in records))
    path = node.state_dir / "run" / "worker.pid"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": pid, "start_time": start_time}))
