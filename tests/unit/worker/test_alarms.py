from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.clock import FakeClock
from worker.alarms import Alarms


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def alarms(clock: FakeClock) -> AsyncIterator[Alarms]:
    alarms = Alarms(clock)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(alarms.run())
        yield alarms
        running.cancel()


async def test_alarms_fire_in_order_and_not_before(alarms: Alarms, clock: FakeClock) -> None:
    fired: list[str] = []
    alarms.after(2.0, lambda: fired.append("second"))
    alarms.after(1.0, lambda: fired.append("first"))
    await clock.advance(0.9)
    assert fired == []
    await clock.advance(0.1)
    assert fired == ["first"]
    await clock.advance(5.0)
    assert fired == ["first", "second"]


async def test_an_earlier_alarm_wakes_a_later_sleep(alarms: Alarms, clock: FakeClock) -> None:
    fired: list[str] = []
    alarms.after(100.0, lambda: fired.append("late"))
    await clock.advance(1.0)
    alarms.after(1.0, lambda: fired.append("early"))
    await clock.advance(1.0)
    assert fired == ["early"]


async def test_a_cancelled_alarm_is_silent(alarms: Alarms, clock: FakeClock) -> None:
    fired: list[str] = []
    alarms.after(1.0, lambda: fired.append("no")).cancel()
    await clock.advance(2.0)
    assert fired == []


async def test_an_alarm_may_set_the_next(alarms: Alarms, clock: FakeClock) -> None:
    fired: list[float] = []

    def again() -> None:
        fired.append(clock.monotonic())
        alarms.after(1.0, again)

    alarms.after(1.0, again)
    await clock.advance(3.5)
    assert len(fired) == 3
