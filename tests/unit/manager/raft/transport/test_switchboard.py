"""Which stream a message takes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from manager.raft.api import Peer
from manager.raft.handoff import Handoff
from manager.raft.log.faults import LogFailedError
from manager.raft.transport import snapshots
from manager.raft.transport.inbound import Inbound
from manager.raft.transport.links import Network
from manager.raft.transport.switchboard import Answer, Switchboard
from manager.raft.transport.wire import decode_batch, encode_batch
from manager.raft.types import ConfState, Message, MessageKind, Metadata, SnapshotMark
from tests.support.clock import FakeClock

HEARTBEAT = Message(MessageKind.HEARTBEAT, 2, 1, 3)
ANSWER = Message(MessageKind.HEARTBEAT_RESPONSE, 1, 2, 3)


class Board:
    """A switchboard of member 1; `answered` is what goes back, and on which stream."""

    def __init__(self) -> None:
        self.answered: list[tuple[Inbound, list[Message]]] = []
        self.told: list[object] = []
        self.work: list[Coroutine[Any, Any, None]] = []
        self._answers: Handoff[Answer] = Handoff(asyncio.get_running_loop(), lambda: None)
        self.files = ThreadPoolExecutor(1)
        self.switchboard = Switchboard(
            Metadata("c1", 1), Network(_nobody), self, self._answers,
            spawn=self._spawn, file_thread=self.files, clock=FakeClock(), rng=random.Random(1),
        )  # fmt: skip

    def _spawn(self, work: Coroutine[Any, Any, None]) -> Callable[[], object]:
        self.work.append(work)
        return work.close

    def sent_back(self, message: Message) -> Inbound | None:
        """Send an answer; return the stream that it takes."""
        self.switchboard.send([message])
        answer = self._answers.pop()
        if answer is None:
            return None
        inbound, data = answer
        assert data is not None and decode_batch(data) == [message]
        return inbound

    def arrived(self, messages: Sequence[Message]) -> None:
        self.told.append(messages)

    def dropped(self, member_id: int) -> None:
        self.told.append(("dropped", member_id))

    def found(self, member_id: int) -> None:
        self.told.append(("found", member_id))

    def lost(self, member_id: int) -> None:
        self.told.append(("lost", member_id))

    def snapshot_sent(self, member_id: int, *, ok: bool) -> None:
        self.told.append((member_id, ok))


def _nobody() -> Any:
    raise AssertionError("nobody is dialled here")


async def test_an_answer_goes_back_on_the_stream_on_which_the_request_came() -> None:
    board = Board()
    alive, dead = Inbound(2), Inbound(2)
    board.switchboard.opened(alive)
    board.switchboard.opened(dead)  # dialled earlier, and given up, but heard of later
    assert board.switchboard.take(alive, encode_batch([HEARTBEAT])) == [HEARTBEAT]
    assert board.sent_back(ANSWER) is alive
    board.switchboard.closed(dead)
    assert board.sent_back(ANSWER) is alive
    board.switchboard.closed(alive)
    assert board.sent_back(ANSWER) is None
    assert board.told == [("lost", 2)]
    board.files.shutdown()


async def test_a_stream_that_outlives_a_later_one_is_answered_again() -> None:
    board = Board()
    alive, dead = Inbound(2), Inbound(2)
    board.switchboard.opened(alive)
    board.switchboard.opened(dead)
    board.switchboard.closed(dead)
    board.switchboard.take(alive, encode_batch([HEARTBEAT]))
    assert board.sent_back(ANSWER) is alive
    board.files.shutdown()


def addresses(board: Board, member_id: int) -> list[str]:
    """Return where a member is dialled, one place after the other."""
    link = board.switchboard._links[member_id][1]
    return list(link._addresses)


async def test_what_another_member_says_is_tried_beside_what_the_member_said_itself() -> None:
    board = Board()
    board.switchboard.set_peers({2: Peer("node2", "old:1"), 3: Peer("node3", "three:1")})
    board.switchboard.hear_of(2, "newer:1")
    assert addresses(board, 2) == ["newer:1", "old:1"]
    stream = Inbound(2, "newest:1")
    board.switchboard.opened(stream)
    assert addresses(board, 2) == ["newest:1", "old:1"]
    board.switchboard.hear_of(2, "newer:1")  # by one who has not heard of it, while it is here
    assert addresses(board, 2) == ["newest:1", "old:1"]
    board.switchboard.closed(stream)
    board.switchboard.hear_of(2, "newer:1")
    assert addresses(board, 2) == ["newer:1", "newest:1", "old:1"]
    for work in board.work:
        work.close()
    board.files.shutdown()


class Unreadable:
    """A snapshot on a disk that fails."""

    mark = SnapshotMark(40, 3, ConfState((1, 2)))

    def __init__(self) -> None:
        self.closed = False

    def chunks(self) -> Any:
        raise LogFailedError(Path("snap"), "reading", OSError(5, "Input/output error"))

    def close(self) -> None:
        self.closed = True


async def test_a_snapshot_that_the_disk_does_not_give_back_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()

    async def send(_channel: Any, _hello: Any, _message: Any, chunks: AsyncIterator[bytes], _progress: Any) -> bool:
        return [chunk async for chunk in chunks] == []

    class Up:
        channel = object()

    monkeypatch.setattr(snapshots, "send", send)
    board.switchboard._links[2] = (None, Up(), lambda: None)  # type: ignore[assignment]  # a stream that is up
    reader: Any = Unreadable()
    board.switchboard.send_snapshot(Message(MessageKind.SNAPSHOT, 1, 2, 3, snapshot=reader.mark), reader)
    with pytest.raises(LogFailedError):
        await board.work[0]
    assert reader.closed and board.told == [(2, False)]
    board.files.shutdown()
