"""Who waits on the main loop: bounds, rounds that are shared, and that nobody is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from manager.raft.pending import Barriers, Future, Pending
from swarmpy.errors import Code, SwarmError

ERROR = SwarmError(Code.UNAVAILABLE, "stopping")


async def test_too_much_at_once_is_refused() -> None:
    pending = Pending(most=2, most_bytes=100)
    pending.check(500)
    first = pending.new(500)
    with pytest.raises(SwarmError) as caught:
        pending.check(1)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED and caught.value.retryable
    pending.settle(first, 7)
    assert await first == 7
    pending.check(1)


async def test_all_are_told_of_the_end() -> None:
    pending = Pending(most=5, most_bytes=100)
    waiters = [pending.new() for _ in range(3)]
    waiters[0].cancel()
    pending.fail_all(ERROR)
    for waiter in waiters[1:]:
        with pytest.raises(SwarmError, match="stopping"):
            await waiter
    pending.check(100)


class Asked:
    def __init__(self) -> None:
        self.rounds: list[Future] = []
        self.refusal: SwarmError | None = None

    def ask(self) -> Future:
        if self.refusal is not None:
            raise self.refusal
        self.rounds.append(asyncio.get_running_loop().create_future())
        return self.rounds[-1]


async def test_waits_that_come_meanwhile_share_the_next_round() -> None:
    asked = Asked()
    barriers = Barriers(asked.ask)
    first = asyncio.ensure_future(barriers.wait())
    await asyncio.sleep(0)
    others = [asyncio.ensure_future(barriers.wait()) for _ in range(10)]
    await asyncio.sleep(0)
    assert len(asked.rounds) == 1
    asked.rounds[0].set_result(None)
    await first
    assert len(asked.rounds) == 2
    assert not any(other.done() for other in others), "their round began after the first one's"
    asked.rounds[1].set_result(None)
    await asyncio.gather(*others)


async def test_a_round_that_fails_fails_its_waits_only() -> None:
    asked = Asked()
    barriers = Barriers(asked.ask)
    first = asyncio.ensure_future(barriers.wait())
    await asyncio.sleep(0)
    second = asyncio.ensure_future(barriers.wait())
    await asyncio.sleep(0)
    asked.rounds[0].set_exception(ERROR)
    with pytest.raises(SwarmError):
        await first
    asked.refusal = ERROR
    asked.rounds[1].set_result(None)
    await second
    with pytest.raises(SwarmError, match="stopping"):
        await barriers.wait()


async def test_a_wait_that_is_cancelled_leaves_the_round_to_the_others() -> None:
    asked = Asked()
    barriers = Barriers(asked.ask)
    waits = [asyncio.ensure_future(barriers.wait()) for _ in range(2)]
    await asyncio.sleep(0)
    waits[0].cancel()
    asked.rounds[0].set_result(None)
    await asyncio.sleep(0)
    asked.rounds[1].set_result(None)
    await waits[1]
