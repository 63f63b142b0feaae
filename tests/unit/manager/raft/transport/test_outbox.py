"""What waits to be sent: batches, bounds, and what is lost first."""

from __future__ import annotations

import asyncio

from manager.raft.transport.outbox import Outbox
from manager.raft.types import Entry, EntryKind, Message, MessageKind


def heartbeat(commit: int = 0) -> Message:
    return Message(MessageKind.HEARTBEAT, 1, 2, 1, commit=commit)


def append(size_bytes: int) -> Message:
    return Message(MessageKind.APPEND, 1, 2, 1, entries=(Entry(1, 1, EntryKind.NORMAL, bytes(size_bytes)),))


async def test_what_waits_is_taken_in_order_and_in_one_batch() -> None:
    outbox = Outbox()
    messages = [heartbeat(1), append(10), heartbeat(2)]
    assert all(outbox.put(message) for message in messages)
    assert await outbox.take() == messages
    assert len(outbox) == 0


async def test_a_batch_has_a_largest_size_but_one_message_always_goes() -> None:
    outbox = Outbox(batch_bytes=1000)
    for _ in range(3):
        outbox.put(append(400))
    assert len(await outbox.take()) == 1
    outbox.put(append(5000))
    assert len(await outbox.take()) == 1
    assert len(await outbox.take()) == 1
    assert (await outbox.take())[0].entries[0].data == bytes(5000)


async def test_taking_waits_for_something() -> None:
    outbox = Outbox()
    taking = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(heartbeat())
    assert await taking == [heartbeat()]


async def test_when_it_is_full_entries_are_lost_first() -> None:
    outbox = Outbox(most_bytes=1000)
    assert outbox.put(heartbeat(1))
    assert outbox.put(append(500))
    assert not outbox.put(append(600)), "the loss is told"
    assert [len(m.entries) for m in await outbox.take()] == [0, 1]
    outbox = Outbox(most=3)
    for commit in range(5):
        outbox.put(heartbeat(commit))
    assert [m.commit for m in await outbox.take()] == [2, 3, 4]


async def test_a_message_that_is_larger_than_all_room_goes_alone() -> None:
    outbox = Outbox(most_bytes=100)
    assert outbox.put(append(5000))
    assert len(await outbox.take()) == 1
