"""The entries a member holds in memory: a run of indexes without holes behind a known place."""

from __future__ import annotations

from collections.abc import Sequence

from manager.raft.types import Entry, SnapshotMark
from swarmpy.errors import Code, SwarmError


class EntryLog:
    """Entries `first_index` to `last_index`; the term of `first_index - 1` is known too."""

    def __init__(self, before_index: int, before_term: int, entries: list[Entry]) -> None:
        self._before_index, self._before_term, self._entries = before_index, before_term, entries

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

    def compact(self, index: int) -> None:
        """Forget the entries up to `index`, keeping its term; does nothing if they are gone."""
        if index > self._before_index:
            self._before_term = self.term(index)
            del self._entries[: index - self._before_index]
            self._before_index = index


def _cut(entries: Sequence[Entry], start: int, stop: int, max_bytes: int) -> int:
    size = 0
    for place in range(start, stop):
        size += len(entries[place].data)
        if size > max_bytes and place > start:
            return place
    return stop
