"""The container executor on a containerd in memory: each call repeatable, nothing forgotten, nothing told twice."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from swarmpy.errors import Code, SwarmError
from swarmpy.model.endpoints import HostPort
from swarmpy.model.node import Platform
from swarmpy.model.spec import Healthcheck
from tests.support.clock import FakeClock
from tests.support.container_tasks import task
from tests.support.containers import FakeContainerd, FakeImages, FakeNetworks, image
from worker.containerd.types import ProcessStatus, TaskExit
from worker.executor.container.ending import Ending
from worker.executor.container.executor import ContainerExecutor
from worker.executor.container.preparation import Preparation
from worker.executor.container.rootfs import Rootfs
from worker.executor.directories import TaskDirectories
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.ports import PortPool
from worker.executor.protocol import Found
from worker.logs.store import LogStore
from worker.oci.facts import Abilities
from worker.oci.users import Accounts
from worker.task.outcome import Exit
from worker.volumes import Volumes

ADDRESS = "127.0.0.1"


class NoRootfs(Rootfs):
    """Every image has root alone."""

    async def accounts(self, mounts: object) -> Accounts:
        return Accounts("root:x:0:0::/root:/bin/sh\n")


class Ear:
    """What the executor told."""

    def __init__(self) -> None:
        self.inventories: list[dict[str, Found]] = []
        self.exits: list[tuple[str, Exit]] = []

    def inventory(self, found: Mapping[str, Found]) -> None:
        self.inventories.append(dict(found))

    def exited(self, task_id: str, ended: Exit) -> None:
        self.exits.append((task_id, ended))


class Desk:
    """An executor with everything around it faked, and the ear that it speaks to."""

    def __init__(self, state: Path) -> None:
        self.clock = FakeClock()
        self.containerd, self.images, self.networks = FakeContainerd(), FakeImages(), FakeNetworks()
        self.ear = Ear()
        self.directories = TaskDirectories(state / "tasks")
        self.volumes = Volumes(state / "volumes", self.clock)
        self.logs = LogStore(state / "tasks", self.clock)
        self.ports = PortPool(
            ADDRESS, clock=self.clock, rng=random.Random(1), ephemeral=range(32768, 61000), namespace=str(state)
        )
        cgroups = Cgroups({}, "key", self.clock)
        shared = {"client": self.containerd, "images": self.images, "networks": self.networks, "volumes": self.volumes}
        preparation = Preparation(
            **shared,  # type: ignore[arg-type]  # four parts that the two below share
            rootfs=NoRootfs(state / "rootfs"),
            node=lambda: NodeFacts("node1", "host1", Platform(os="linux", arch="x86_64"), ADDRESS),
            abilities=Abilities(arch="x86_64"),
            cgroup=cgroups.path,
        )
        self.ending = Ending(
            **shared,  # type: ignore[arg-type]  # as above
            directories=self.directories,
            logs=self.logs,
            cgroups=cgroups,
        )
        self.executor = ContainerExecutor(
            client=self.containerd,
            images=self.images,
            preparation=preparation,
            ending=self.ending,
            directories=self.directories,
            logs=self.logs,
            ports=self.ports,
            cgroups=cgroups,
            data_addr=ADDRESS,
            clock=self.clock,
            rng=random.Random(1),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Have the executor watch, as long as the context lasts."""
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self.executor.run(self.ear))
            await settle()
            yield
            watch.cancel()

    @property
    def left(self) -> list[object]:
        kept = (self.containerd.records, self.containerd.processes, self.images.keys, self.networks.attached)
        return [*kept, self.directories.present(), self.volumes.list()]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.logs.close()
    desk.ports.close()


