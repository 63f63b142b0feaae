"""What a log's records add up to, and which records may follow; pure.

Entries may replace a tail that was not committed, and a leader's snapshot may restart the log; nothing else is ever
taken back. `Tail` refuses what breaks that before it is written, `Contents` when it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from manager.raft.log.records import BadRecordError
from manager.raft.types import NOBODY, Entry, HardState, Metadata, SnapshotMark


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a log: what decides whether a frame may be appended."""

    last_index: int
    hard_state: HardState
    mark: SnapshotMark

    @property
    def committed(self) -> int:
        """The last entry that is known, on disk, to be committed."""
        return max(self.hard_state.commit, self.mark.index)

    def after(
        self, entries: Sequence[Entry], hard_state: HardState | None, mark: SnapshotMark | None, *, restarts: bool
    ) -> Tail | str:
        """Return the tail behind a frame with these records, or what is wrong with them."""
        last = self.last_index
        if entries:
            first, last = entries[0].index, entries[-1].index
            if first > self.last_index + 1 or last - first + 1 != len(entries):
                return f"entries {first} to {last}, {len(entries)} of them, behind entry {self.last_index}"
            if first <= self.committed:
                return f"entry {first} again: entries up to {self.committed} are committed"
        if mark is not None:
            if restarts and mark.index <= self.committed:
                return f"to restart at entry {mark.index}: entries up to {self.committed} are committed"
            last = mark.index if restarts else last
            if not self.mark.index <= mark.index <= last:
                return (
                    f"a snapshot at entry {mark.index}: the last one is at {self.mark.index}, the last entry is {last}"
                )
        hard = hard_state or self.hard_state
        if hard.commit > last:
            return f"entry {hard.commit} as committed: the last one is {last}"
        return self._forgets(hard) or Tail(last, hard, mark or self.mark)

    def _forgets(self, new: HardState) -> str | None:
        """Return what `new` would take back of a promise, if anything."""
        old = self.hard_state
        if new.term < old.term:
            return f"term {new.term}: term {old.term} is stored"
        if new.term == old.term and old.vote not in (NOBODY, new.vote):
            return f"a vote for member {new.vote} in term {new.term}: it was given to member {old.vote}"
        return None


class Contents:
    """A `records.Sink` that adds the records up.

    Args:
        last_index: of the last entry before the first one that is given.
    """

    def __init__(self, last_index: int) -> None:
        self.metadata: Metadata | None = None
        self.hard_state = HardState()
        self.mark = SnapshotMark()
        self.entries: list[Entry] = []
        self.last_index = last_index
        self.restarts = 0

    def on_metadata(self, metadata: Metadata) -> None:
        if self.metadata not in (None, metadata):
            raise BadRecordError(f"the log changes hands from {self.metadata} to {metadata}")
        self.metadata = metadata

    def on_hard_state(self, hard_state: HardState) -> None:
        self.hard_state = hard_state

    def on_entry(self, entry: Entry) -> None:
        """Append, or replace the tail from `entry.index` on, as a new leader's entries do."""
        index = entry.index
        if index != self.last_index + 1:
            self._replace(index)
        self.entries.append(entry)
        self.last_index = index

    def on_mark(self, mark: SnapshotMark, *, restarts: bool) -> None:
        """Note a snapshot: the entries stay for slow members, unless it takes the log's place."""
        if restarts:
            self.entries.clear()
            self.last_index = mark.index
            self.restarts += 1
        if not self.mark.index <= mark.index <= self.last_index:
            more = f"the last one is at {self.mark.index}, and the log ends with entry {self.last_index}"
            raise BadRecordError(f"a snapshot is at entry {mark.index}; {more}")
        self.mark = mark

    def _replace(self, index: int) -> None:
        if index > self.last_index:
            raise BadRecordError(f"entry {index} follows entry {self.last_index}")
        if index <= (committed := max(self.hard_state.commit, self.mark.index)):
            raise BadRecordError(f"entry {index} stands behind entry {self.last_index}, yet {committed} was committed")
        # The entries before those held were in segments that are gone: then none of those held stays.
        kept = max(0, index - self.entries[0].index) if self.entries else 0
        del self.entries[kept:]

    def gap(self) -> str | None:
        """Return what is missing between the snapshot and the entries, if anything."""
        first = self.entries[0].index if self.entries else self.last_index + 1
        return f"entries {self.mark.index + 1} to {first - 1} are missing" if first > self.mark.index + 1 else None
