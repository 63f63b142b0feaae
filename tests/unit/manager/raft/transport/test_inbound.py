"""A stream that another member dialled: it reads no further than the Raft thread takes, and loses old answers first."""

from __future__ import annotations

import asyncio

from manager.raft.transport.inbound import MOST_ANSWERS, MOST_UNREAD_BYTES, Inbound


async def test_reading_waits_for_the_raft_thread() -> None:
    inbound = Inbound(1)
    await inbound.room(MOST_UNREAD_BYTES)
    waiting = asyncio.ensure_future(inbound.room(1000))
    await asyncio.sleep(0)
    assert inbound.is_waiting and not waiting.done()
    inbound.consumed_bytes += 500
    inbound.consumed()
    await asyncio.sleep(0)
    assert not waiting.done(), "not enough was taken"
    inbound.consumed_bytes += 500
    inbound.consumed()
    await waiting
    assert not inbound.is_waiting


async def test_answers_go_back_in_order() -> None:
    inbound = Inbound(1)
    taking = asyncio.ensure_future(inbound.next_answer())
    await asyncio.sleep(0)
    inbound.answer(b"1")
    inbound.answer(b"2")
    assert [await taking, await inbound.next_answer()] == [b"1", b"2"]


async def test_old_answers_are_lost_first() -> None:
    inbound = Inbound(1)
    for number in range(MOST_ANSWERS + 3):
        inbound.answer(b"%d" % number)
    assert await inbound.next_answer() == b"3"


async def test_ending_twice_is_ending() -> None:
    inbound = Inbound(1)
    inbound.end()
    inbound.end()
    assert inbound.ended.done()
