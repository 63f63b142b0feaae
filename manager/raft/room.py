"""Room on the disk, made sure of before the core takes anything that will have to be stored."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import structlog

from manager.raft.log.storage import Storage
from manager.raft.types import Message, MessageKind
from swarmpy.errors import Code, SwarmError

_log: Final = structlog.get_logger()
_FRAME_SLACK_BYTES: Final = 1024  # a frame's header, and what fills its last sector
# What makes a member store a vote, a term or a leader's first entry, even in its present term.
_STORED: Final = frozenset(
    {
        MessageKind.VOTE,
        MessageKind.PRE_VOTE_RESPONSE,
        MessageKind.VOTE_RESPONSE,
        MessageKind.TIMEOUT_NOW,
    }
)


class Room:
    """Counts what was let in and is not stored yet, so that all of it is sure to fit.

    `full` is the sentence that says why writes are refused; None while there is room. It is said until what was
    refused would fit, though something smaller may fit already.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._entries = self._data_bytes = 0
        self._framed_entries = self._framed_bytes = 0
        self._refused = (0, 0)  # entries and bytes of the largest frame that did not fit
        self.full: str | None = None

    def let_in(self, entries: int, data_bytes: int) -> SwarmError | None:
        """Make sure that so many more entries fit, and count them; else return the refusal."""
        refusal = self._make(self._entries + entries, self._data_bytes + data_bytes, control=False)
        if refusal is None:
            self._entries += entries
            self._data_bytes += data_bytes
        return refusal

    def for_control(self) -> bool:
        """Return whether a vote, a mark or a leader's first entry is sure to fit; they may use the log's reserve."""
        return self._make(self._entries, self._data_bytes, control=True) is None

    def for_message(self, message: Message, term: int) -> bool:
        """Let in what `message` will have stored in a member of `term`; whether it is sure to fit."""
        if message.kind is MessageKind.APPEND and message.entries:
            return self.let_in(len(message.entries), sum(len(e.data) for e in message.entries)) is None
        if (mark := message.snapshot) is not None:
            return self._checked(lambda: self._storage.make_room_for_snapshot(mark)) is None
        if message.kind in _STORED or (message.term > term and message.kind is not MessageKind.PRE_VOTE):
            return self.for_control()
        return True

    def begin_frame(self) -> None:
        """Learn that what was let in so far goes into the frame that is being made."""
        self._framed_entries, self._framed_bytes = self._entries, self._data_bytes
        self._entries = self._data_bytes = 0

    def end_frame(self) -> None:
        """Learn that the frame was written, if there was anything to write at all."""
        self._framed_entries = self._framed_bytes = 0

    def try_again(self) -> None:
        """See whether there is space again, if there was none."""
        if self.full is not None and self._make(*self._refused, control=False) is None:
            _log.info("log has space again")
            self.full, self._refused = None, (0, 0)

    def _make(self, entries: int, data_bytes: int, *, control: bool) -> SwarmError | None:
        if self._framed_entries:
            entries, data_bytes = entries + self._framed_entries, data_bytes + self._framed_bytes + _FRAME_SLACK_BYTES
        refusal = self._checked(lambda: self._storage.make_room(entries, data_bytes, control=control))
        if refusal is not None:
            self._refused = max(self._refused[0], entries), max(self._refused[1], data_bytes)
        return refusal

    def _checked(self, make_room: Callable[[], None]) -> SwarmError | None:
        """Return the refusal, and say in the log once that there is one."""
        try:
            make_room()
        except SwarmError as error:
            if error.code is not Code.RESOURCE_EXHAUSTED:
                raise
            if self.full is None:
                _log.error("log full", reason=error.message)
            self.full = error.message
            return error
        return None
