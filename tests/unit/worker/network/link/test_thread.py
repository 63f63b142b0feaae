"""The links' own thread, with links that only say who called them."""

from __future__ import annotations

import asyncio
import threading
from typing import cast

import pytest

from swarmpy.errors import SwarmError, invalid
from worker.network.link.links import Links
from worker.network.link.thread import LinkThread


class Calls:
    """Stands for links, and notes what is called where."""

    def __init__(self) -> None:
        self.made = threading.get_ident()
        self.noted: list[tuple[str, int]] = []
        self.gate = threading.Event()
        self.closed = False

    def note(self, what: str) -> str:
        self.noted.append((what, threading.get_ident()))
        return what

    def wait(self) -> None:
        self.gate.wait(10)

    def refuse(self) -> None:
        raise invalid("no such thing")

    def close(self) -> None:
        self.closed = True


def note(links: Links, what: str) -> str:
    return cast(Calls, links).note(what)


async def test_calls_are_made_in_order_on_one_thread_that_is_not_ours() -> None:
    calls = Calls()
    async with LinkThread(lambda: cast(Links, calls)) as thread:
        assert await asyncio.gather(*(thread.call(note, str(n)) for n in range(20))) == [str(n) for n in range(20)]
    assert [what for what, _ in calls.noted] == [str(n) for n in range(20)]
    assert len({ident for _, ident in calls.noted}) == 1
    assert calls.noted[0][1] != threading.get_ident()
    assert calls.closed


async def test_what_is_cancelled_before_its_turn_is_not_made() -> None:
    calls = Calls()
    async with LinkThread(lambda: cast(Links, calls)) as thread, asyncio.TaskGroup() as group:
        busy = group.create_task(thread.call(lambda links: cast(Calls, links).wait()))
        waiting = group.create_task(thread.call(note, "never"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        calls.gate.set()
        await busy
    assert calls.noted == []


async def test_errors_come_to_the_caller() -> None:
    calls = Calls()
    async with LinkThread(lambda: cast(Links, calls)) as thread:
        with pytest.raises(SwarmError, match="no such thing"):
            await thread.call(lambda links: cast(Calls, links).refuse())
        assert await thread.call(note, "goes on") == "goes on"


async def test_links_that_cannot_be_opened() -> None:
    def refuse() -> Links:
        raise invalid("not root")

    with pytest.raises(SwarmError, match="not root"):
        async with LinkThread(refuse):
            raise AssertionError("entered")
