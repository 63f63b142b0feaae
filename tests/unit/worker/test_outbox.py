from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from swarmpy.api.v1 import dispatcher_pb2 as pb
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from tests.support.clock import FakeClock, settle
from worker.alarms import Alarms
from worker.logs.subscriptions import Chunk
from worker.outbox import MOST_CHUNKS, Outbox
from worker.reports import StatusReports

RUNNING = TaskStatus(state=TaskState.RUNNING)


@dataclass
class Desk:
    clock: FakeClock
    sent: list[pb.WorkerMessage] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.alarms = Alarms(self.clock)
        self.reports = StatusReports(self.alarms, lambda _: None)
        self.outbox = Outbox(self.reports, self.alarms, heartbeat_s=2.0)
        self.room = asyncio.Event()
        self.room.set()

    async def write(self, message: pb.WorkerMessage) -> None:
        await self.room.wait()
        self.sent.append(message)

    def kinds(self) -> list[str | None]:
        return [m.WhichOneof("message") for m in self.sent]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(FakeClock())
    async with asyncio.TaskGroup() as group:
        alarms = group.create_task(desk.alarms.run())
        desk.outbox.open()
        writer = group.create_task(desk.outbox.drain_to(desk.write))
        await settle()
        yield desk
        desk.outbox.close()
        alarms.cancel()
        writer.cancel()


async def test_what_matters_most_goes_first(desk: Desk) -> None:
    desk.room.clear()
    await desk.outbox.put_chunk(Chunk("first"))
    await settle()  # this one is being written
    await desk.outbox.put_chunk(Chunk("second"))
    await desk.clock.advance(2.0)
    desk.outbox.applied(4, ("busy",))
    desk.outbox.applied(5, ())
    desk.reports.put("a", RUNNING)
    desk.room.set()
    await settle()
    assert desk.kinds() == ["logs", "status", "endpoints_applied", "heartbeat", "logs"]
    assert desk.sent[2].endpoints_applied.revision == 5


async def test_heartbeats_come_at_their_period(desk: Desk) -> None:
    await desk.clock.advance(7.0)
    assert desk.kinds() == ["heartbeat"] * 3


async def test_logs_wait_for_room(desk: Desk) -> None:
    desk.room.clear()
    async with asyncio.TaskGroup() as group:
        putting = group.create_task(_put_all(desk.outbox, MOST_CHUNKS + 5))
        await settle()
        assert not putting.done()
        desk.room.set()
    await settle()
    assert desk.kinds() == ["logs"] * (MOST_CHUNKS + 5)


async def _put_all(outbox: Outbox, count: int) -> None:
    for number in range(count):
        await outbox.put_chunk(Chunk(str(number)))


async def test_the_end_comes_after_everything_else(desk: Desk) -> None:
    desk.reports.put("a", RUNNING)
    desk.outbox.end()
    await settle()
    assert desk.kinds() == ["status"]
    desk.outbox.applied(1, ())
    await settle()
    assert desk.kinds() == ["status"]  # the writer has returned
