"""Withdrawn tasks on networks are not stopped while somebody is connected to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from swarmpy.model.network import NetworkRow
from swarmpy.model.states import TaskState
from swarmpy.model.task import TaskStatus
from tests.support.clock import FakeClock, settle
from tests.support.dispatcher import service_version
from worker.assignments import Assignment, OnNetwork
from worker.task.draining import LOOK_S, QUIET_LOOKS, Draining
from worker.task.held import Held

WITHDRAWN_AT = 7
ENOUGH_S = LOOK_S * (QUIET_LOOKS + 1)


def held(task_id: str = "t1", *, networks: bool = True) -> Held:
    version = service_version(name="web")
    one = (OnNetwork(row=NetworkRow(id="front"), address="10.0.1.5"),) if networks else ()
    assignment = Assignment(
        id=task_id,
        service_id=version.service_id,
        slot=1,
        version=version,
        desired_state=TaskState.SHUTDOWN,
        withdrawn_at=WITHDRAWN_AT,
        networks=one,
    )
    return Held(assignment, TaskStatus(state=TaskState.RUNNING), "boot", was_ready=True)


class Desk:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.count = 0
        self.asked = 0
        self.fails = False
        self.poked: list[str] = []
        self.draining = Draining(self.connections, self.clock, lambda one: self.poked.append(one.id))

    async def connections(self, task_ids: Sequence[str]) -> Mapping[str, int]:
        self.asked += len(task_ids)
        return {} if self.fails else dict.fromkeys(task_ids, self.count)

    def is_drained(self, one: Held) -> bool:
        return one.facts(settled=self.draining.settled, busy=self.draining.busy).drained


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(desk.draining.run())
        await settle()
        yield desk
        running.cancel()


async def test_nobody_looks_before_every_node_has_let_go(desk: Desk) -> None:
    one = held()
    desk.draining.add(one)
    await desk.clock.advance(1.0)
    desk.draining.settle(WITHDRAWN_AT, [one.id])
    await desk.clock.advance(1.0)
    assert desk.asked == 0
    assert not desk.is_drained(one)


async def test_a_task_is_quiet_after_some_looks_without_a_connection(desk: Desk) -> None:
    one = held()
    desk.count = 1
    desk.draining.add(one)
    desk.draining.settle(WITHDRAWN_AT, [])
    await desk.clock.advance(1.0)
    assert not desk.is_drained(one)
    desk.count = 0
    await desk.clock.advance(ENOUGH_S)
    assert desk.is_drained(one)
    assert desk.poked[-1] == one.id
    asked = desk.asked
    await desk.clock.advance(1.0)
    assert desk.asked == asked


async def test_one_connection_begins_the_count_anew(desk: Desk) -> None:
    one = held()
    desk.draining.add(one)
    desk.draining.settle(WITHDRAWN_AT, [])
    await settle()
    desk.count = 1
    await desk.clock.advance(LOOK_S)
    desk.count = 0
    await desk.clock.advance(LOOK_S)
    assert not one.quiet
    await desk.clock.advance(LOOK_S)
    assert one.quiet


async def test_a_task_on_no_network_is_not_looked_at(desk: Desk) -> None:
    one = held(networks=False)
    desk.draining.add(one)
    desk.draining.settle(WITHDRAWN_AT, [])
    await desk.clock.advance(1.0)
    assert desk.asked == 0
    assert desk.is_drained(one)


async def test_a_task_that_cannot_be_looked_at_waits_for_its_drain_timeout(desk: Desk) -> None:
    one = held()
    desk.fails = True
    desk.draining.add(one)
    desk.draining.settle(WITHDRAWN_AT, [])
    await desk.clock.advance(1.0)
    assert not desk.is_drained(one)
    one.signalled_s = desk.clock.monotonic()
    await desk.clock.advance(LOOK_S)
    asked = desk.asked
    await desk.clock.advance(1.0)
    assert desk.asked == asked


async def test_a_task_that_is_wanted_again_or_gone_is_not_asked_about(desk: Desk) -> None:
    wanted, gone = held("wanted"), held("gone")
    for one in (wanted, gone):
        desk.draining.add(one)
    desk.draining.discard(wanted.id)
    gone.status = TaskStatus(state=TaskState.SHUTDOWN)
    desk.draining.settle(WITHDRAWN_AT, [])
    await desk.clock.advance(1.0)
    assert desk.asked == 0
    assert desk.poked == []
