"""The manager process runs where the certificate says so, whatever was lost on the way."""

from __future__ import annotations

from swarmpy.errors import Code, SwarmError
from swarmpy.model.states import NodeRole
from tests.support.clock import FakeClock, settle
from tests.support.cluster import leading
from worker.duty import RETRY_S, Duty


class FakeManager:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.failures: list[Exception] = []
        self.role = NodeRole.WORKER

    async def run(self) -> None:
        await self._note("run")

    async def forget(self) -> None:
        await self._note("forget")

    async def _note(self, call: str) -> None:
        self.calls.append(call)
        if self.failures:
            raise self.failures.pop(0)


def duty_of(manager: FakeManager, clock: FakeClock) -> Duty:
    return Duty(manager, lambda: manager.role, clock)


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
    manager.failures = [SwarmError(Code.UNAVAILABLE, "the supervisor is away"), TimeoutError()]
    async with leading(duty_of(manager, clock)):
        await clock.advance(10 * RETRY_S)
    assert manager.calls == ["run"] * 3
