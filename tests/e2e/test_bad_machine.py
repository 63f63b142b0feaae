"""A machine that cannot give what a node needs: no space, no right to write, no cgroups."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from scripts.cluster import Block, Node, until
from swarmpy.errors import Code, SwarmError
from swarmpy.model.spec import Resources
from swarmpy.model.states import TaskState
from tests.support.swarm import Swarm, process

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount file systems"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("bad_machine"),
]

SEGMENT_MB = 64
"""The log's files are made this large at once, so that a write within one cannot fail for want of space."""

BALLAST = "ballast"
WITHOUT_CGROUPS = ("unshare", "--mount", "sh", "-c", 'umount -R -l /sys/fs/cgroup && exec "$@"', "-")


@contextlib.contextmanager
def small_disk(size_mb: int, *options: str) -> Iterator[Path]:
    """Mount a file system of its own in memory, for the length of the block."""
    directory = Path(tempfile.mkdtemp(prefix="swarmpy-"))
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size_mb}m", *options]), "none", directory], check=True
    )
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        directory.rmdir()


def resize(disk: Path, size_mb: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size_mb}m", disk], check=True)


@pytest.fixture
def block() -> Iterator[Block]:
    block = Block()
    yield block
    block.close()


def refused_start(node: Node) -> str:
    """Start a node that cannot start, and return what it says."""
    node.start()
    assert node.daemon is not None
    assert node.daemon.wait(20) == 1
    return node.log()


async def test_a_state_directory_that_cannot_be_written(block: Block, tmp_path: Path) -> None:
    with small_disk(1, "ro") as disk:
        said = refused_start(Node("node1", block.place(1), disk / "state", log_path=tmp_path / "log"))
        assert said == f"swarmpyd: cannot use the state directory {disk}/state: read-only file system\n"


async def test_a_state_directory_without_space(block: Block, tmp_path: Path) -> None:
    with small_disk(1) as disk:
        fill(disk)
        said = refused_start(Node("node1", block.place(1), disk / "state", log_path=tmp_path / "log"))
        assert said == f"swarmpyd: cannot use the state directory {disk}/state: no space left on device\n"


async def test_a_limit_that_no_node_can_enforce() -> None:
    async with Swarm(1, wrap=WITHOUT_CGROUPS) as swarm:
        info = await swarm.client.node.info()
        assert info.missing["limit-memory"] == "no cgroup hierarchy on this node has the memory controller"
        await swarm.create(process("limited", "sleep", "1000", limits=Resources(memory_bytes=1 << 26)))
        await swarm.create(process("free", "sleep", "1000"))
        await swarm.running("free", 1)

        async def reason() -> str:
            return "; ".join(task.pending_reason for task in await swarm.tasks("limited"))

        said = await swarm.until(reason, what="the service says why it waits")
        assert said == "no suitable node (no capability limit-memory on 1 node)"
        assert {task.state for task in await swarm.tasks("limited")} == {TaskState.PENDING}


async def test_a_node_that_stops_with_limited_tasks_leaves_no_cgroup() -> None:
    """The cluster's end looks for what is left."""
    async with Swarm(1) as swarm:
        await swarm.create(process("limited", "sleep", "1000", replicas=3, limits=Resources(memory_bytes=1 << 28)))
        await swarm.running("limited", 3)
        assert swarm.manager.cgroups()


@pytest_asyncio.fixture(loop_scope="module")
async def on_small_disk() -> AsyncIterator[tuple[Swarm, Path]]:
    """A cluster whose manager has space for one segment of its log and not for two."""
    with small_disk(SEGMENT_MB * 3 // 2) as disk:
        async with Swarm(1, state_dirs={"node1": disk / "state"}) as swarm:
            yield swarm, disk


async def test_a_manager_without_space_refuses_writes_and_serves_reads(on_small_disk: tuple[Swarm, Path]) -> None:
    swarm, disk = on_small_disk
    await swarm.create(process("web", "sleep", "1000", replicas=2))
    before = {task.id: task.pid for task in await swarm.running("web", 2)}

    error = await written_until_refused(swarm)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert error.message.startswith(f"disk full on {disk}/state/manager/raft/wal: ")
    assert error.message.endswith(
        " more bytes are needed for the log; writes are refused and reads are served until space is freed, "
        "and no restart is needed then"
    )
    assert [listed.service.name for listed in await swarm.client.services.list()] == ["web"]
    assert {task.id: task.pid for task in await swarm.running("web", 2)} == before
    assert (await written_until_refused(swarm)).code is Code.RESOURCE_EXHAUSTED

    resize(disk, SEGMENT_MB * 4)

    async def created() -> bool:
        try:
            await swarm.create(process("more", "sleep", "1000"))
        except SwarmError:
            return False
        return True

    await until(created, what="writes are taken again")
    await swarm.running("more", 1)
    assert {task.id: task.pid for task in await swarm.running("web", 2)} == before


async def test_a_node_without_space_rejects_tasks_and_keeps_those_it_has(on_small_disk: tuple[Swarm, Path]) -> None:
    swarm, disk = on_small_disk
    await swarm.create(process("web", "sleep", "1000", replicas=2))
    before = {task.id: task.pid for task in await swarm.running("web", 2)}
    fill(disk)
    await swarm.create(process("late", "sleep", "1000"))

    async def rejected() -> str:
        return next((task.error for task in await swarm.tasks("late") if task.state is TaskState.REJECTED), "")

    assert await swarm.until(rejected, what="the task is rejected") == (
        f"cannot write the task journal {disk}/state/worker/tasks: No space left on device; free space or mend the disk"
    )
    assert {task.id: task.pid for task in await swarm.running("web", 2)} == before
    (disk / BALLAST).unlink()
    await swarm.running("late", 1, deadline_s=60.0)
    assert {task.id: task.pid for task in await swarm.running("web", 2)} == before


async def written_until_refused(swarm: Swarm) -> SwarmError:
    """Write large updates until the log has no space for more."""
    service = (await swarm.client.services.get("web")).service
    for number in range(4 * SEGMENT_MB):
        spec = msgspec.structs.replace(service.spec, labels={"ballast": f"{number}" + "x" * 250_000})
        try:
            service = (await swarm.client.services.update(service, spec, timeout_s=1.0)).service
        except SwarmError as error:
            return error
    raise AssertionError("no write was refused")


def fill(disk: Path) -> None:
    """Write until there is no space."""
    with (disk / BALLAST).open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with contextlib.suppress(OSError):
            while True:
                file.write(b"x")
