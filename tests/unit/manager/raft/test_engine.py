"""The Raft thread itself: what comes before it runs waits for it, and what fails in it is told."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from manager.raft.engine import Engine
from manager.raft.handoff import Handoff
from manager.raft.items import Ask, Ended, Handed, Item, Outbound, Proposal, Stop
from manager.raft.node import RaftNode
from manager.raft.outlet import Delivery
from manager.raft.transport.switchboard import Answer
from manager.raft.types import Leadership
from tests.support.clock import FakeClock
from tests.support.disk import FakeDisk
from tests.support.raft_member import HERE, ME, SMALL, new_log


class Run:
    """One life of an engine with an only member; `said` is what it handed to the main loop."""

    def __init__(self) -> None:
        disk = FakeDisk()
        new_log(disk)
        self.node = RaftNode.open(disk, HERE, ME, SMALL, rng=random.Random(1))
        self.said: list[Outbound] = []
        self.handed_index = 0
        self._ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._to_main: Handoff[Outbound] = Handoff(asyncio.get_running_loop(), self._take)
        answers: Handoff[Answer] = Handoff(asyncio.get_running_loop(), lambda: None)
        self._files = ThreadPoolExecutor(1)
        self.engine = Engine(
            self.node, ME, self._to_main, answers, network=None, clock=FakeClock(), rng=random.Random(1),
            file_thread=self._files, tick_s=1.0, max_frame_bytes=1 << 20,
        )  # fmt: skip

    def _take(self) -> None:
        while (item := self._to_main.pop()) is not None:
            self.said.append(item)
            if isinstance(item, Ended):
                self._ended.set_result(item)

    async def with_items(self, *items: Item) -> Exception | None:
        """Post `items` before the thread runs, and return what it ended with."""
        for item in items:
            self.engine.inbox.post(item)
        await asyncio.to_thread(self.engine.run)
        ended = await self._ended
        self.engine.close()
        self._files.shutdown()
        return ended.error


async def test_what_comes_before_the_thread_runs_waits_for_the_node_to_start() -> None:
    run = Run()
    led: list[bool] = []
    error = await run.with_items(Ask(lambda node: led.append(node.leads)), Stop())
    assert error is None
    assert led == [True]
    told = [item.delivery.leadership for item in run.said if isinstance(item, Handed)]
    assert Leadership(is_leader=True, term=1, leader_id=7) in told


def explode(_node: RaftNode) -> None:
    raise ValueError("boom")


@pytest.mark.parametrize("item", [Ask(explode)])
async def test_what_fails_on_the_thread_is_told(item: Item) -> None:
    error = await Run().with_items(item, Stop())
    assert isinstance(error, ValueError)


async def test_what_comes_from_the_streams_while_a_frame_is_made_waits() -> None:
    run = Run()
    order: list[str] = []

    def nested(name: str) -> Callable[[RaftNode], None]:
        return lambda _node: order.append(name)

    def outer(_node: RaftNode) -> None:
        run.engine.inbox.put(Ask(nested("inner")))
        order.append("outer")

    assert await run.with_items(Ask(outer), Ask(nested("next")), Stop()) is None
    assert order[:2] == ["outer", "next"], "nothing happens within something else"


async def test_what_came_is_taken_before_a_long_log_is_handed_out() -> None:
    """The first look at the inbox comes after one hand-out, not after all of them."""
    run, left = Run(), list[int]()
    handed = run.engine.deliver

    def deliver(delivery: Delivery) -> None:
        handed(delivery)
        status = run.node.status()
        if len(delivery.entries) > 1 and not left:
            left.append(0)
            run.engine.inbox.put(Ask(lambda node: left.append(status.commit_index - run.handed_index)))
        if delivery.last_index == status.last_index > 1000:
            run.engine.inbox.put(Stop())
        run.handed_index = max(run.handed_index, delivery.last_index)

    run.engine.deliver = deliver  # type: ignore[method-assign]  # the node's outlet, overheard
    assert await run.with_items(*(Proposal(b"x", object()) for _ in range(1000))) is None
    assert left[1] > 800
