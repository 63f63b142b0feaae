from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from swarmpy.model.spec import LogDriver
from tests.support.clock import FakeClock, settle
from worker.logs import subscriptions as module
from worker.logs.format import LogLine, Stream
from worker.logs.store import LogStore
from worker.logs.subscriptions import MOST_BYTES, MOST_LINES, Chunk, Subscription, Subscriptions, parts


@dataclass
class Desk:
    directory: Path
    group: asyncio.TaskGroup
    live: set[str] = field(default_factory=set)
    sent: list[Chunk] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = LogStore(self.directory, FakeClock())
        self.room = asyncio.Event()
        self.room.set()
        self.subscriptions = Subscriptions(self.store, self.live.__contains__, self.send, self.group)

    async def send(self, chunk: Chunk) -> None:
        await self.room.wait()
        self.sent.append(chunk)

    async def prints(self, task_id: str, text: str) -> None:
        log = self.store.get(task_id)
        if log is None:
            (self.directory / task_id).mkdir()
            log = self.store.open(task_id, LogDriver())
            self.live.add(task_id)
        descriptor = os.open(log.fifo(Stream.STDOUT), os.O_WRONLY)
        os.write(descriptor, text.encode())
        os.close(descriptor)
        await settle()

    async def ends(self, task_id: str) -> None:
        self.live.discard(task_id)
        self.store.finish(task_id)
        await settle()

    def text(self, subscription_id: str = "s") -> str:
        chunks = [c for c in self.sent if c.subscription_id == subscription_id]
        return b"".join(line.data for c in chunks for line in c.lines).decode()

    def done(self, subscription_id: str = "s") -> bool:
        return any(c.done for c in self.sent if c.subscription_id == subscription_id)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as group:
        desk = Desk(tmp_path, group)
        yield desk
        desk.subscriptions.close()
    desk.store.close()


async def test_what_there_is_is_sent_and_then_done(desk: Desk) -> None:
    await desk.prints("a", "one\ntwo\n")
    desk.subscriptions.start(Subscription("s", ("a",)))
    await settle()
    assert (desk.text(), desk.done()) == ("one\ntwo\n", True)
    desk.subscriptions.start(Subscription("t", ("a",), tail=1))
    await settle()
    assert desk.text("t") == "two\n"


async def test_following_ends_with_the_task(desk: Desk) -> None:
    await desk.prints("a", "one\n")
    desk.subscriptions.start(Subscription("s", ("a",), follow=True, tail=0))
    await settle()
    await desk.prints("a", "two\n")
    assert (desk.text(), desk.done()) == ("two\n", False)
    await desk.prints("a", "last words")
    await desk.ends("a")
    assert (desk.text(), desk.done()) == ("two\nlast words\n", True)


async def test_a_task_that_is_not_prepared_yet_is_waited_for(desk: Desk) -> None:
    desk.live.add("a")
    desk.subscriptions.start(Subscription("s", ("a",), follow=True))
    await settle()
    assert not desk.done()
    await desk.prints("a", "one\n")
    assert desk.text() == "one\n"
    await desk.ends("a")
    assert desk.done()


async def test_a_task_that_is_not_here_is_said(desk: Desk) -> None:
    desk.subscriptions.start(Subscription("s", ("x",), follow=True))
    await settle()
    assert desk.sent == [
        Chunk("s", "x", problem="task x has no log on this node"),
        Chunk("s", done=True),
    ]


async def test_tasks_may_join_a_subscription(desk: Desk) -> None:
    await desk.prints("a", "from a\n")
    desk.subscriptions.start(Subscription("s", ("a",), follow=True))
    await settle()
    await desk.prints("b", "from b\n")
    desk.subscriptions.start(Subscription("s", ("a", "b"), follow=True))
    await settle()
    assert desk.text() == "from a\nfrom b\n"
    await desk.ends("a")
    assert not desk.done()
    await desk.ends("b")
    assert desk.done()


async def test_a_cancelled_subscription_is_silent(desk: Desk) -> None:
    await desk.prints("a", "one\n")
    desk.subscriptions.start(Subscription("s", ("a",), follow=True))
    await settle()
    desk.subscriptions.cancel("s")
    desk.subscriptions.cancel("unknown")
    await desk.prints("a", "two\n")
    assert (desk.text(), desk.done()) == ("one\n", False)


async def test_a_slow_reader_is_waited_for_not_buffered(desk: Desk) -> None:
    await desk.prints("a", "x\n" * (MOST_LINES * 3))
    desk.room.clear()
    desk.subscriptions.start(Subscription("s", ("a",)))
    await settle()
    assert desk.sent == []
    desk.room.set()
    await settle()
    assert desk.text() == "x\n" * (MOST_LINES * 3)
    assert all(len(c.lines) <= MOST_LINES for c in desk.sent)


async def test_too_many_subscriptions_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SUBSCRIPTIONS", 1)
    desk.live.add("a")
    desk.subscriptions.start(Subscription("first", ("a",), follow=True))
    desk.subscriptions.start(Subscription("second", ("a",), follow=True))
    await settle()
    assert desk.done("second")
    assert not desk.done("first")


def test_parts_are_bounded() -> None:
    lines = [LogLine(0.0, Stream.STDOUT, b"x" * 1000) for _ in range(300)]
    cut = list(parts(lines))
    assert [line for part in cut for line in part] == lines
    assert all(sum(len(line.data) for line in part) <= MOST_BYTES for part in cut)
    assert list(parts([LogLine(0.0, Stream.STDOUT, b"x" * (MOST_BYTES + 1))])) != []
