"""Leading: the loops run together, and only while it is our turn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from manager.leader import Leader
from manager.raft.types import Leadership
from swarmpy.errors import Code, SwarmError, not_found
from tests.support.clock import settle


class Recorded:
    """A loop that notes what happens to it."""

    def __init__(self, events: list[str], name: str, work: Callable[[], Awaitable[None]]) -> None:
        self._events, self._name, self._work = events, name, work

    async def run(self) -> None:
        self._events.append(f"{self._name} starts")
        try:
            await self._work()
        finally:
            self._events.append(f"{self._name} ends")


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def nothing() -> None:
    return


def leader(events: list[str], work: Callable[[], Awaitable[None]] = forever) -> Leader:
    return Leader(
        lambda: Recorded(events, "prepare", nothing),
        lambda: {"a": Recorded(events, "a", forever), "b": Recorded(events, "b", work)},
    )


def leads(yes: bool, term: int) -> Leadership:
    return Leadership(term=term, is_leader=yes, leader_id=1 if yes else 0)


async def test_loops_run_while_we_lead_after_what_prepares_them() -> None:
    events: list[str] = []
    leading = leader(events)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(leading.run())
        await settle()
        assert events == []
        leading.set_leadership(leads(True, 1))
        await settle()
        assert events == ["prepare starts", "prepare ends", "a starts", "b starts"]
        leading.set_leadership(leads(False, 2))
        await settle()
        assert sorted(events[4:]) == ["a ends", "b ends"]  # a group cancels its tasks in no promised order
        leading.set_leadership(leads(True, 3))
        await settle()
        assert events[6:] == ["prepare starts", "prepare ends", "a starts", "b starts"]
        assert (leading.is_leader, leading.term) == (True, 3)
        running.cancel()
    assert sorted(events[-2:]) == ["a ends", "b ends"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        # A process that ends with NOT_FOUND or the like is never started again: that is for its configuration.
        (not_found("a row is gone"), Code.INTERNAL),
        (SwarmError(Code.UNAVAILABLE, "no longer leader"), Code.INTERNAL),
        (SwarmError(Code.CORRUPT, "an entry cannot be read"), Code.CORRUPT),
    ],
)
async def test_the_first_loop_that_fails_ends_them_all(error: SwarmError, code: Code) -> None:
    async def fail() -> None:
        raise error

    events: list[str] = []
    leading = leader(events, fail)
    leading.set_leadership(leads(True, 1))
    with pytest.raises(ExceptionGroup) as raised:
        await leading.run()
    (failure,) = raised.value.exceptions
    assert isinstance(failure, SwarmError)
    assert failure.code is code
    assert error.message in failure.message
    assert "a ends" in events


async def test_a_loop_that_returns_is_a_bug() -> None:
    leading = leader([], nothing)
    leading.set_leadership(leads(True, 1))
    with pytest.raises(ExceptionGroup) as raised:
        await leading.run()
    assert isinstance(raised.value.exceptions[0], AssertionError)


async def test_a_manager_that_is_not_alone_hands_the_lead_over_and_goes_on() -> None:
    async def fail() -> None:
        raise SwarmError(Code.INTERNAL, "a loop's bug")

    handed_over: list[int] = []

    async def hand_over() -> bool:
        handed_over.append(leading.term)
        return True

    events: list[str] = []
    work = [fail, forever]
    leading = Leader(
        lambda: Recorded(events, "prepare", nothing), lambda: {"a": Recorded(events, "a", work.pop(0))}, hand_over
    )
    async with asyncio.TaskGroup() as group:
        running = group.create_task(leading.run())
        leading.set_leadership(leads(True, 1))
        await settle()
        assert handed_over == [1]
        leading.set_leadership(leads(False, 2))
        leading.set_leadership(leads(True, 3))
        await settle()
        assert events[-2:] == ["prepare ends", "a starts"]
        assert handed_over == [1]
        running.cancel()


async def test_what_fails_after_the_lead_is_lost_is_no_failure() -> None:
    gone = asyncio.Event()

    async def write() -> None:
        await gone.wait()
        raise SwarmError(Code.NOT_LEADER, "lost the lead")

    leading = leader([], write)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(leading.run())
        leading.set_leadership(leads(True, 1))
        await settle()
        leading.set_leadership(leads(False, 2))
        gone.set()
        await settle()
        assert not running.done()
        running.cancel()
