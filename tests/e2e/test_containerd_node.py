"""A node's own containerd: kept running, outlived by containers, adopted, and ended with all it has made."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator

import pytest

from scripts.cluster.processes import runs
from swarmpy.errors import SwarmError
from tests.support.container_node import ContainerNode, kill_hard, lacking
from tests.support.node_process import DEADLINE_S, NodeProcess, until
from worker.containerd.client import Containerd
from worker.containerd.driver import choose_driver
from worker.containerd.runtime import read_runtime
from worker.containerd.types import Event, ProcessStatus, TaskExit

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "containers can be run"),
]

FOREVER = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done")


@pytest.fixture
def node() -> Iterator[ContainerNode]:
    with ContainerNode() as node:
        node.start()
        yield node


async def running(node: ContainerNode, client: Containerd, name: str = "one") -> int:
    """Run a container that goes on until it is told to end; return the pid of its program."""
    if not await client.snapshots("overlayfs").exists("base"):
        await node.make_base(client)
    await client.tasks.create(name, rootfs=await node.make(client, name, FOREVER))
    return await client.tasks.start(name)


async def test_containers_outlive_a_killed_containerd(node: ContainerNode) -> None:
    async with await node.client() as client:
        pid = await running(node, client)
        [shim] = node.shims()
        before = node.pid("containerd")
        async with client.events.subscribe() as events:
            node.kill("containerd")
            with pytest.raises(SwarmError) as caught:
                async for _ in events:
                    continue
            assert caught.value.retryable
        await client.wait_until_serving(DEADLINE_S)
        assert node.pid("containerd") != before
        task = await client.tasks.get("one")
        assert (task.pid, task.status) == (pid, ProcessStatus.RUNNING)
        assert node.shims() == [shim]
        async with client.events.subscribe() as events:
            assert await client.tasks.kill("one", signal.SIGTERM)
            end = await first_exit(events)
        assert (end.container_id, end.exec_id, end.pid, end.status) == ("one", "", pid, 7)
        assert (await client.tasks.delete("one")).status == 7
        until(lambda: not node.shims(), what="the shim is gone")


async def first_exit(events: AsyncIterator[Event]) -> TaskExit:
    async for event in events:
        if isinstance(event, TaskExit):
            return event
    raise AssertionError("the events have ended")


async def test_what_ends_while_containerd_is_away_is_known_afterwards(node: ContainerNode) -> None:
    async with await node.client() as client:
        pid = await running(node, client)
        os.kill(node.pid("containerd"), signal.SIGSTOP)
        kill_hard(pid)
        until(lambda: not runs(pid), what="the container is dead")
        node.kill("containerd")
        await client.wait_until_serving(DEADLINE_S)
        assert (await client.tasks.wait("one")).status == 128 + signal.SIGKILL
        assert (await client.tasks.delete("one")).status == 128 + signal.SIGKILL


async def test_a_killed_swarmpyd_leaves_everything_and_the_next_one_takes_it_up(node: ContainerNode) -> None:
    async with await node.client() as client:
        pid = await running(node, client)
        before = node.pid("containerd")
        node.kill("supervisor")
        assert (await client.tasks.get("one")).pid == pid
        node.start()
        assert node.pid("containerd") == before
        assert node.process("containerd")["state"] == "running"
        assert (await client.tasks.get("one")).status is ProcessStatus.RUNNING
    node.shut_down()
    _assert_nothing_left(node, pid)


async def test_a_stopped_node_leaves_containerd_and_containers_alone(node: ContainerNode) -> None:
    async with await node.client() as client:
        pid = await running(node, client)
        before = node.pid("containerd")
        assert node.daemon is not None
        node.daemon.terminate()
        node.daemon.wait(DEADLINE_S)
        assert (await client.tasks.get("one")).pid == pid
        assert runs(before)
        node.start()
        assert node.pid("containerd") == before


async def test_other_settings_restart_containerd_but_no_container(node: ContainerNode) -> None:
    async with await node.client() as client:
        pid = await running(node, client)
        before = node.pid("containerd")
        assert node.daemon is not None
        node.daemon.terminate()
        node.daemon.wait(DEADLINE_S)
        (node.state / "node.toml").write_text('[storage]\ndriver = "overlayfs"\noptions.upperdir_label = true\n')
        node.start()
        until(lambda: not runs(before), what="the former containerd is gone")
        await client.wait_until_serving(DEADLINE_S)
        assert (await client.tasks.get("one")).pid == pid


async def test_the_end_of_the_node_ends_containers_shims_and_mounts(node: ContainerNode) -> None:
    async with await node.client() as client:
        pids = [await running(node, client, name) for name in ("one", "two", "three")]
        assert len(node.mounts()) == 3
        await client.tasks.pause("two")
    node.shut_down()
    for pid in pids:
        _assert_nothing_left(node, pid)


async def test_the_end_of_the_node_with_containerd_and_a_shim_killed(node: ContainerNode) -> None:
    async with await node.client() as client:
        pids = [await running(node, client, name) for name in ("one", "two")]
    os.kill(node.pid("supervisor"), signal.SIGSTOP)
    kill_hard(node.pid("containerd"))
    kill_hard(node.shims()[0])
    os.kill(node.pid("supervisor"), signal.SIGCONT)
    node.shut_down()
    for pid in pids:
        _assert_nothing_left(node, pid)


def _assert_nothing_left(node: ContainerNode, pid: int) -> None:
    assert not runs(pid)
    assert node.shims() == []
    assert node.containers() == []
    assert node.mounts() == []
    assert node.marked() == []


async def test_two_nodes_live_side_by_side(node: ContainerNode) -> None:
    with ContainerNode() as other:
        other.start()
        async with await node.client() as here, await other.client() as there:
            ours, theirs = await running(node, here), await running(other, there)
            assert ours != theirs
            assert [task.pid for task in await here.tasks.list()] == [ours]
            other.kill("containerd")
            assert (await here.tasks.get("one")).status is ProcessStatus.RUNNING
            await there.wait_until_serving(DEADLINE_S)
            assert (await there.tasks.get("one")).pid == theirs
        other.shut_down()
        _assert_nothing_left(other, theirs)
        assert runs(ours)
    node.shut_down()


async def test_another_storage_driver_is_refused(node: ContainerNode) -> None:
    async with await node.client() as client:
        assert await choose_driver(client, node.state, "") == "overlayfs"
        assert await choose_driver(client, node.state, "overlayfs") == "overlayfs"
        with pytest.raises(SwarmError, match="kept by the storage driver overlayfs"):
            await choose_driver(client, node.state, "native")
    node.shut_down()
    node.options = (*node.options, "--storage-driver", "native")
    with pytest.raises(AssertionError, match="kept by the storage driver overlayfs"):
        node.start()


def test_a_node_without_containers_says_why() -> None:
    with NodeProcess("--containerd", "off") as node:
        node.start()
        assert "switched off" in read_runtime(node.state).missing
        assert node.process("containerd")["state"] == "stopped"
        assert node.log().count("no containers:") == 1


def test_a_socket_that_is_given_is_used(node: ContainerNode) -> None:
    with NodeProcess("--containerd", str(node.socket)) as other:
        other.start()
        found = read_runtime(other.state)
        assert (found.socket, found.private, found.missing) == (node.socket, False, "")
        assert other.process("containerd")["state"] == "stopped"
