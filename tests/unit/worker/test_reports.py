from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from tests.support.clock import FakeClock
from worker.alarms import Alarms
from worker.reports import LARGEST_BATCH, PASSING_DELAY_S, StatusReports

RUNNING = TaskStatus(state=TaskState.RUNNING)
PREPARING = TaskStatus(state=TaskState.PREPARING)
FAILED = TaskStatus(state=TaskState.FAILED)


@dataclass
class Desk:
    clock: FakeClock
    acknowledged: list[str] = field(default_factory=list)
    wakes: int = 0

    def __post_init__(self) -> None:
        self.alarms = Alarms(self.clock)
        self.reports = StatusReports(self.alarms, self.acknowledged.append)
        self.reports.wake = self.woken

    def woken(self) -> None:
        self.wakes += 1


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(FakeClock())
    async with asyncio.TaskGroup() as group:
        running = group.create_task(desk.alarms.run())
        yield desk
        running.cancel()


async def test_what_people_wait_for_goes_at_once(desk: Desk) -> None:
    desk.reports.put("a", RUNNING)
    assert desk.wakes == 1
    assert desk.reports.take() == (1, {"a": RUNNING})


async def test_a_passing_state_waits_and_is_overtaken(desk: Desk) -> None:
    desk.reports.put("a", PREPARING)
    assert (desk.wakes, desk.reports.take()) == (0, None)
    desk.reports.put("a", RUNNING)
    assert desk.reports.take() == (1, {"a": RUNNING})


async def test_a_passing_state_that_lasts_is_reported(desk: Desk) -> None:
    desk.reports.put("a", PREPARING)
    await desk.clock.advance(PASSING_DELAY_S)
    assert desk.wakes == 1
    assert desk.reports.take() == (1, {"a": PREPARING})


async def test_one_batch_is_in_flight_and_newer_statuses_replace_older(desk: Desk) -> None:
    desk.reports.put("a", RUNNING)
    desk.reports.take()
    desk.reports.put("a", FAILED)
    desk.reports.put("b", RUNNING)
    desk.reports.put("b", FAILED)
    assert desk.reports.take() is None
    desk.reports.acknowledge(1)
    assert desk.acknowledged == []
    assert desk.reports.take() == (2, {"a": FAILED, "b": FAILED})
    desk.reports.acknowledge(2)
    assert desk.acknowledged == ["a", "b"]


async def test_a_new_session_sends_again_what_was_not_acknowledged(desk: Desk) -> None:
    desk.reports.put("a", RUNNING)
    desk.reports.put("b", RUNNING)
    desk.reports.take()
    desk.reports.put("b", FAILED)
    desk.reports.restart()
    assert desk.reports.take() == (1, {"a": RUNNING, "b": FAILED})


async def test_an_acknowledgement_of_an_older_batch_means_nothing(desk: Desk) -> None:
    desk.reports.put("a", RUNNING)
    desk.reports.take()
    desk.reports.acknowledge(0)
    assert desk.acknowledged == []
    assert not desk.reports.is_acknowledged("a")
    desk.reports.acknowledge(1)
    assert desk.reports.is_acknowledged("a")


async def test_a_large_batch_is_cut(desk: Desk) -> None:
    for number in range(LARGEST_BATCH + 1):
        desk.reports.put(str(number), RUNNING)
    first = desk.reports.take()
    assert first is not None
    assert len(first[1]) == LARGEST_BATCH
    desk.reports.acknowledge(1)
    assert desk.reports.take() == (2, {str(LARGEST_BATCH): RUNNING})


async def test_a_forgotten_task_is_not_reported(desk: Desk) -> None:
    desk.reports.put("a", RUNNING)
    desk.reports.forget("a")
    assert desk.reports.take() is None
