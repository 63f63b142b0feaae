"""Indexes over the rows of a table. Buckets are dicts by id, so that a change keeps its place and costs O(1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, Generic, Protocol, TypeVar

from manager.store.tables import By, Row, T

_NOTHING: Final = ()

T_co = TypeVar("T_co", bound=Row, covariant=True)


class RowIndex(Protocol[T_co]):
    """The reading side of an index."""

    def find(self, key: str) -> Collection[T_co]: ...
    def count(self, key: str) -> int: ...


class KeyIndex(Generic[T]):
    """Rows by one key."""

    __slots__ = ("_buckets", "_key", "_normalize")

    def __init__(self, by: By[T]) -> None:
        self._key = by.key
        self._normalize = by.normalize
        self._buckets: dict[str, dict[str, T]] = {}

    def find(self, key: str) -> Collection[T]:
        bucket = self._buckets.get(self._normalize(key) if self._normalize else key)
        return _NOTHING if bucket is None else bucket.values()

    def count(self, key: str) -> int:
        return len(self.find(key))

    def load(self, rows: Iterable[T]) -> None:
        """Add rows that are new."""
        buckets, key_of = self._buckets, self._key
        for row in rows:
            key = key_of(row)
            bucket = buckets.get(key)
            if bucket is None:
                buckets[key] = {row.id: row}
            else:
                bucket[row.id] = row

    def remove(self, row: T) -> None:
        key = self._key(row)
        bucket = self._buckets[key]
        del bucket[row.id]
        if not bucket:
            del self._buckets[key]

    def replace(self, before: T, row: T) -> None:
        key = self._key(row)
        if key == self._key(before):
            self._buckets[key][row.id] = row
        else:
            self.remove(before)
            self.load((row,))


class _Group(Generic[T]):
    """The rows of one key by slot: most slots hold one row, which then stands there without a container."""

    __slots__ = ("count", "slots")

    def __init__(self) -> None:
        self.count = 0
        self.slots: dict[int, T | dict[str, T]] = {}


class SlotIndex(Generic[T]):
    """Rows by key, and by key and slot, in one structure. `slots` reads it by `<key>/<slot>`."""

    __slots__ = ("_groups", "_key", "_slot", "slots")

    def __init__(self, by: By[T], slot: Callable[[T], int]) -> None:
        self._key = by.key
        self._slot = slot
        self._groups: dict[str, _Group[T]] = {}
        self.slots: RowIndex[T] = _Slots(self._groups)

    def find(self, key: str) -> Collection[T]:
        group = self._groups.get(key)
        if group is None:
            return _NOTHING
        found: list[T] = []
        for held in group.slots.values():
            if isinstance(held, dict):
                found.extend(held.values())
            else:
                found.append(held)
        return found

    def count(self, key: str) -> int:
        group = self._groups.get(key)
        return 0 if group is None else group.count

    def load(self, rows: Iterable[T]) -> None:
        """Add rows that are new."""
        groups, key_of, slot_of = self._groups, self._key, self._slot
        for row in rows:
            key = key_of(row)
            group = groups.get(key)
            if group is None:
                group = groups[key] = _Group()
            group.count += 1
            slots, slot = group.slots, slot_of(row)
            held = slots.get(slot)
            if held is None:
                slots[slot] = row
            elif isinstance(held, dict):
                held[row.id] = row
            else:
                slots[slot] = {held.id: held, row.id: row}

    def remove(self, row: T) -> None:
        key = self._key(row)
        group = self._groups[key]
        group.count -= 1
        if not group.count:
            del self._groups[key]
            return
        slot = self._slot(row)
        held = group.slots[slot]
        if not isinstance(held, dict):
            del group.slots[slot]
            return
        del held[row.id]
        if len(held) == 1:
            (group.slots[slot],) = held.values()

    def replace(self, before: T, row: T) -> None:
        key, slot = self._key(row), self._slot(row)
        if key != self._key(before) or slot != self._slot(before):
            self.remove(before)
            self.load((row,))
            return
        slots = self._groups[key].slots
        held = slots[slot]
        if isinstance(held, dict):
            held[row.id] = row
        else:
            slots[slot] = row


class _Slots(Generic[T]):
    """A SlotIndex read by `<key>/<slot>`."""

    __slots__ = ("_groups",)

    def __init__(self, groups: dict[str, _Group[T]]) -> None:
        self._groups = groups

    def find(self, key: str) -> Collection[T]:
        outer, _, slot = key.rpartition("/")
        group = self._groups.get(outer)
        held = None if group is None or not slot.isdecimal() else group.slots.get(int(slot))
        if held is None:
            return _NOTHING
        return held.values() if isinstance(held, dict) else (held,)

    def count(self, key: str) -> int:
        return len(self.find(key))
