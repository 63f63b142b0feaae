"""The worker's word on task namespaces, from both ends of the socket."""

from __future__ import annotations

import asyncio
import contextlib
import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.clock import FakeClock, settle
from tests.unit.worker.dataplane.test_control import FakePlane
from worker.dataplane.client import DataPlaneClient
from worker.dataplane.control import ControlServer
from worker.dataplane.names import TaskNames
from worker.dataplane.protocol import TaskGone, TaskNamespace, Tasks, TaskServed

DEADLINE_S = 5.0
ONE, TWO = (TaskNamespace(task_id=t, netns=f"/pins/{t}") for t in ("t1", "t2"))


class Answering(FakePlane):
    """Answers each namespace at once."""

    def __init__(self, server: ControlServer) -> None:
        super().__init__()
        self._server = server
        self.problem = ""

    def name(self, message: TaskNamespace | Tasks | TaskGone) -> None:
        super().name(message)
        if isinstance(message, TaskNamespace):
            self._server.tell(TaskServed(task_id=message.task_id, problem=self.problem))


class World:
    """Names of a worker, and a data plane that comes and goes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.names = TaskNames(path, clock=self.clock, rng=random.Random(1), wait_s=0.2)
        self.server = ControlServer()
        self.plane = Answering(self.server)

    async def start(self) -> Answering:
        """Begin a new data plane, and return it once the worker has found it."""
        self.server = ControlServer()
        self.plane = Answering(self.server)
        await self.server.start(self.path, self.plane)
        await self.clock.advance(5.0)
        await self.until(lambda: True)
        return self.plane

    async def until(self, done: object) -> None:
        """Let the machine's sockets have their turn until something is so."""
        assert callable(done)
        for _ in range(200):
            await self.clock.advance(1.0)
            await asyncio.sleep(0)
            if done():
                return
        raise AssertionError("it did not come to that")


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(prefix="dp-") as folder:
        made = World(Path(folder) / "dataplane.sock")
        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
            life = tasks.create_task(made.names.run())
            await settle()
            try:
                yield made
            finally:
                life.cancel()
                await made.server.close()


async def test_a_namespace_is_told_and_answered() -> None:
    async with world() as it:
        plane = await it.start()
        assert await it.names.serve(ONE) == ""
        plane.problem = "not root"
        assert await it.names.serve(ONE) == "not root"
        it.names.forget("t1")
        await it.until(lambda: len(plane.named) == 3)
        assert plane.named == [ONE, ONE, TaskGone(task_id="t1")]


async def test_without_a_data_plane_it_is_said_and_told_later() -> None:
    async with world() as it:
        assert "has not answered" in await it.names.serve(ONE)
        it.names.forget("t9")
        plane = await it.start()
        await it.until(lambda: len(plane.named) == 2)
        assert plane.named == [ONE, TaskGone(task_id="t9")], "not all there are: the data plane keeps what it has"


async def test_a_new_data_plane_is_told_everything() -> None:
    async with world() as it:
        plane = await it.start()
        it.names.replace([ONE])
        assert await it.names.serve(TWO) == ""
        assert plane.named == [Tasks(tasks=(ONE,)), TWO]
        await it.server.close()
        it.names.forget("t1")
        plane = await it.start()
        await it.until(lambda: plane.named)
        assert plane.named == [Tasks(tasks=(TWO,))]


async def test_a_worker_in_a_cluster_has_both_connections() -> None:
    async with world() as it:
        plane = await it.start()
        member = await DataPlaneClient.connect(it.path, node_id="n", cluster_id="c")
        assert await it.names.serve(ONE) == ""
        assert plane.configured
        async with asyncio.timeout(DEADLINE_S), contextlib.aclosing(member.events()) as events:
            for _ in range(2):
                assert not isinstance(await anext(events), TaskServed)
        await member.close()


async def test_the_newest_of_two_workers_is_answered() -> None:
    async with world() as it:
        await it.start()
        assert await it.names.serve(ONE) == ""
        later = TaskNames(it.path, clock=it.clock, rng=random.Random(2), wait_s=0.2)
        async with asyncio.TaskGroup() as tasks:
            life = tasks.create_task(later.run())
            await settle()
            assert await later.serve(TWO) == ""
            life.cancel()