async def settle() -> None:
    """Let everything go on that does not wait for time or threads."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_from_prepare_to_remove(desk: Desk) -> None:
    async with desk.running():
        one = task("one", ports=(80,))
        ports = await desk.executor.prepare(one, ())
        assert desk.networks.attached == {"one": ports}
        record = desk.containerd.records["one"]
        assert (record.image, record.snapshotter, record.snapshot_key) == ("web:1", "fake", "one")
        started = await desk.executor.start(one, ports)
        assert (started.pid, started.start_time) == (100, 0)
        desk.containerd.end("one", 0)
        await settle()
        assert desk.ear.exits == [("one", Exit(0, 5.0))]
        await desk.executor.release(one, ports)
        assert desk.networks.attached == {}
        assert desk.containerd.processes == {}
        assert "one" in desk.containerd.records
        assert desk.images.keys == {"one"}  # what it wrote can still be looked at
        await desk.executor.remove("one")
    assert not any(desk.left)


async def test_a_second_preparation_finds_what_the_first_has_made(desk: Desk) -> None:
    one = task("one", ports=(80,))
    ports = await desk.executor.prepare(one, ())
    again = await desk.executor.prepare(one, ports)
    assert again == ports
    assert desk.containerd.calls == ["record one", "record one", "set-spec one"]


async def test_a_preparation_that_fails_gives_its_ports_back(desk: Desk) -> None:
    desk.networks.errors = [SwarmError(Code.UNAVAILABLE, "not now")]
    with pytest.raises(SwarmError):
        await desk.executor.prepare(task("one", ports=(80,)), ())
    assert not any(desk.ports.holds(number) for number in range(20000, 32000))


async def test_an_image_without_a_command_is_refused_before_anything_is_made(desk: Desk) -> None:
    desk.images.images["empty:1"] = image("empty:1", Cmd=[])
    with pytest.raises(SwarmError, match="neither the image nor the service says what to run"):
        await desk.executor.prepare(task("one", image="empty:1"), ())
    assert not any(desk.left)


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        (ProcessStatus.CREATED, ["create one", "get one", "start one"]),
        (ProcessStatus.RUNNING, ["create one", "get one"]),
    ],
)
async def test_a_start_goes_on_where_a_killed_one_was(desk: Desk, status: ProcessStatus, calls: list[str]) -> None:
    one = task("one")
    ports = await desk.executor.prepare(one, ())
    pid = await desk.containerd.tasks.create("one", rootfs=())
    desk.containerd.processes["one"] = replace(desk.containerd.processes["one"], status=status)
    desk.containerd.calls.clear()
    assert (await desk.executor.start(one, ports)).pid == pid
    assert desk.containerd.calls == calls


async def test_a_start_that_had_ended_before_it_was_known_is_told(desk: Desk) -> None:
    async with desk.running():
        one = task("one")
        ports = await desk.executor.prepare(one, ())
        await desk.containerd.tasks.create("one", rootfs=())
        desk.containerd.end("one", 0)
        await settle()
        assert desk.ear.exits == []
        await desk.executor.start(one, ports)
        assert desk.ear.exits == [("one", Exit(0, 5.0))]


async def test_the_exit_of_an_earlier_start_is_not_told(desk: Desk) -> None:
    async with desk.running():
        one = task("one")
        ports = await desk.executor.prepare(one, ())
        desk.containerd.tell(TaskExit("one", "", 7, 137, 5.0))
        await desk.executor.start(one, ports)
        desk.containerd.tell(TaskExit("one", "", 7, 137, 5.0))
        desk.containerd.tell(TaskExit("one", "probe-1", 100, 1, 5.0))
        await settle()
        assert desk.ear.exits == []


async def test_last_words_are_waited_for_and_signals_have_names(desk: Desk) -> None:
    async with desk.running():
        one = task("one")
        await desk.executor.start(one, await desk.executor.prepare(one, ()))
        desk.containerd.end("one", 139)
        await settle()
        assert desk.ear.exits == []
        await desk.clock.advance(0.02)
        [(_, ended)] = desk.ear.exits
        assert (ended.exit_code, ended.by_signal) == (139, True)


async def test_after_a_lost_connection_all_is_told_anew(desk: Desk) -> None:
    async with desk.running():
        one, two = task("one"), task("two")
        for each in (one, two):
            await desk.executor.start(each, await desk.executor.prepare(each, ()))
        desk.containerd.away = True
        desk.containerd.drop_connections()
        await settle()
        desk.containerd.processes["two"] = replace(desk.containerd.processes["two"], status=ProcessStatus.CREATED)
        desk.containerd.away = False
        for _ in range(5):
            await desk.clock.advance(1.0)
            await settle()
        assert [list(found) for found in desk.ear.inventories] == [[], ["one"]]


async def test_what_is_paused_dies_when_it_thaws(desk: Desk) -> None:
    one = task("one")
    await desk.executor.start(one, await desk.executor.prepare(one, ()))
    desk.containerd.processes["one"] = replace(desk.containerd.processes["one"], status=ProcessStatus.PAUSED)
    desk.containerd.end = lambda *_, **__: None  # type: ignore[method-assign]  # a frozen process takes no signal
    await desk.executor.signal("one", 9)
    assert desk.containerd.calls[-3:] == ["kill-9 one", "get one", "resume one"]


async def test_a_container_that_still_runs_is_killed_before_it_is_removed(desk: Desk) -> None:
    one = task("one")
    await desk.executor.start(one, await desk.executor.prepare(one, ()))
    await desk.executor.remove("one")
    assert "kill-9 one" in desk.containerd.calls
    assert not any(desk.left)


async def test_a_sweep_leaves_what_is_held_and_removes_the_rest(desk: Desk) -> None:
    for task_id in ("held", "gone"):
        each = task(task_id)
        await desk.executor.start(each, await desk.executor.prepare(each, ()))
    desk.images.keys.add("bare")
    await desk.executor.sweep(lambda task_id: task_id == "held")
    assert set(desk.containerd.records) == set(desk.containerd.processes) == {"held"}
    assert desk.images.keys == {"held"}
    assert set(desk.networks.attached) == {"held"}


async def test_a_task_that_comes_while_its_left_overs_are_swept_is_whole(desk: Desk) -> None:
    one = task("one")
    await desk.executor.prepare(one, ())
    held: set[str] = set()
    at_work = asyncio.Event()
    desk.containerd.noted = lambda call: at_work.set() if call == "delete one" else None
    async with asyncio.TaskGroup() as group:
        group.create_task(desk.executor.sweep(lambda task_id: task_id in held))
        await at_work.wait()
        held.add("one")
        group.create_task(desk.executor.prepare(one, ()))
    assert set(desk.containerd.records) == desk.images.keys == set(desk.networks.attached) == {"one"}
    assert desk.directories.present() == ["one"]


async def test_a_sweep_without_containerd_says_so_and_goes_on(desk: Desk) -> None:
    desk.networks.attached["gone"] = ()
    desk.containerd.away = True
    await desk.executor.sweep(lambda _: False)
    assert desk.networks.attached == {}


async def test_signal_and_health_check_come_from_the_image(desk: Desk) -> None:
    health = {"Test": ["CMD", "ask"], "Interval": 2_000_000_000}
    desk.images.images["well:1"] = image("well:1", StopSignal="SIGQUIT", Healthcheck=health)
    one = task("one", image="well:1", ports=(80,))
    ports = await desk.executor.prepare(one, ())
    check = desk.executor.health_plan(one, ports).health
    assert check is not None
    assert (check.argv, check.interval_s, check.timeout_s) == (("ask",), 2.0, 30.0)
    assert desk.executor.stop_signal(one) == 3
    own = task("one", image="well:1", stop_signal="SIGINT", healthcheck=Healthcheck(test=("NONE",)))
    assert desk.executor.stop_signal(own) == 2
    assert desk.executor.health_plan(own, ports).health is None


async def test_a_port_is_asked_at_the_container_itself(desk: Desk) -> None:
    one = task("one", ports=(80,))
    ports = await desk.executor.prepare(one, ())
    readiness = desk.executor.health_plan(one, ports).readiness
    assert readiness is not None
    assert readiness.ports == (HostPort(target=80, port=80),)


async def test_on_the_nodes_own_network_target_ports_are_host_ports(desk: Desk) -> None:
    assert await desk.executor.prepare(task("one", ports=(80,), network="host"), ()) == (HostPort(target=80, port=80),)


async def test_a_restarted_worker_takes_up_ports_and_log(desk: Desk, tmp_path: Path) -> None:
    one = task("one", ports=(80,))
    ports = await desk.executor.prepare(one, ())
    desk.logs.close()
    desk.ports.close()
    later = Desk(tmp_path)
    later.executor.adopt(one, ports)
    assert later.ports.holds(ports[0].port)
    assert later.logs.get("one") is not None
    assert later.executor.health_plan(one, ports).readiness is not None
    later.logs.close()
    later.ports.close()
