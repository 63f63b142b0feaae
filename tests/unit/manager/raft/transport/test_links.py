"""A link ends when it is told to, whatever else happens to it at that moment."""

from __future__ import annotations

import asyncio
import random

import pytest

from manager.raft.transport.links import Link, Network
from manager.raft.types import Metadata
from swarmpy.errors import Code, SwarmError
from swarmpy.security.identity import Identity
from tests.support.clock import FakeClock
from tests.unit.manager.raft.transport.test_switchboard import Board


class BreakingLink(Link):
    """A link whose stream breaks while it is being cancelled: of the two, its group raises the failure."""

    def __init__(self) -> None:
        board = Board()
        super().__init__(
            Metadata("c1", 1), 2, "n2", ("127.0.0.1:1",), Network(_nobody), board, board.switchboard.hear_of,
            clock=FakeClock(), rng=random.Random(1),
        )  # fmt: skip
        self.serving = asyncio.Event()

    async def _serve(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_broken())
                self.serving.set()
                await asyncio.Event().wait()
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None


async def test_a_link_that_breaks_while_it_is_cancelled_ends() -> None:
    link = BreakingLink()
    running = asyncio.ensure_future(link.run())
    await link.serving.wait()
    running.cancel()
    done, _ = await asyncio.wait({running}, timeout=5.0)
    assert done == {running}
    assert running.cancelled()


async def _broken() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError as error:
        raise SwarmError(Code.UNAVAILABLE, "the stream broke") from error


def _nobody() -> Identity:
    pytest.fail("nobody is dialled")
