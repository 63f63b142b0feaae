"""The manager process runs where the certificate says so, whatever was lost on the way."""

from __future__ import annotations

import asyncio

from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading
from worker.duty import RETRY_S, Duty


class FakeManager:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: list[Exception] = []
        self.fails_at: set[str] = set()
        self.role = NodeRole.WORKER
        self.lock = asyncio.Lock()

    async def run(self) -> None:
        await self._note("run")

    async def forget(self) -> None:
        await self._note("forget")

    async def _note(self, call: str) -> None:
        assert self.lock.locked(), "nothing else starts or stops it meanwhile"
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)
        if call in self.fails_at:
            raise SwarmError(Code.UNAVAILABLE, "the supervisor is away")


def duty_of(manager: FakeManager, clock: FakeClock) -> Duty:
    return Duty(manager, lambda: manager.role, clock, manager.lock)


async def test_what_a_worker_that_died_had_not_said_is_said_at_its_next_start() -> None:
    for role, call in ((NodeRole.MANAGER, "run"), (NodeRole.WORKER, "forget")):
        manager, clock = FakeManager(), FakeClock()
        manager.role = role
        async with leading(duty_of(manager, clock)):
            await clock.advance(100.0)
        assert manager.calls == [call]


async def test_a_change_of_the_role_is_carried_out() -> None:
    manager, clock = FakeManager(), FakeClock()
    duty = duty_of(manager, clock)
    async with leading(duty):
        for role in (NodeRole.MANAGER, NodeRole.WORKER):
            manager.role = role
            duty.look()
            await settle()
    assert manager.calls == ["forget", "run", "forget"]


async def test_what_fails_is_tried_again() -> None:
    manager, clock = FakeManager(), FakeClock()
    manager.role = NodeRole.MANAGER
    manager.failures = [SwarmError(Code.UNAVAILABLE, "the supervisor is away")] * 2
    async with leading(duty_of(manager, clock)):
        await clock.advance(10 * RETRY_S)
    assert manager.calls == ["run"] * 3


async def test_one_that_is_to_begin_anew_forgets_and_runs_again_however_often_that_fails() -> None:
    manager, clock = FakeManager(), FakeClock()
    duty = duty_of(manager, clock)
    manager.role = NodeRole.MANAGER
    async with leading(duty):
        await clock.advance(RETRY_S)
        failure = SwarmError(Code.UNAVAILABLE, "the supervisor is away")
        manager.failures = [failure]
        duty.begin_anew()
        await clock.advance(10 * RETRY_S)
        assert manager.calls == ["run", "forget", "forget", "run"]
        duty.look()
        await settle()
    assert manager.calls[4:] == ["run"], "once is enough"


async def test_one_that_forgot_and_did_not_run_yet_is_run() -> None:
    manager, clock = FakeManager(), FakeClock()
    duty = duty_of(manager, clock)
    manager.role = NodeRole.MANAGER
    manager.fails_at = {"run"}
    await manager.lock.acquire()  # somebody else is at it
    async with leading(duty):
        duty.begin_anew()
        await settle()
        assert manager.calls == []
        manager.lock.release()
        await clock.advance(RETRY_S / 2)
        assert manager.calls == ["forget", "run"]
        manager.fails_at = set()
        await clock.advance(RETRY_S)
    assert manager.calls == ["forget", "run", "run"]
