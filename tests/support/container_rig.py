"""A worker's container side in this process, on a real containerd: nothing of runner, executor, networks is faked."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from swarmpy.clock import SystemClock
from swarmpy.model.node import Platform
from swarmpy.model.states import Runtime, TaskState
from swarmpy.model.task import TaskStatus
from tests.support.container_tasks import IMAGE
from tests.support.containerd_process import ContainerdProcess
from tests.support.images import Built, busybox_image, write_layout_tar
from worker.alarms import Alarms
from worker.assignments import Assignment, Changes
from worker.containerd.client import Containerd
from worker.containerd.ending import end_containers, unmount_below
from worker.containerd.runtime import namespace_of
from worker.dataplane.protocol import TaskNamespace
from worker.executor.cgroups import hierarchies, mounts
from worker.executor.container.assembly import Containers
from worker.executor.limits import Cgroups
from worker.executor.node import NodeFacts
from worker.executor.ports import PortPool
from worker.image.importing import Importer
from worker.logs.store import LogStore
from worker.network.ending import end_networks
from worker.network.link.place import Place
from worker.network.networks import NodeNetworks
from worker.task.journal import FileJournal
from worker.task.runner import TaskRunner

DEADLINE_S: Final = 20.0
ADDRESS: Final = "127.0.0.1"
BOOT: Final = "this-boot"
T = TypeVar("T")


class Rig:
    """A state directory with a containerd beside it. `worker()` runs a worker; leaving the rig ends all it has made."""

    def __init__(self) -> None:
        self.directory = Path()
        self.containerd = ContainerdProcess()

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="rig-"))
        self.containerd.__enter__()
        (self.state / "run").mkdir(parents=True)
        return self

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def key(self) -> str:
        return hashlib.sha256(str(self.state.resolve()).encode()).hexdigest()[:12]

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[RigWorker]:
        """Run a worker; leaving the context is its death: what it runs goes on."""
        worker = RigWorker(self.state, self.containerd.socket, self.key)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(worker.run())
            try:
                yield worker
            finally:
                running.cancel()

    async def load(self, **images: Built) -> None:
        """Import images; without any, busybox under the name of `IMAGE`."""
        archive = self.directory / "images.tar"
        named = {name.replace("_", ":"): built for name, built in images.items()} or {IMAGE: busybox_image()}
        write_layout_tar(archive, named)
        async with self.worker() as worker:
            await worker.load(archive)

    async def clean(self) -> None:
        """Have a worker end and forget all tasks, and fail if anything is left of them."""
        async with self.worker() as worker:
            task_ids = [path.stem for path in _entries(self.state / "worker" / "tasks") if path.suffix == ".msgpack"]
            await until(lambda: all(i in worker.runner.statuses for i in task_ids), "the worker has read its journal")
            worker.remove(*task_ids)
            await worker.gone(*task_ids)
            deadline_s = asyncio.get_running_loop().time() + DEADLINE_S
            while left := await self.left():
                assert asyncio.get_running_loop().time() < deadline_s, left
                await asyncio.sleep(0.02)

    async def left(self) -> list[str]:
        """Return what is left on the machine of this node's tasks: for a node without any, nothing."""
        async with Containerd.connect(self.containerd.socket, namespace_of(self.state)) as client:
            await client.namespaces.ensure(client.namespace)
            found = [f"record {c.id}" for c in await client.containers.list()]
            found += [f"task {t.container_id}" for t in await client.tasks.list()]
            snapshots = await client.snapshots("overlayfs").list('labels."swarmpy.snapshot"')
            found += [f"snapshot {s.name}" for s in snapshots]
        return found + self._left_on_machine()

    def _left_on_machine(self) -> list[str]:
        found: list[str] = []
        for below in ("tasks", "run/netns", "volumes"):
            found += [f"{below}/{p.name}" for p in _entries(self.state / below) if p.name != "fabric"]
        found += [
            f"link {p.name}" for p in Path("/sys/class/net").glob(f"sp{self.key[:6]}*") if not p.name.endswith("-0")
        ]
        found += [f"cgroup {p}" for p in Path("/sys/fs/cgroup").glob(f"*/swarmpy/{self.key}/*/")]
        roots = (str(self.state), str(self.containerd.place))
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [line.split()[4] for line in lines]
        return found + [f"mount {p}" for p in points if p.startswith(roots) and not p.endswith("/netns")]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run(self._end())
        finally:
            end_networks(self.state, self.key)
            self.containerd.__exit__(kind, error, trace)
            unmount_below(self.state)
            shutil.rmtree(self.directory)
            for directory in Path("/sys/fs/cgroup").glob(f"*/swarmpy/{self.key}"):
                for group in (*directory.glob("*/"), directory):
                    with contextlib.suppress(OSError):
                        group.rmdir()

    async def _end(self) -> None:
        with contextlib.suppress(Exception):  # the test may have killed containerd for good
            async with Containerd.connect(self.containerd.socket, namespace_of(self.state)) as client:
                await end_containers(client, grace_s=0.0)


