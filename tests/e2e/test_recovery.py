"""What is done when managers are lost for good: a snapshot brings a swarm back, or one manager goes on alone."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.cluster import Cluster, Node, until
from swarmpy.client import Client
from swarmpy.errors import SwarmError
from swarmpy.model.cluster import ClusterSpec
from swarmpy.model.config import ConfigSpec
from swarmpy.model.node import Node as NodeRow
from swarmpy.model.states import Availability, NodeRole, NodeState
from swarmpy.snapshot.reader import SnapshotFile
from tests.support.snapshots import write
from tests.support.swarm import Swarm, process

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("recovery")]

QUICK = ClusterSpec(heartbeat_period_s=0.5)
FORCE = ("swarm", "init", "--force-new-cluster")


async def save(node: Node, file: Path) -> Path:
    output = await node.cli("swarm", "snapshot", "save", str(file))
    assert output.out.startswith("Saved revision ")
    return file


async def refusal(node: Node, *words: str) -> str:
    output = await node.cli(*words, check=False)
    assert (output.status, output.out) == (1, "")
    return output.err.removeprefix("Error: ").removesuffix("\n")


async def row_by_id(client: Client, node_id: str) -> NodeRow:
    return next(row for row in await client.nodes.list() if row.id == node_id)


async def test_a_swarm_whose_only_manager_is_lost_comes_back_from_a_file() -> None:
    async with Swarm(2) as swarm:
        manager = swarm.manager
        old = (await manager.client.node.info()).node_id
        await swarm.set_availability("node1", Availability.DRAIN)
        await swarm.create(process("web", "sleep", "1000", replicas=2))
        before = {task.id: task.pid for task in await swarm.running("web", 2)}
        file = await save(manager, swarm.root / "a.snap")
        await swarm.create(process("late", "sleep", "1000"))
        await swarm.running("late", 1)

        await manager.cli("swarm", "leave", "--force")
        output = await manager.cli("swarm", "snapshot", "restore", str(file))
        await manager.close()
        new = (await manager.client.node.info()).node_id
        assert output.out.startswith(
            f"Swarm restored: current node ({new}) is now its manager, at {manager.address}:2377.\n\n"
            "- kept: the state at revision "
        )
        assert f"- given up as a manager: node1 ({manager.address}:2377); it is a worker from now on" in output.out

        # The worker has the same certificate, and its tasks never stopped.
        await swarm.node_is("node2", NodeState.READY)
        assert {task.id: task.pid for task in await swarm.running("web", 2)} == before
        assert [listed.service.name for listed in await swarm.client.services.list()] == ["web"]
        gone = await row_by_id(swarm.client, old)
        assert (gone.state, gone.manager, gone.spec.role) == (NodeState.DOWN, None, NodeRole.WORKER)
        own = await row_by_id(swarm.client, new)
        assert own.manager is not None
        assert (own.manager.raft_id, own.manager.leader) == (2, True)
        await manager.cli("node", "rm", old)
        await swarm.create(process("next", "sleep", "1000"))
        await swarm.running("next", 1)
        assert not (manager.state_dir / "manager" / "restore.snapshot").exists()


async def test_what_is_refused_leaves_the_node_as_it_was() -> None:
    async with Swarm(2) as swarm:
        free = await swarm.add("node3")
        file = await save(swarm.manager, swarm.root / "a.snap")
        restore = ("swarm", "snapshot", "restore", str(file))
        part = "this node is already part of a swarm: use `swarmpy swarm leave` to leave it before joining another"
        for node in swarm.nodes[:2]:
            assert await refusal(node, *restore) == part

        with SnapshotFile(file) as saved:
            broken = write(swarm.root / "b.snap", [b"this is no state"], saved.header)
        said = await refusal(free, "swarm", "snapshot", "restore", str(broken))
        assert said.startswith("the snapshot was not restored: the snapshot does not begin as one: ")
        assert (await free.client.node.info()).cluster_id == ""
        assert not (free.state_dir / "manager").exists()
        assert "manager" not in free.pids()

        assert await refusal(free, *FORCE) == (
            "this node is not part of a swarm: `swarmpy swarm init` alone starts a new one"
        )
        assert await refusal(swarm.nodes[1], *FORCE) == (
            "this node is a worker and holds nothing of the swarm's state: run this on one of its managers"
        )
        assert await refusal(swarm.manager, *FORCE) == (
            "manager node1 leads the swarm, so nothing has to be forced: --force-new-cluster is for a swarm whose "
            "managers have lost their quorum; if that was only seconds ago, try again"
        )
        await swarm.join([free])


async def test_the_last_of_three_managers_goes_on_alone() -> None:
    async with Cluster(managers=3, workers=1, spec=QUICK) as cluster:
        first, *lost = cluster.managers
        worker = cluster.nodes[3]
        await cluster.client.configs.create(ConfigSpec(name="site", data=b"x"))
        with SnapshotFile(await save(lost[1], cluster.root / "a.snap")) as saved:
            assert saved.verify().header.objects["configs"] == 1
        for node in lost:
            node.vanish()

        async def forced() -> str:
            output = await first.cli(*FORCE, check=False)
            assert output.status == 0 or " leads the swarm, so nothing has to be forced: " in output.err, output.err
            return output.out

        said = await until(forced, what="nobody leads any more, and the first manager begins anew")
        own = (await first.client.node.info()).node_id
        assert said.startswith(f"Swarm begun anew: current node ({own}) is now its only manager.\n\n- kept: the state ")
        named = ", ".join(f"{node.name} ({node.address}:2377)" for node in lost)
        assert f"- given up as managers: {named}; they are workers from now on, and down until they come back\n" in said
        assert "- warning: former managers that are started again with what they stored may elect a leader" in said
        assert len(list((first.state_dir / "manager").glob("raft.old-*"))) == 1

        assert [config.name for config in await cluster.client.configs.list()] == ["site"]
        await cluster.client.configs.create(ConfigSpec(name="more", data=b"y"))
        await _is(cluster, first, NodeState.READY, NodeRole.MANAGER)
        await _is(cluster, worker, NodeState.READY, NodeRole.WORKER)
        for node in lost:
            row = await _is(cluster, node, NodeState.DOWN, NodeRole.WORKER)
            assert row.manager is None

        # One that has lost what it stored is a worker, and so is one that has not: alone it has no quorum.
        shutil.rmtree(lost[0].state_dir / "manager")
        for node in lost:
            node.start()
        for node in lost:
            await node.ready()
            await _is(cluster, node, NodeState.READY, NodeRole.WORKER)
            await _has_no_manager(node)
        await first.cli("node", "promote", lost[0].name)

        async def votes() -> bool:
            row = await _is(cluster, lost[0], NodeState.READY, NodeRole.MANAGER)
            return row.manager is not None and not row.manager.learner

        await until(votes, what="the promoted one has a vote")
        await first.restart()
        assert sorted(config.name for config in await cluster.client.configs.list()) == ["more", "site"]


async def _is(cluster: Cluster, node: Node, state: NodeState, role: NodeRole) -> NodeRow:
    async def ask() -> NodeRow | None:
        try:
            rows = await cluster.rows()
        except SwarmError:
            return None
        return next((r for r in rows if (r.name, r.state, r.spec.role) == (node.name, state, role)), None)

    return await until(ask, what=f"{node.name} is {state.name} as a {role.name}")


async def _has_no_manager(node: Node) -> None:
    async def ask() -> bool:
        return "manager" not in node.pids() and not (node.state_dir / "manager").exists()

    await until(ask, what=f"{node.name} runs no manager, and has nothing of one")


@contextlib.contextmanager
def small_disk(size_mb: int) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="swarmpy-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "none", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        directory.rmdir()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount file systems")
async def test_a_disk_without_space_for_the_log_restores_nothing() -> None:
    with small_disk(32) as disk:
        async with Swarm(1, state_dirs={"node2": disk / "state"}) as swarm:
            file = await save(swarm.manager, swarm.root / "a.snap")
            small = await swarm.add("node2")
            said = await refusal(small, "swarm", "snapshot", "restore", str(file))
            assert said.startswith(f"the snapshot was not restored: disk full on {disk}/state/manager")
            assert not (disk / "state" / "manager").exists()
            await swarm.join([small])

            full = await refusal(swarm.manager, "swarm", "snapshot", "save", str(disk / "none" / "a.snap"))
            assert full == f"cannot write {disk}/none/a.snap: no such file or directory; nothing was saved"
            with (disk / "ballast").open("wb") as ballast, contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(1 << 16))
                    ballast.flush()
            full = await refusal(swarm.manager, "swarm", "snapshot", "save", str(disk / "a.snap"))
            assert full == f"cannot write {disk}/a.snap: no space left on device; nothing was saved"
            assert not list(disk.glob("a.snap*"))
            (disk / "ballast").unlink()
