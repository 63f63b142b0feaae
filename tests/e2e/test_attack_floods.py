"""Strangers that take up room: idle connections, bad handshakes, a disk that somebody has filled."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from scripts.cluster import Node, until
from swarmpy.errors import SwarmError
from swarmpy.model.states import NodeState
from tests.support.swarm import Swarm, process, who_answers, whoami

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("attack_floods"),
]

OPEN_FILES = 300
FEW_FILES = ("sh", "-c", f'ulimit -n {OPEN_FILES}; exec "$@"', "-")
MORE_THAN_ALL = 2 * OPEN_FILES
GROWTH_MB = 40
BAD_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def swarm() -> AsyncIterator[Swarm]:
    async with Swarm(2, wrap=FEW_FILES) as swarm:
        await swarm.create(whoami("web", 8080, replicas=2))
        await swarm.running("web", 2)
        yield swarm


@contextlib.contextmanager
def crowd(host: str, port: int, *, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """Hold more connections than the process behind the port may have files open."""
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(MORE_THAN_ALL):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                sock.connect((host, port))
            with contextlib.suppress(OSError):
                sock.send(says)
            made.append(sock)
        yield made


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def rss_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS"))


async def test_connections_without_a_certificate_do_not_lock_nodes_out(swarm: Swarm) -> None:
    manager = swarm.manager.pid("manager")
    with crowd(swarm.manager.address, 2377):

        async def full() -> bool:
            return open_files(manager) > 40

        await until(full, what="the crowd is there")
        node = swarm.nodes[1]
        node.kill("worker")

        async def back() -> bool:
            try:
                return (await node.client.node.info(timeout_s=2.0)).state == "connected"
            except SwarmError:
                return False

        await until(back, what="the node's new worker has a session in spite of the crowd")
        assert open_files(manager) < OPEN_FILES
        await swarm.node_is("node2", NodeState.READY)
    assert swarm.manager.pid("manager") == manager


@pytest.mark.parametrize("says", [b"", b"\x16", BAD_HELLO], ids=["silent", "slow", "bad"])
async def test_a_crowd_at_the_joiners_door_costs_little(swarm: Swarm, says: bytes) -> None:
    manager = swarm.manager.pid("manager")
    before_mb = rss_mb(manager)
    with crowd(swarm.manager.address, 2378, says=says):
        assert await swarm.client.services.list(timeout_s=5.0)
        most_mb = 0
        for _ in range(20):
            await swarm.client.nodes.list(timeout_s=5.0)
            most_mb = max(most_mb, rss_mb(manager))
        assert open_files(manager) < OPEN_FILES / 2
    assert most_mb - before_mb < GROWTH_MB
    assert swarm.manager.pid("manager") == manager


async def test_a_crowd_at_the_metrics_leaves_the_process_its_descriptors(swarm: Swarm) -> None:
    for name, port in (("worker", 9323), ("manager", 9324)):
        pid = swarm.manager.pid(name)
        with crowd(swarm.manager.address, port, says=b"GET"):
            await swarm.create(process(f"beside-{name}", "sleep", "1000"))
            await swarm.running(f"beside-{name}", 1)
            assert open_files(pid) < OPEN_FILES * 2 / 3
        await swarm.remove(f"beside-{name}")
    for node in swarm.nodes:
        assert "Too many open files" not in node.log()
        assert "Traceback" not in node.log()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, of 16 MB."""
    disk = Path(tempfile.mkdtemp(prefix="swarmpy-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)
    disk.rmdir()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount file systems")
async def test_on_a_full_disk_what_was_killed_runs_again(small_disk: Path) -> None:
    async with Swarm(2, state_dirs={"node2": small_disk / "state"}) as swarm:
        node = swarm.nodes[1]
        await swarm.create(whoami("web", 8080, replicas=4))
        before = {task.id: task.pid for task in await swarm.running("web", 4)}
        fill(small_disk)
        for name in ("dataplane", "taskhost", "worker"):
            await dies_and_is_replaced(node, name)
        await swarm.node_is("node2", NodeState.READY)

        async def serves() -> bool:
            try:
                return (await who_answers(node.address, 8080))["service"] == "web"
            except OSError:
                return False

        await until(serves, what="the node serves again, with its disk still full")
        assert {task.id: task.pid for task in await swarm.running("web", 4)} == before
        (small_disk / "ballast").unlink()
        await swarm.client.services.scale("web", 6)
        await swarm.running("web", 6)


async def dies_and_is_replaced(node: Node, name: str) -> None:
    killed = node.kill(name)

    async def replaced() -> bool:
        report = node.status()["processes"][name]
        return report["state"] == "running" and report["pid"] not in (None, killed)

    await until(replaced, what=f"{name} runs again")


def fill(disk: Path) -> None:
    """Take all the space that is left, to the last byte."""
    with (disk / "ballast").open("ab", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(size))
