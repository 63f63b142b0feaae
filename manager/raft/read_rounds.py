"""Reads at an index (thesis, 6.4): a leader proves by a round of heartbeats that it led after the question came.

All questions that come before a round begins share it. What a majority answers to a round also proves every earlier
one, so the rounds that are proven are what a majority has "stored", and are counted like entries.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from manager.raft.quorum import Joint

_CONTEXT: Final = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Question:
    """Who asked for an index to read at, and what is to be returned to it."""

    asker: int
    context: bytes


@dataclass(frozen=True, slots=True)
class _Round:
    number: int
    index: int
    questions: tuple[Question, ...]


class ReadRounds:
    """The questions of one leadership, and the rounds under way.

    Args:
        member_id: the leader, who answers each round itself.
        max_questions: bound of what waits.
    """

    def __init__(self, member_id: int, max_questions: int) -> None:
        self._member_id, self._max_questions = member_id, max_questions
        self._waiting: list[Question] = []
        self._rounds: deque[_Round] = deque()
        self._asked = 0
        self._answered: dict[int, int] = {}
        self._last = 0

    @property
    def has_questions(self) -> bool:
        """Whether a round should begin."""
        return bool(self._waiting)

    @property
    def context(self) -> bytes:
        """What heartbeats carry: the last round, while any is under way."""
        return _CONTEXT.pack(self._last) if self._rounds else b""

    def ask(self, asker: int, context: bytes) -> bool:
        """Let a question wait for the next round; False if there are too many."""
        if self._asked >= self._max_questions:
            return False
        self._waiting.append(Question(asker, context))
        self._asked += 1
        return True

    def begin(self, index: int) -> None:
        """Begin a round for all that wait, to be answered with `index`; heartbeats with `context` come next."""
        self._last += 1
        self._rounds.append(_Round(self._last, index, tuple(self._waiting)))
        self._waiting.clear()
        self._answered[self._member_id] = self._last

    def answer(self, sender: int, context: bytes) -> None:
        """Take what a heartbeat's response brought back."""
        if len(context) == _CONTEXT.size:
            number: int = _CONTEXT.unpack(context)[0]
            if number <= self._last:
                self._answered[sender] = max(number, self._answered.get(sender, 0))

    def proven(self, voters: Joint) -> Iterator[tuple[int, Question]]:
        """Take out the questions that a majority of `voters` has answered for, each with its index."""
        if not self._rounds:
            return
        last = voters.committed_index(self._answered)
        while self._rounds and self._rounds[0].number <= last:
            done = self._rounds.popleft()
            self._asked -= len(done.questions)
            yield from ((done.index, question) for question in done.questions)
