"""The members in the course of the log, and who waits for a change of them."""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from operator import itemgetter
from typing import NamedTuple

from manager.raft.outlet import Settled, Waiter
from manager.raft.proposals import lost
from manager.raft.types import Commit, ConfState, Entry, SnapshotMark


class ConfHistory:
    """Who the members were after which entry, back to the newest snapshot."""

    def __init__(self, mark: SnapshotMark) -> None:
        self._confs: list[tuple[int, ConfState]] = [(mark.index, mark.conf)]

    def add(self, index: int, conf: ConfState) -> None:
        """Note that `conf` holds from entry `index` on."""
        self._confs.append((index, conf))

    def at(self, index: int) -> ConfState:
        """Return the members after entry `index`, which the newest snapshot does not lie behind."""
        return self._confs[bisect.bisect_right(self._confs, index, key=itemgetter(0)) - 1][1]

    def forget_before(self, mark: SnapshotMark) -> None:
        """Forget what lies below a newer snapshot."""
        self._confs = [(mark.index, mark.conf), *(c for c in self._confs if c[0] > mark.index)]


class _Change(NamedTuple):
    place: Commit
    waiter: Waiter


class Changes:
    """The changes of the members that this one was asked for; a change is done once no joint stage is left to end.

    Args:
        patience_ticks: how long an outcome is waited for without leading.
    """

    def __init__(self, patience_ticks: int) -> None:
        self._patience_ticks, self._idle_ticks = patience_ticks, 0
        self._proposed: list[_Change] = []
        self._entered: list[Waiter] = []

    def add(self, place: Commit, waiter: Waiter) -> None:
        self._proposed.append(_Change(place, waiter))

    def applied(self, entry: Entry, conf: ConfState) -> Iterator[Settled]:
        """Settle what the change in `entry`, which led to `conf`, brought about."""
        due, self._proposed = self._proposed, [c for c in self._proposed if c.place.index > entry.index]
        for change in due:
            if change.place.index > entry.index:
                continue
            if change.place == Commit(entry.index, entry.term):
                self._entered.append(change.waiter)
            else:
                yield change.waiter, lost()
        if not (conf.voters_outgoing and conf.auto_leave):
            entered, self._entered = self._entered, []
            yield from ((waiter, conf) for waiter in entered)

    def replaced(self, first: Entry) -> Iterator[Settled]:
        """Give up those whose place is taken by `first`, which is stored now, or lies behind it."""
        if not self._proposed:
            return
        due = [c for c in self._proposed if c.place.index >= first.index and c.place.term < first.term]
        self._proposed = [c for c in self._proposed if c not in due]
        yield from ((change.waiter, lost()) for change in due)

    def covered(self) -> Iterator[Settled]:
        """Give all up: a snapshot came in the entries' place."""
        waiters, self._proposed, self._entered = [*(c.waiter for c in self._proposed), *self._entered], [], []
        yield from ((waiter, lost()) for waiter in waiters)

    def tick(self, *, leads: bool) -> Iterator[Settled]:
        """Let a tick pass; without leading for too long, all are given up."""
        self._idle_ticks = 0 if leads or not (self._proposed or self._entered) else self._idle_ticks + 1
        if self._idle_ticks > self._patience_ticks:
            yield from self.covered()
