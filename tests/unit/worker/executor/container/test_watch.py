"""What is told of containers while the connection to containerd is made."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

from tests.support.clock import FakeClock, settle
from worker.containerd.types import Event, Exited, Process, ProcessStatus
from worker.executor.container.parts import Client
from worker.executor.container.watch import Watch
from worker.executor.protocol import Found
from worker.task.outcome import Exit


class SlowClient:
    """A containerd whose list of tasks is made at once and arrives when `arrives` is set."""

    def __init__(self, *processes: Process) -> None:
        self.processes = list(processes)
        self.asked = asyncio.Event()
        self.arrives = asyncio.Event()
        self.events = self.tasks = self

    @asynccontextmanager
    async def subscribe(self, _filter: str) -> AsyncIterator[AsyncIterator[Event]]:
        yield self._events()

    async def _events(self) -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        yield cast(Event, None)

    async def list(self) -> tuple[Process, ...]:
        found = tuple(self.processes)
        self.asked.set()
        await self.arrives.wait()
        return found


class Ear:
    def __init__(self) -> None:
        self.heard: list[Mapping[str, Found]] = []

    def inventory(self, found: Mapping[str, Found]) -> None:
        self.heard.append(found)

    def exited(self, task_id: str, ended: Exit) -> None:
        raise AssertionError("nothing ends")


async def describe(_task_id: str, exited: Exited) -> Exit:
    return Exit(exited.status, exited.at_s)


async def test_what_starts_while_the_inventory_is_on_its_way_is_in_it() -> None:
    client, ear = SlowClient(Process("old", "", 7, ProcessStatus.RUNNING, "", "", "", False, None)), Ear()
    watch = Watch(cast(Client, client), FakeClock(), random.Random(1), lambda pid: pid * 10, describe)
    watch.note("before", 6)  # of an earlier connection: containerd has lost it
    running = asyncio.ensure_future(watch.run(cast(Any, ear)))
    await client.asked.wait()
    watch.note("new", 8)
    watch.note("gone", 9)
    watch.forget("gone")
    client.arrives.set()
    await settle()
    running.cancel()
    [found] = ear.heard
    assert {name: (one.started.pid, one.started.start_time) for name, one in found.items()} == {
        "old": (7, 70),
        "new": (8, 80),
    }
