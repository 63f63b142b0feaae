"""A manager that was let go while it was away finds out, and one that was not is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from swarmpy.model.states import NodeRole
from tests.support.clock import FakeClock
from worker.standing import RETRY_S, Standing, StandingWatch, is_let_go

AGAIN = Standing(NodeRole.MANAGER, member_id=0, next_member_id=4)


@pytest.mark.parametrize(
    ("own_id", "standing", "expected"),
    [
        pytest.param(3, Standing(NodeRole.MANAGER, 3, 4), False, id="it is who it should be"),
        pytest.param(3, AGAIN, True, id="it was let go"),
        pytest.param(3, Standing(NodeRole.MANAGER, 5, 6), True, id="it was let go, and has come back as another"),
        pytest.param(4, AGAIN, False, id="it has come since"),
        pytest.param(0, AGAIN, False, id="it is about to join"),
        pytest.param(3, Standing(NodeRole.MANAGER), False, id="an older manager says nothing of members"),
    ],
)
def test_who_was_let_go(own_id: int, standing: Standing, expected: bool) -> None:
    assert is_let_go(own_id, standing) is expected


class Scripted:
    """A manager process that answers with one id after the other, the last one for ever."""

    def __init__(self, *ids: int | None) -> None:
        self.ids = list(ids)
        self.asked = self.begun_anew = 0
        self.clock = FakeClock()
        self.watch = StandingWatch(self.clock, self._own_id, self._begin_anew)

    async def _own_id(self) -> int | None:
        self.asked += 1
        return self.ids.pop(0) if len(self.ids) > 1 else self.ids[0]

    def _begin_anew(self) -> None:
        self.begun_anew += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.watch.run())
        yield
        task.cancel()
        await asyncio.wait([task])


async def test_one_that_was_let_go_begins_anew_once() -> None:
    manager = Scripted(3)
    async with manager.running():
        manager.watch.tell(AGAIN)
        await manager.clock.advance(10 * RETRY_S)
    assert manager.begun_anew == 1


async def test_one_that_does_not_answer_is_asked_again() -> None:
    manager = Scripted(None, None, 3)
    async with manager.running():
        manager.watch.tell(AGAIN)
        await manager.clock.advance(0.0)
        assert (manager.asked, manager.begun_anew) == (1, 0)
        await manager.clock.advance(RETRY_S)
        await manager.clock.advance(RETRY_S)
    assert (manager.asked, manager.begun_anew) == (3, 1)


async def test_a_worker_has_no_manager_to_ask() -> None:
    manager = Scripted(3)
    async with manager.running():
        manager.watch.tell(Standing(NodeRole.WORKER, 0, 4))
        await manager.clock.advance(RETRY_S)
    assert (manager.asked, manager.begun_anew) == (0, 0)


async def test_the_newest_word_counts() -> None:
    manager = Scripted(None, 3)
    async with manager.running():
        manager.watch.tell(AGAIN)
        await manager.clock.advance(0.0)
        manager.watch.tell(Standing(NodeRole.MANAGER, 3, 4))
        await manager.clock.advance(RETRY_S)
    assert manager.begun_anew == 0