class NoNames:
    """Serves no names, as a node whose data plane is away; `served` is what it was told."""

    def __init__(self) -> None:
        self.served: dict[str, TaskNamespace] = {}

    async def serve(self, namespace: TaskNamespace) -> str:
        self.served[namespace.task_id] = namespace
        return "there is no data plane in this rig"

    def forget(self, task_id: str) -> None:
        self.served.pop(task_id, None)

    def replace(self, namespaces: Iterable[TaskNamespace]) -> None:
        self.served = {namespace.task_id: namespace for namespace in namespaces}


class RigWorker:
    """The parts of a worker that run containers, in the order in which the engine puts them together."""

    def __init__(self, state: Path, socket: Path, key: str) -> None:
        clock, rng = SystemClock(), random.Random(1)
        mountinfo = Path("/proc/self/mountinfo").read_text()
        mounted = hierarchies(mountinfo, lambda mount: (mount / "cgroup.controllers").read_text())
        self._clock = clock
        self.cgroups = Cgroups(mounted, key, clock, others=mounts(mountinfo))
        self.logs = LogStore(state / "tasks", clock)
        self.ports = PortPool(ADDRESS, clock=clock, rng=rng, ephemeral=range(32768, 61000))
        self.names = NoNames()
        place = Place(state, key, IPv4Address(ADDRESS))
        self.networks = NodeNetworks(place, names=self.names, clock=clock, rng=rng)
        self.containers = Containers(
            state_dir=state,
            socket=socket,
            driver="overlayfs",
            networks=self.networks,
            logs=self.logs,
            ports=self.ports,
            cgroups=self.cgroups,
            node=lambda: NodeFacts("node1", "host1", Platform(os="linux", arch="x86_64"), ADDRESS),
            clock=clock,
            rng=rng,
        )
        self.alarms = Alarms(clock)
        self.runner = TaskRunner(
            executors={Runtime.CONTAINER: self.containers.executor},
            journal=FileJournal(state / "worker" / "tasks"),
            alarms=self.alarms,
            clock=clock,
            rng=rng,
            boot_id=BOOT,
            orphan_grace_s=0.5,
        )
        self._state = state

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.alarms.run())
                group.create_task(self.runner.run())
                group.create_task(self.networks.run())
        finally:
            await self.containers.close()
            self.logs.close()
            self.ports.close()

    async def load(self, archive: Path) -> None:
        """Import an archive of images."""
        await self.containers.client.wait_until_serving(DEADLINE_S)
        images = await self.containers.images.open()
        importer = Importer(self.containers.client, images.snapshotter, images.unpacker, self._clock, images.platform)
        await importer.load(archive)

    def put(self, assignment: Assignment) -> None:
        self.runner.apply(Changes(put=(assignment,)))

    def stop(self, assignment: Assignment) -> None:
        """Have a task end, as a service's update does."""
        self.put(msgspec.structs.replace(assignment, desired_state=TaskState.SHUTDOWN))

    def remove(self, *task_ids: str) -> None:
        """Have tasks end and be forgotten, the manager having taken note of everything."""
        self.runner.apply(Changes(removed=task_ids))

    async def state_of(self, task_id: str, *states: TaskState) -> TaskStatus:
        """Wait until a task is in one of the states; a final state that is none of them fails."""

        def look() -> TaskStatus | None:
            self.acknowledge()
            status = self.runner.statuses.get(task_id)
            if status is None or (status.state not in states and not status.state.is_stopped):
                return None
            assert status.state in states, status
            return status

        return await until(look, f"{task_id} is {[s.name for s in states]}: {self.runner.statuses.get(task_id)}")

    async def gone(self, *task_ids: str) -> None:
        """Wait until tasks are forgotten with all that was theirs."""

        def look() -> bool:
            self.acknowledge()
            return not any(task_id in self.runner.statuses for task_id in task_ids)

        await until(look, f"{task_ids} are forgotten")

    def log(self, task_id: str) -> str:
        """Return what a task has said so far, on both streams."""
        path = self._state / "tasks" / task_id / "logs" / "json.log"
        lines = path.read_text().splitlines() if path.exists() else []
        return "".join(str(msgspec.json.decode(line)["log"]) for line in lines)

    def acknowledge(self) -> None:
        """Take note of all statuses, as a manager does."""
        while (batch := self.runner.reports.take()) is not None:
            self.runner.reports.acknowledge(batch[0])


async def until(ask: Callable[[], T | None], what: str) -> T:
    """Return the first true answer; fail after a deadline."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + DEADLINE_S
    while not (answer := ask()):
        assert loop.time() < deadline_s, f"did not come true in {DEADLINE_S:g} s: {what}"
        await asyncio.sleep(0.005)
    return answer


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []
