"""The entries a member holds in memory: a run of indexes without holes behind a known place.

They are known before they are stored: `begin_storing` says what is to be written, `end_storing` that it was. What a
leader replaces meanwhile is to be written again, and nothing else is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from manager.raft.types import Entry, SnapshotMark
from swarmpy.errors import Code, SwarmError

ENTRY_OVERHEAD_BYTES: Final = 24
"""What an entry takes on the wire besides its data, about; so that many small ones are no small message."""


class EntryLog:
    """Entries `first_index` to `last_index`; the term of `first_index - 1` is known too.

    Args:
        before_index: the place before the first entry.
        before_term: its term.
        entries: what is stored already.
    """

    def __init__(self, before_index: int, before_term: int, entries: list[Entry]) -> None:
        self._before_index, self._before_term, self._entries = before_index, before_term, entries
        self._stable = self._storing = self.last_index

    @classmethod
    def recovered(cls, mark: SnapshotMark, entries: list[Entry]) -> EntryLog:
        """Return what a log on disk holds: some entries up to the mark, for slow followers, and all behind it."""
        if entries and entries[0].index <= mark.index:
            first = entries[0]
            return cls(first.index, first.term, entries[1:])
        return cls(mark.index, mark.term, entries)

    @property
    def first_index(self) -> int:
        return self._before_index + 1

    @property
    def last_index(self) -> int:
        return self._before_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self._before_term

    @property
    def stable_index(self) -> int:
        """The last entry that is stored, with all before it."""
        return self._stable

    @property
    def is_unstored(self) -> bool:
        """Whether there are entries that are not stored yet."""
        return self._stable < self._before_index + len(self._entries)

    def term(self, index: int) -> int:
        """Return the term of entry `index`.

        Raises:
            SwarmError: COMPACTED, the entry is no longer held; NOT_FOUND, there is no such entry yet.
        """
        if index == self._before_index:
            return self._before_term
        if index < self._before_index:
            raise SwarmError(
                Code.COMPACTED,
                f"entry {index} is compacted; the first one held is {self.first_index}: use a snapshot",
            )
        if index > self.last_index:
            raise SwarmError(Code.NOT_FOUND, f"there is no entry {index}; the last one is {self.last_index}")
        return self._entries[index - self.first_index].term

    def holds(self, index: int, term: int) -> bool:
        """Return whether entry `index` is known here to be of `term`: then all before it agree as well (5.3)."""
        return self._before_index <= index <= self.last_index and self.term(index) == term

    def is_behind(self, term: int, index: int) -> bool:
        """Return whether a log that ends with (`term`, `index`) is at least as up to date as this one (5.4.1)."""
        return (term, index) >= (self.last_term, self.last_index)

    def last_within(self, term: int, index: int) -> tuple[int, int]:
        """Return the last place up to `index` whose term is not above `term`, and its term, 0 if it is not known.

        Where two logs differ at `index`, they cannot agree behind that place. It skips a whole term at a time.
        """
        index = min(index, self.last_index)
        while index >= self._before_index:
            found = self.term(index)
            if found <= term:
                return index, found
            index -= 1
        return max(index, 0), 0

    def between(
        self, first: int, last: int, *, max_entries: int | None = None, max_bytes: int | None = None
    ) -> tuple[Entry, ...]:
        """Return entries `first` to `last`, both included, cut to the limits but at least one if there is any."""
        if first > last:
            return ()
        assert first >= self.first_index and last <= self.last_index, f"no entries {first} to {last}"
        start, stop = first - self.first_index, last - self.first_index + 1
        if max_entries is not None:
            stop = min(stop, start + max_entries)
        if max_bytes is not None:
            stop = _cut(self._entries, start, stop, max_bytes)
        return tuple(self._entries[start:stop])

    def append(self, entry: Entry) -> None:
        """Add the next entry."""
        assert entry.index == self.last_index + 1, f"entry {entry.index} does not follow {self.last_index}"
        self._entries.append(entry)

    def differing(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return `entries` from the first one on that is not held here."""
        for place, entry in enumerate(entries):
            if not self.holds(entry.index, entry.term):
                return entries[place:]
        return ()

    def replace_tail(self, entries: Sequence[Entry]) -> None:
        """Put `entries` where the first of them belongs, in place of all that is there and behind."""
        first = entries[0].index
        assert self.first_index <= first <= self.last_index + 1, f"entry {first} does not follow {self.last_index}"
        del self._entries[first - self.first_index :]
        self._stable, self._storing = min(self._stable, first - 1), min(self._storing, first - 1)
        self._entries.extend(entries)

    def begin_storing(self) -> tuple[Entry, ...]:
        """Return what is not stored yet; `end_storing` comes next."""
        self._storing = self.last_index
        return tuple(self._entries[self._stable - self._before_index :])

    def end_storing(self) -> None:
        """Say that what `begin_storing` gave is stored. What was replaced since then is not."""
        self._stable = max(self._stable, self._storing)

    def restart(self, mark: SnapshotMark) -> None:
        """Forget all entries: a snapshot stands for them."""
        self._before_index, self._before_term, self._entries = mark.index, mark.term, []
        self._stable = self._storing = mark.index

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, keeping its term; does nothing if they are gone."""
        if index > self._before_index:
            self._before_term = self.term(index)
            del self._entries[: index - self._before_index]
            self._before_index = index


def _cut(entries: Sequence[Entry], start: int, stop: int, max_bytes: int) -> int:
    size = 0
    for place in range(start, stop):
        size += len(entries[place].data) + ENTRY_OVERHEAD_BYTES
        if size > max_bytes and place > start:
            return place
    return stop
