"""Planted bugs in what is stored, carried out and handed on: log, snapshots, waiters, the store's own tables."""

from __future__ import annotations

from typing import Any

import msgspec

from manager.raft.changes import ConfHistory
from manager.raft.log import replay
from manager.raft.log.snapshot_file import SnapshotWriter
from manager.raft.log.storage import Storage
from manager.raft.log.wal import WriteAheadLog
from manager.raft.node import RaftNode
from manager.raft.proposals import Proposals
from manager.raft.reads import Reads
from manager.raft.types import Commit
from manager.store import requests
from manager.store.state import State
from tests.sim.raft.planted import always, plant


class _Lazy:
    """A file whose syncs do nothing."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def datasync(self) -> None:
        """Say that all is safe."""


def _unsynced(original: Any, *, only_votes: bool) -> Any:
    def append(self: Any, entries: Any, *rest: Any, **options: Any) -> None:
        before = self._file
        if not (only_votes and entries):
            self._file = lazy = _Lazy(before)
        original(self, entries, *rest, **options)
        if not (only_votes and entries) and self._file is lazy:
            self._file = before

    return append


def _votes_unsynced(original: Any) -> Any:
    return _unsynced(original, only_votes=True)


def _nothing_synced(original: Any) -> Any:
    return _unsynced(original, only_votes=False)


def _votes_unstored(original: Any) -> Any:
    def append(self: Any, entries: Any, hard_state: Any) -> None:
        if entries:
            original(self, entries, hard_state)

    return append


def _answers_first(original: Any) -> Any:
    def prepare(self: Any) -> bool:
        is_ready = bool(original(self))
        if is_ready:
            self._send(self._ready.messages)
        return is_ready

    return prepare


def _conf_of_now(_original: Any) -> Any:
    return lambda self, _index: self._confs[-1][1]


def _snapshot_unsynced(original: Any) -> Any:
    def finish(self: Any) -> None:
        self._file = _Lazy(self._file)
        original(self)

    return finish


def _takes_for_made(original: Any) -> Any:
    def replaced(self: Any, first: Any) -> Any:
        for waiter, _ in original(self, first):
            yield waiter, Commit(first.index, first.term)

    return replaced


def _joins_round(_original: Any) -> Any:
    """A read joins the round that is under way."""

    def add(self: Any, waiter: Any) -> None:
        from manager.raft.reads import _Read

        (self._asked if self._asked else self._next).append(_Read(waiter, self._ticks))

    return add


def _any_answer(original: Any) -> Any:
    def answered(self: Any, states: Any) -> None:
        original(self, [msgspec.structs.replace(state, context=self._context) for state in states])

    return answered


def _served_unapplied(original: Any) -> Any:
    return lambda self, _index: original(self, 2**62)


def _applies_anything(original: Any) -> Any:
    def apply(self: Any, index: int, data: bytes) -> Any:
        from manager.store import codec

        self.digest = codec.parent_of(data)
        body = codec.decode_body(data)
        self.revision = body.revision - 1
        return original(self, index, data)

    return apply


plant("vote-unsynced", "a vote is written and not synced", (WriteAheadLog, "append", _votes_unsynced))
plant("log-unsynced", "entries are written and not synced", (WriteAheadLog, "append", _nothing_synced))
plant("vote-unstored", "a vote without entries is not stored", (Storage, "append", _votes_unstored))
plant("answer-first", "a follower answers before it has stored", (RaftNode, "prepare", _answers_first))
plant("damage-torn", "a broken frame within the log is taken for its torn end", (replay, "find_frame", always(None)))
plant("snapshot-unsynced", "a snapshot counts before it is synced", (SnapshotWriter, "finish", _snapshot_unsynced))
plant("snapshot-members", "a snapshot names the members of now", (ConfHistory, "at", _conf_of_now))
plant("snapshot-requests", "request ids are not in snapshots", (requests.Requests, "dump", always([])))
plant(
    "lost-acknowledged",
    "whose place is taken by another entry is told that it was made",
    (Proposals, "replaced", _takes_for_made),
)
plant("read-joins", "a read joins the round under way", (Reads, "add", _joins_round))
plant("read-unapplied", "a read is served before its index is applied", (Reads, "served", _served_unapplied))
plant("read-any-answer", "a read takes the answer to an earlier one", (Reads, "answered", _any_answer))
plant(
    "applies-anything", "an entry is applied to another state than it was built on", (State, "apply", _applies_anything)
)
