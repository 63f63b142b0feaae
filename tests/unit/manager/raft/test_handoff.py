"""A lane to a loop: one wake-up for all that comes, and none while it rests."""

from __future__ import annotations

import asyncio

from manager.raft.handoff import Handoff


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_at_once_shares_a_wake_up() -> None:
    calls: list[int] = []
    lane: Handoff[int] = Handoff(asyncio.get_running_loop(), lambda: calls.append(len(lane)))
    for number in range(3):
        lane.post(number)
    await turns(5)
    assert calls == [3]


async def test_nothing_wakes_a_lane_that_rests_and_nothing_is_forgotten() -> None:
    taken: list[int] = []
    woken = asyncio.Event()

    def receive() -> None:
        while (item := lane.pop()) is not None:
            taken.append(item)
        woken.set()

    lane: Handoff[int] = Handoff(asyncio.get_running_loop(), receive)
    lane.post(1)  # its wake-up is on its way already
    lane.rest(0.01)
    lane.post(2)
    lane.again()
    await turns(5)
    assert taken == []
    await asyncio.wait_for(woken.wait(), 10)
    assert taken == [1, 2]
    lane.post(3)
    await turns(5)
    assert taken == [1, 2, 3]
