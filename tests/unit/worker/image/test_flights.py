"""Work that many ask for and one does."""

from __future__ import annotations

import asyncio

import pytest

from swarmpy.errors import SwarmError, invalid, not_found
from tests.support.clock import settle
from worker.image.flights import Flights


class Work:
    """Work that a test lets go on; counts how often it was begun."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Event()
        self.failures: list[SwarmError] = []

    async def __call__(self) -> int:
        self.begun += 1
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        return self.begun


async def test_one_works_and_all_get_the_result() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    asked = [asyncio.ensure_future(flights.run("key", work)) for _ in range(5)]
    await settle()
    work.go.set()
    assert await asyncio.gather(*asked) == [1] * 5
    assert await flights.run("key", work) == 2, "what is over is not remembered"


async def test_other_keys_are_other_work() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    work.go.set()
    assert sorted(await asyncio.gather(flights.run(1, work), flights.run(2, work))) == [1, 2]


async def test_when_the_worker_is_cancelled_one_of_the_others_takes_over() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    first, second, third = (asyncio.ensure_future(flights.run("key", work)) for _ in range(3))
    await settle()
    first.cancel()
    await settle()
    assert work.begun == 2
    work.go.set()
    assert (await second, await third) == (2, 2)
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_who_waits_may_leave() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    first, second = (asyncio.ensure_future(flights.run("key", work)) for _ in range(2))
    await settle()
    second.cancel()
    await settle()
    assert second.cancelled()
    work.go.set()
    assert await first == 1


async def test_a_failure_is_everybodys() -> None:
    flights: Flights[int] = Flights()
    work = Work()
    work.failures = [invalid("no")]
    asked = [asyncio.ensure_future(flights.run("key", work)) for _ in range(3)]
    await settle()
    work.go.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(error) for error in found] == ["no"] * 3
    assert work.begun == 1


async def test_a_failure_that_is_not_shared_has_the_next_one_try() -> None:
    flights: Flights[int] = Flights(share_failures=False)
    work = Work()
    work.failures = [not_found("mine"), not_found("yours")]
    asked = [asyncio.ensure_future(flights.run("key", work)) for _ in range(3)]
    await settle()
    work.go.set()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(result) for result in found] == ["mine", "yours", "3"]


async def test_a_bug_is_not_everybodys() -> None:
    flights: Flights[int] = Flights()
    work = Work()

    async def broken() -> int:
        await work.go.wait()
        raise ZeroDivisionError

    first = asyncio.ensure_future(flights.run("key", broken))
    await settle()
    second = asyncio.ensure_future(flights.run("key", work))
    await settle()
    work.go.set()
    with pytest.raises(ZeroDivisionError):
        await first
    assert await second == 1
